"""Payloads: what goes in comes out, and what is malformed is refused whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gossipdistill.ids import Boot, PeerName
from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.snapshot import (
    PayloadRefusedError,
    architecture_hash,
    load_arrays,
    model_arrays,
    pack,
    shapes_of,
    unpack,
    weights_hash,
)
from gossipdistill.limits import Limits
from gossipdistill.messages import Content, Envelope, Payload, State
from gossipdistill.wire.codec import decode, encode
from gossipdistill.wire.pieces import Assembly, split


def _model(seed: int, width: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_weights_and_buffers_travel_bit_for_bit() -> None:
    sender, receiver = _model(0), _model(1)
    sender(torch.randn(8, 3))  # moves the running statistics of the BatchNorm
    payload = pack(model_arrays(sender), "raw")
    load_arrays(receiver, unpack(payload, shapes_of(model_arrays(receiver))))
    for name, tensor in sender.state_dict().items():
        assert torch.equal(tensor, receiver.state_dict()[name]), name
    assert receiver.state_dict()["1.num_batches_tracked"].dtype == torch.int64


def test_bytes_are_as_the_formula_says() -> None:
    model = nn.Linear(10, 4)
    assert pack(model_arrays(model), "raw").nbytes == 4 * (10 * 4 + 4)
    assert pack({"soft_targets": torch.rand(600, 10)}, "half").nbytes == 2 * 600 * 10


def test_a_payload_shares_no_memory_with_the_model() -> None:
    model = nn.Linear(2, 2)
    payload = pack(model_arrays(model), "raw")
    before = bytes(payload.body)
    with torch.no_grad():
        model.weight.add_(1.0)
    assert bytes(payload.body) == before


def test_what_cannot_be_written_to_is_copied_so_that_a_reader_changes_nobody_elses_payload() -> None:
    payload = pack({"a": torch.ones(4, 3), "n": torch.tensor(3)}, "raw")
    before = bytes(payload.body)
    for tensor in unpack(payload, {"a": (4, 3), "n": ()}).values():
        tensor.mul_(7)
    assert bytes(payload.body) == before


def test_a_body_put_together_from_pieces_is_used_in_place() -> None:
    """Frame to tensor with one copy: the one of the assembly."""
    limits = Limits(piece_bytes_max=64)
    values = {"b": torch.rand(5), "w": torch.rand(40, 3), "n": torch.tensor(3)}
    state = State(1, Content("weights", pack(values, "raw"), 0, 0))
    assembly, whole = Assembly(limits), None
    for part in split(Envelope(PeerName("ada"), Boot(1), "bo", 2, state), limits):
        whole = assembly.feed(decode(encode(part), limits))
    assert whole is not None
    assert isinstance(whole.message, State)
    body = np.frombuffer(whole.message.payload.body, dtype=np.uint8)
    tensors = unpack(whole.message.payload, shapes_of(values))
    for name, tensor in tensors.items():
        assert np.shares_memory(tensor.numpy(), body), name
        assert torch.equal(tensor, values[name].float())
    tensors["w"].zero_()
    assert torch.equal(unpack(state.payload, shapes_of(values))["w"], values["w"])


def test_mixing_in_a_neighbours_weights_leaves_its_arrays_as_they_are() -> None:
    ours = _model(0)
    payload = pack(model_arrays(_model(1)), "raw")
    owned = Payload(payload.layout, memoryview(bytearray(payload.body)))
    mix_in(ours, [(0.5, unpack(owned, shapes_of(model_arrays(ours))))])
    assert owned.body == payload.body


@pytest.mark.parametrize("odd", [1, 3, 5])
def test_arrays_that_lie_at_odd_places_are_copied(odd: int) -> None:
    values = {"a": torch.rand(odd), "n": torch.tensor(3), "b": torch.rand(4)}
    packed = pack(values, "half")
    body = np.frombuffer(packed.body, dtype=np.uint8).copy()
    tensors = unpack(Payload(packed.layout, body.data), shapes_of(values))
    assert tensors["n"].item() == 3.0
    assert tensors["n"].data_ptr() % 4 == 0
    assert torch.allclose(tensors["b"], values["b"], atol=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("encoding", ["raw", "half", "bfloat16", "int8"])
def test_one_value_that_is_not_finite_refuses_the_whole(poison: float, encoding: str) -> None:
    values = torch.rand(70, 3)
    values[17, 1] = poison
    with pytest.raises(PayloadRefusedError) as caught:
        unpack(pack({"a": values}, encoding), {"a": (70, 3)})
    assert caught.value.reason == "not_finite"


def test_an_honest_overflow_of_the_sum_is_no_nan() -> None:
    values = torch.full((4, 4), 3e38)
    assert torch.equal(unpack(pack({"a": values}, "raw"), {"a": (4, 4)})["a"], values)


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({"a": (3, 2)}, "shape"),
        ({"a": (6,)}, "shape"),
        ({"b": (2, 3)}, "arrays"),
        ({"a": (2, 3), "b": (1,)}, "arrays"),
        ({}, "arrays"),
    ],
)
def test_other_arrays_than_expected_are_refused(expected: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(PayloadRefusedError) as caught:
        unpack(pack({"a": torch.rand(2, 3)}, "raw"), expected)
    assert caught.value.reason == reason


def test_an_encoding_that_lies_about_its_length_is_refused() -> None:
    payload = pack({"a": torch.rand(2, 3)}, "raw")
    lying = Payload((replace_entry(payload, encoding="half"),), payload.body)
    with pytest.raises(PayloadRefusedError) as caught:
        unpack(lying, {"a": (2, 3)})
    assert caught.value.reason == "encoding"
    unknown = Payload((replace_entry(payload, encoding="zip"),), payload.body)
    with pytest.raises(PayloadRefusedError):
        unpack(unknown, {"a": (2, 3)})


def replace_entry(payload: Payload, **changes: str) -> object:
    return payload.layout[0]._replace(**changes)


def test_the_same_name_twice_is_refused() -> None:
    payload = pack({"a": torch.rand(2, 3)}, "raw")
    doubled = replace(payload, layout=payload.layout * 2, body=bytes(payload.body) * 2)
    with pytest.raises(PayloadRefusedError):
        unpack(doubled, {"a": (2, 3)})


def test_hashes_tell_architectures_and_weights_apart() -> None:
    assert architecture_hash(_model(0)) == architecture_hash(_model(1))
    assert architecture_hash(_model(0)) != architecture_hash(_model(0, width=6))
    assert weights_hash(_model(0)) == weights_hash(_model(0))
    assert weights_hash(_model(0)) != weights_hash(_model(1))

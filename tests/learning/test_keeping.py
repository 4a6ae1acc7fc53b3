"""Values and tensors of every kind come back as they were, through JSON and a safetensors file; others are named."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.keeping import Absent, Giver, Keeper, UnkeptError, is_function, same

INDICES, VALUES = torch.tensor([[2, 0, 2], [1, 1, 1]]), torch.tensor([1.0, 2.0, 3.0])
SPARSE = {
    "coo": lambda: torch.sparse_coo_tensor(INDICES, VALUES, (3, 3), check_invariants=True),
    "coalesced": lambda: torch.sparse_coo_tensor(INDICES, VALUES, (3, 3), check_invariants=True).coalesce(),
    "hybrid": lambda: torch.sparse_coo_tensor(INDICES[:1], torch.ones(3, 2), (4, 2), check_invariants=True),
    "empty": lambda: torch.sparse_coo_tensor(INDICES[:, :0], VALUES[:0], (3, 3), check_invariants=True),
    "csr": lambda: torch.sparse_csr_tensor([0, 1, 2], [1, 0], [1.0, 2.0], (2, 2), check_invariants=True),
    "csc": lambda: torch.sparse_csc_tensor([0, 1, 2], [1, 0], [1.0, 2.0], (2, 2), check_invariants=True),
}


def back(value: object, parameters: tuple[Tensor, ...] = ()) -> Any:
    """`value` after it was written and read."""
    keeper = Keeper(parameters, is_function)
    node = keeper.keep(value, "it")
    return Giver(load(save(keeper.tensors)), parameters).give(json.loads(json.dumps(node, allow_nan=False)))


PLAIN: dict[str, object] = {
    "none": None,
    "truth": True,
    "whole": -(2**70),
    "float": 0.1,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "complex": 1.5 - 2j,
    "text": "a\u00e4\x00",
    "bytes": b"\x00\xff",
    "tuple": (1, (2.0, None), []),
    "list": [[1], ()],
    "keys": {1: "a", "b": {(2, "c"): 3}, None: 4},
    "set": {1, 2},
    "dtype": torch.bfloat16,
    "device": torch.device("cpu"),
    "shape": torch.Size([2, 3]),
    "deque": deque([1, 2, 3], maxlen=3),
    "array": np.arange(6.0).reshape(2, 3),
    "scalar array": np.array(3),
    "nothing": np.zeros((0, 2), dtype=np.int16),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_value_comes_back_with_its_type(name: str) -> None:
    value = PLAIN[name]
    returned = back(value)
    assert type(returned) is type(value)
    assert same(returned, value), returned
    if isinstance(value, deque) and isinstance(returned, deque):
        assert returned.maxlen == value.maxlen


def test_numbers_of_numpy_and_dictionaries_of_all_kinds_come_back_as_plain_ones() -> None:
    assert same(back([np.float64(0.1), np.int32(3), np.bool_(True)]), [0.1, 3, True])
    assert same(back(OrderedDict(a=1)), {"a": 1})


DENSE: dict[str, Callable[[], Tensor]] = {
    "complex128": lambda: torch.randn(2, 3, dtype=torch.complex128),
    "conjugated": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "negated": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
    "float8_e4m3fnuz": lambda: torch.randn(3).to(torch.float8_e4m3fnuz),
    "float8_e8m0fnu": lambda: torch.ones(2, 3).to(torch.float8_e8m0fnu),
    "bfloat16": lambda: torch.randn(3).to(torch.bfloat16),
    "bool": lambda: torch.tensor([True, False]),
    "channels_last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.randn(3, 5).t(),
    "expanded": lambda: torch.randn(1, 3).expand(4, 3),
    "strided": lambda: torch.arange(10.0)[::3],
    "empty": lambda: torch.zeros(0, 3),
    "scalar": lambda: torch.tensor(3),
    "with gradient": lambda: torch.ones(2, requires_grad=True) * 2,
}


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_tensor_comes_back_bit_for_bit_and_as_it_lies_in_memory(name: str) -> None:
    torch.manual_seed(0)
    tensor = DENSE[name]()
    returned = back(tensor)
    assert (returned.dtype, returned.shape) == (tensor.dtype, tensor.shape)
    assert returned.stride() == torch.empty_like(tensor).stride()
    assert (
        returned.contiguous()
        .reshape(-1)
        .view(torch.uint8)
        .equal(tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8))
    )


@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support")
@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_tensor_comes_back_with_its_indices_as_they_are(name: str) -> None:
    tensor = SPARSE[name]()
    returned = back(tensor)
    assert (returned.dtype, returned.shape, returned.layout) == (tensor.dtype, tensor.shape, tensor.layout)
    assert returned.to_dense().equal(tensor.to_dense())
    if tensor.layout is torch.sparse_coo:
        assert returned.is_coalesced() == tensor.is_coalesced()
        assert returned._indices().equal(tensor._indices())
        assert returned._values().equal(tensor._values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantised_tensor_comes_back(per_channel: bool) -> None:
    ends = (torch.tensor([0.1, 0.2]), torch.tensor([0, 1]))
    tensor = torch.randn(2, 3)
    kept = (
        torch.quantize_per_channel(tensor, *ends, 0, torch.qint8)
        if per_channel
        else torch.quantize_per_tensor(tensor, 0.1, 3, torch.quint8)
    )
    returned = back(kept)
    assert returned.dtype == kept.dtype
    assert returned.int_repr().equal(kept.int_repr())
    assert returned.dequantize().equal(kept.dequantize())


def test_one_tensor_at_two_places_is_one_again_and_a_parameter_is_itself() -> None:
    parameter, shared = nn.Parameter(torch.ones(2)), torch.zeros(3)
    returned = back({"mine": parameter, "one": shared, "other": [shared]}, (parameter,))
    assert returned["mine"] is parameter
    assert returned["one"] is returned["other"][0]


def test_a_copy_shares_nothing_with_what_was_copied() -> None:
    tensor, indices = torch.zeros(2), SPARSE["coo"]().clone()
    keeper = Keeper()
    keeper.keep([tensor, indices], "it")
    tensor += 1
    indices._values().zero_()
    assert not keeper.tensors["it.0"].any()
    assert keeper.tensors["it.1.values"].equal(VALUES)


class Wrapped:
    """Something of the user's."""


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [0, Wrapped()]}, r"it\.a\.1 is of type Wrapped, which a checkpoint cannot hold"),
        ([torch.empty(2, device="meta")], r"it\.0 is without data \(meta\) float32, which"),
        ((torch.ones(2).to_mkldnn(),), r"it\.0 is _mkldnn float32, which"),
        (np.array(["a"]), "it is of type ndarray, which"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_kept_is_named_with_its_place_and_type(value: object, problem: str) -> None:
    with pytest.raises(UnkeptError, match=problem):
        Keeper().keep(value, "it")


def test_what_is_nested_without_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(UnkeptError, match="nested more than 64 deep"):
        Keeper().keep(endless, "it")


def test_a_callable_is_absent_where_that_is_allowed() -> None:
    assert back([len, 1]) == [Absent("builtin_function_or_method"), 1]


# --- models ----------------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """What a model may hold beside dense float32 tensors that it owns alone."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.wave = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.wide = nn.Parameter(torch.randn(3, dtype=torch.complex128))
        self.image = nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))
        self.row = nn.Parameter(torch.randn(1, 3).expand(4, 3))
        self.graph: Tensor
        self.register_buffer("graph", SPARSE["coo"]() * (seed + 1))
        self.register_buffer("mask", torch.randn(3) > 0)
        self.register_buffer("small", torch.randn(3).to(torch.float8_e4m3fnuz))
        self.register_buffer("nothing", torch.zeros(0))
        self.extra: Any = {"seed": seed, "history": [(seed, torch.full((2,), float(seed)))], "unit": "m"}

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


def test_a_model_of_odd_tensors_and_other_entries_is_restored() -> None:
    model, resumed = Odd(0), Odd(1)
    copy = Checkpoint.of(model, torch.optim.SGD(model.parameters(), lr=0.1), {})
    parts, content = copy.encode()
    checkpoint = Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content, allow_nan=False)))
    checkpoint.restore(resumed, torch.optim.SGD(resumed.parameters(), lr=0.1))
    for name, value in model.state_dict().items():
        mine = resumed.state_dict()[name]
        if isinstance(value, Tensor):
            mine, value = (one.to_dense() if one.is_sparse else one for one in (mine, value))
            assert (
                mine.contiguous().reshape(-1).view(torch.uint8).equal(value.contiguous().reshape(-1).view(torch.uint8))
            )
        else:
            assert same(mine, value), name
    assert resumed.image.is_contiguous(memory_format=torch.channels_last)
    assert resumed.row.stride() == (0, 1)


def test_a_checkpoint_of_another_type_of_entry_is_refused() -> None:
    model, other = Odd(0), Odd(0)
    checkpoint = Checkpoint.of(model, torch.optim.SGD(model.parameters(), lr=0.1), {})
    other.graph = SPARSE["coalesced"]().to_dense()
    with pytest.raises(
        RefusedCheckpointError, match=r"model\.graph is sparse_coo float32 \[3, 3\], not float32 \[3, 3\]"
    ):
        checkpoint.restore(other, torch.optim.SGD(other.parameters(), lr=0.1))

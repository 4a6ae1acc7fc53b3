"""What a peer remembers: every tensor, every number, every generator; and what is refused."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.learning.checkpoint import Checkpoint

OPTIMIZERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
}
CPU = torch.device("cpu")


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 3, generator=generator), torch.arange(16) % 2
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def written_and_read(checkpoint: Checkpoint) -> Checkpoint:
    parts, content = checkpoint.encode()
    return Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content)))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_resumed_training_goes_on_bit_for_bit(kind: str) -> None:
    model = network(0)
    optimizer = OPTIMIZERS[kind](model)
    train(model, optimizer, 3)
    copy = Checkpoint.of(model, optimizer, {"step": 3, "exchanges": 1})
    train(model, optimizer, 4)  # the copy is none the wiser

    other = network(5)
    other_optimizer = OPTIMIZERS[kind](other)
    checkpoint = written_and_read(copy)
    checkpoint.restore(other, other_optimizer)
    checkpoint.restore_generators(CPU)  # dropout draws from them
    assert checkpoint.progress == {"step": 3, "exchanges": 1}
    train(other, other_optimizer, 4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_all_global_generators_go_on_where_they_were() -> None:
    def draw() -> tuple[float, float, float, float]:
        return torch.rand(1).item(), random.random(), random.gauss(), np.random.normal()

    model = network(0)
    draw()
    checkpoint = Checkpoint.of(model, OPTIMIZERS["sgd"](model), {})
    expected = [draw() for _ in range(3)]
    written_and_read(checkpoint).restore_generators(CPU)
    assert [draw() for _ in range(3)] == expected


def test_tied_strided_and_half_weights_survive() -> None:
    class Tied(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            torch.manual_seed(seed)
            self.one = nn.Linear(4, 4, bias=False)
            self.other = nn.Linear(4, 4, bias=False)
            self.other.weight = self.one.weight
            self.turned = nn.Parameter(torch.randn(3, 5).to(torch.bfloat16).t())

    model, resumed = Tied(0), Tied(1)
    checkpoint = Checkpoint.of(model, OPTIMIZERS["sgd"](model), {})
    written_and_read(checkpoint).restore(resumed, OPTIMIZERS["sgd"](resumed))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_what_a_strategy_keeps_is_given_back_to_it_alone() -> None:
    model = network(0)
    kept = {"table": torch.arange(6.0).reshape(2, 3), "looks": 7}
    checkpoint = written_and_read(Checkpoint.of(model, OPTIMIZERS["sgd"](model), {}, "self_distillation", kept))
    recalled = checkpoint.recalled("self_distillation")
    assert recalled["looks"] == 7
    assert torch.equal(torch.as_tensor(recalled["table"]), kept["table"])
    assert checkpoint.recalled("decentlam") == {}


@pytest.mark.parametrize(
    ("other", "kind", "reason"),
    [
        (lambda: nn.Linear(3, 4), "sgd", r"another model: model\.\S+ is .*, not"),
        (lambda: network(1).double(), "sgd", r"another model: model\.0\.bias is float32 \[4\], not float64 \[4\]"),
        (lambda: network(1), "adam", "another optimizer: SGD, not Adam"),
    ],
)
def test_a_foreign_checkpoint_is_refused_and_changes_nothing(other: object, kind: str, reason: str) -> None:
    model = network(0)
    optimizer = OPTIMIZERS["sgd"](model)
    train(model, optimizer, 1)
    checkpoint = Checkpoint.of(model, optimizer, {"step": 1})
    mine = other()  # type: ignore[operator]
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    my_optimizer = OPTIMIZERS[kind](mine)
    with pytest.raises(RefusedCheckpointError, match=reason):
        checkpoint.restore(mine, my_optimizer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.state_dict().items())
    assert not my_optimizer.state


def test_bytes_that_are_no_checkpoint_are_refused() -> None:
    model = network(0)
    parts, content = Checkpoint.of(model, OPTIMIZERS["sgd"](model), {}).encode()
    data = b"".join(parts)
    with pytest.raises(RefusedCheckpointError, match="cannot be read"):
        Checkpoint.decode(data[:-1], content)
    with pytest.raises(RefusedCheckpointError, match="'optimizer'"):
        Checkpoint.decode(data, {"progress": {}})


TYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.bool,
)


def test_the_file_is_what_the_formats_own_library_reads() -> None:
    generator = torch.Generator().manual_seed(4)
    tensors = {}
    for dtype in TYPES:
        for shape in ((), (3,), (0, 2), (5, 1, 3)):
            numbers = torch.randint(0, 2, shape, generator=generator)
            tensors[f"{dtype} {list(shape)} \u00e4"] = numbers.to(dtype)
    parts, _ = Checkpoint(tensors, {}, {}, generators=generators()).encode()
    read = load(b"".join(parts))
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape), name
        assert read[name].flatten().view(torch.uint8).equal(tensor.flatten().view(torch.uint8)), name
    own, theirs = b"".join(parts), save(tensors)
    assert len(own) - int.from_bytes(own[:8], "little") == len(theirs) - int.from_bytes(theirs[:8], "little")


def test_a_type_without_a_name_in_the_format_is_no_part_of_a_file() -> None:
    odd = Checkpoint({"model.odd": torch.zeros(2, dtype=torch.complex128)}, {}, {}, generators=generators())
    with pytest.raises(TypeError, match=r"model\.odd is of torch\.complex128"):
        odd.encode()  # `Checkpoint.of` keeps such tensors as others


def generators() -> dict[str, object]:
    model = network(0)
    return Checkpoint.of(model, OPTIMIZERS["sgd"](model), {}).generators

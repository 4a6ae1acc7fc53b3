"""The number of examples that make one step: no more than this peer has, and no more than the machine's memory can
hold.

What a batch needs is estimated from below: its inputs, and what a forward pass keeps of each row for the backward pass,
measured on two rows. So what is refused could not have worked; what is let pass may still be too much.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.drivers.overload.machine_limits import memory_bytes
from gossipdistill.errors import ConfigError
from gossipdistill.learning.evaluation import evaluating, generators_kept
from gossipdistill.tasks import Task
from gossipdistill.user_code import users_code

_KEY = "train.batch_size"
_MEASURED_FROM_ROWS = 4096
"""Batches of fewer rows than this are not measured: that takes two forward passes, and few models need it."""
_PROBED_ROWS = 2


@dataclass(frozen=True)
class StepRows:
    """`count` examples make one step. `notice` states where this differs from what was asked for; otherwise it is
    empty."""

    count: int
    notice: str = ""


def rows_of_step(spec: WorkerSpec, task: Task, model: nn.Module, device: torch.device) -> StepRows:
    """The examples of one optimiser step, `train.batch_size` x `train.accumulate`; all of the peer's where it has
    fewer. A pooled peer takes as many as all peers together.

    Raises:
        ConfigError: when a batch does not fit into memory, or a step is to have more batches than there are examples.
    """
    train, have = spec.config.train, len(task.train[0])
    asked = train.batch_size * (spec.count if spec.pooled else 1)
    if train.accumulate > have:
        raise ConfigError(
            f"a step of {train.accumulate} batches needs as many examples, and {spec.name} has {have}",
            key="train.accumulate",
            value=train.accumulate,
            accepted=f"1 to {have}",
        )
    used = min(asked, have // train.accumulate)
    crowded = _too_large(spec, task, model, device, asked, used)
    rows = used * train.accumulate
    if used == asked:
        return StepRows(rows, crowded)
    if train.accumulate == 1:
        text = f"{_KEY} = {asked} is more than the {have} examples of this peer: each step takes all {have}"
    else:
        text = (
            f"{_KEY} = {asked} x train.accumulate = {train.accumulate} is more than the {have} examples of "
            f"this peer: each step takes {train.accumulate} batches of {used}"
        )
    return StepRows(rows, "; ".join(filter(None, (text, crowded))))


def _too_large(spec: WorkerSpec, task: Task, model: nn.Module, device: torch.device, asked: int, used: int) -> str:
    """Refuse a batch that does not fit into memory: one that was asked for by its inputs alone, one that is used
    together with what the model keeps of it. Returns a notice where it fits for one peer, but not for all that share
    this machine."""
    row_bytes = sum(_row_bytes(part) for part in task.train)
    _refuse_beyond_memory(spec, task, device, asked, row_bytes, "for its inputs and labels alone")
    kept_bytes = kept_bytes_per_row(model, task, used)
    needed_bytes = used * (row_bytes + kept_bytes)
    _refuse_beyond_memory(spec, task, device, used, row_bytes + kept_bytes, "for its inputs and what the model keeps")
    peers = spec.count if spec.released_by_launcher and not spec.pooled and device.type == "cpu" else 1
    if peers * needed_bytes <= memory_of(device):
        return ""
    return (
        f"{peers} peers with batches of at least {_size(needed_bytes)} each may be more than the "
        f"{_size(memory_of(device))} of this machine: give a smaller {_KEY}, and train.accumulate for the same gradient"
    )


def _refuse_beyond_memory(
    spec: WorkerSpec, task: Task, device: torch.device, rows: int, bytes_of_row: int, what: str
) -> None:
    memory_bytes = memory_of(device)
    if rows * bytes_of_row <= memory_bytes:
        return
    largest = len(task.train[0]) // spec.config.train.accumulate
    fits = max(1, min(largest, memory_bytes // bytes_of_row))
    where = "this machine" if device.type == "cpu" else str(device)
    raise ConfigError(
        f"a batch of {rows} examples needs at least {_size(rows * bytes_of_row)} {what}, and {where} has "
        f"{_size(memory_bytes)}",
        key=_KEY,
        value=spec.config.train.batch_size,
        accepted=f"1 to {fits} for {spec.name}",
    )


def kept_bytes_per_row(model: nn.Module, task: Task, rows: int) -> int:
    """Bytes that a forward pass of the model keeps of one row until its backward pass; 0 for small batches, and where
    that cannot be measured. The model stays as it is."""
    if rows < _MEASURED_FROM_ROWS:
        return 0
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    x = task.train[0][:_PROBED_ROWS].clone().to(device)  # not a view of all examples
    if len(x) < _PROBED_ROWS:
        return 0
    others = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in others:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    measuring = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    # A model that cannot do it will say so where it is trained.
    with contextlib.suppress(Exception), generators_kept(), evaluating(model), measuring, users_code("Task.model"):
        model(x)
        return sum(kept.values()) // _PROBED_ROWS
    return 0


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a process can have at most on this device: of the machine or of its container, or of a
    GPU."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory_bytes() or 1 << 62


def _row_bytes(tensor: Tensor) -> int:
    return tensor[0].numel() * tensor.element_size()


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"

"""One peer's model in training, as strategies see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossipdistill.learning.clipping import Norms
from gossipdistill.learning.delays import Delays
from gossipdistill.learning.evaluation import evaluating
from gossipdistill.learning.hyperparameters import constructor_values
from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.pace import Paces
from gossipdistill.learning.rounding import Chance
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.size import Size
from gossipdistill.learning.step_scale import StepScale
from gossipdistill.messages import Arrival, Settlement
from gossipdistill.user_code import users_code


@dataclass(slots=True)
class Draws:
    """Endless batches of row numbers: a fresh permutation an epoch, as a pure function of (seed, position).

    So a resumed run draws exactly what the uninterrupted one would have drawn, without saving a generator.
    """

    rows: int
    batch_size: int
    seed: int
    _epoch: int = -1
    _order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def at(self, step: int) -> Tensor:
        """Row numbers [batch_size] of this step (from 0). Rows are repeated where there are fewer than a batch."""
        per_epoch = max(self.rows // self.batch_size, 1)
        epoch, position = divmod(step, per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            copies = -(-self.batch_size // self.rows) if self.rows < self.batch_size else 1
            self._order = torch.cat([torch.randperm(self.rows, generator=generator) for _ in range(copies)])
            self._epoch = epoch
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]


@dataclass(slots=True)
class Learner:
    """Everything that a strategy may read and, where its verb allows it, change.

    `step` counts finished optimiser steps of this peer. `x`, `y` [batch, ...], `outputs` [batch, ...] and `task_loss`,
    which is `criterion(outputs, y)`, belong to the batch in progress. `peers` are the names by place. `forward_module`
    is what the forward pass runs through: the model, unless a strategy wraps it. `examples` are all that this peer
    trains on, `draws` says which of them a step takes, and `part` which of these are in the batch in progress.
    `held_out` are those that it does not train on, because its strategy judges models by them; None without any.
    """

    name: str
    place: int
    peers: tuple[str, ...]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    seed: int
    transfer: Tensor | None = None
    transfer_draws: Draws | None = None
    classes: int | None = None
    steps_total: int | None = None
    step: int = 0
    now_s: float = 0.0
    x: Tensor | None = None
    y: Tensor | None = None
    outputs: Any = None
    examples: tuple[Tensor, Tensor] | None = None
    held_out: tuple[Tensor, Tensor] | None = None
    draws: Draws | None = None
    part: slice = field(default_factory=lambda: slice(None))
    task_loss: float = float("nan")
    evaluation: int = 0
    """The optimiser has had the gradient of this step made again this number of times. Only evaluation 0 is counted."""
    criterion: Callable[[Any, Tensor], Tensor] | None = None
    forward_module: nn.Module | None = None
    stop_wanted: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    delays: Delays = field(default_factory=Delays)
    paces: Paces = field(default_factory=Paces)
    norms: Norms = field(default_factory=Norms)
    count: int = 1
    """The run is to have this number of peers."""
    refuse_unusual: bool = False
    """Whether weights of an unusual norm are refused, and not only counted (learning/norms.py)."""
    settlements: list[Settlement] = field(default_factory=list)
    """These are verdicts on arrivals of mass and streams; the worker hands them to the mailbox after each `mix`."""
    built: tuple[dict[str, Any], ...] = field(init=False)
    """These are the values that the optimizer's constructor gave to its groups of parameters, for checkpoints."""
    step_scale: StepScale = field(init=False)
    """The step scale sets the length of the optimizer's steps."""
    _decided: tuple[nn.Module, SharedArrays] | None = None
    _size: tuple[tuple[int, ...], Size] | None = None

    def __post_init__(self) -> None:
        self.built = constructor_values(self.optimizer)
        self.step_scale = StepScale(self)
        self.shared  # noqa: B018 - decided now, before anything is restored or trained

    @property
    def shared(self) -> SharedArrays:
        """The arrays of the model that peers share: decided when this model is first seen, for as long as it stays."""
        if self._decided is None or self._decided[0] is not self.model:
            self._decided = (self.model, SharedArrays.of(self.model))
        return self._decided[1]

    def size(self) -> Size:
        """The size of the model; it is computed once for as long as nothing is written to the model."""
        parts = list(self.shared.vector(self.model).values())
        mark = (id(self.model), *(part._version for part in parts))
        if self._size is None or self._size[0] != mark:
            self._size = (mark, Size.of(parts))
        return self._size[1]

    @property
    def chance(self) -> Chance:
        """The random numbers for rounding in the step in progress: the same at each call, others for each peer and
        step."""
        return Chance((self.seed * 8191 + self.place) * 1_000_003 + self.step)

    def absorb(self, arrival: Arrival) -> None:
        """Settle an arrival of mass or of a stream as used: it is mine now."""
        self.settlements.append(Settlement(arrival.sender, arrival.topic, arrival.version, absorbed=True))

    def refuse(self, arrival: Arrival, reason: str) -> None:
        """Settle an arrival of mass or of a stream as not used: mass returns to its sender, which is told why."""
        self.settlements.append(Settlement(arrival.sender, arrival.topic, arrival.version, False, reason))

    def forward(self, x: Tensor) -> Any:
        """Outputs of the model in training for inputs [batch, ...]."""
        with users_code("Task.model"):
            return (self.forward_module if self.forward_module is not None else self.model)(x)

    def gradients_kept(self, kept: bool) -> AbstractContextManager[object]:
        """A context in which a wrapper that reduces gradients over peers leaves them here, if `kept`: they go with the
        last batch of the step, all at once."""
        no_sync = getattr(self.forward_module, "no_sync", None)
        return no_sync() if kept and no_sync is not None else nullcontext()

    def rows_at(self, step: int) -> Tensor:
        """Row numbers [rows] of `examples` that a step takes, be it past or to come."""
        if self.draws is None:
            raise ValueError("this loop draws its own batches: they are not known in advance")
        return self.draws.at(step)

    def transfer_batch(self) -> Tensor:
        """Row numbers [batch] of the transfer set for the step in progress."""
        if self.transfer_draws is None:
            raise ValueError("this run has no transfer set")
        return self.transfer_draws.at(self.step)

    def predict(self, model: nn.Module, inputs: Tensor, rows_max: int = 4096) -> Tensor:
        """Outputs [rows, C] of `model` for many inputs, in evaluation mode, without gradients or traces."""
        with evaluating(model), torch.no_grad(), users_code("Task.model"):
            return torch.cat([model(inputs[at : at + rows_max]) for at in range(0, len(inputs), rows_max)])

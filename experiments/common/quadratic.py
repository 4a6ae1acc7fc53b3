"""Peers whose model is a point and whose loss is half the squared distance to their rows: the gradient is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning.learner import Draws
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import Strategy
from gossipdistill.tasks import Task
from gossipdistill.tasks.quadratic import Point, half_squared_distance
from gossipdistill.topology import Schedule
from gossipdistill.training.worker import Worker

PLAIN = {"train.lr_schedule": "constant", "train.clip_norm": "off"}
"""Keys under which nothing but the optimizer moves a model."""


def point_worker(
    name: str,
    names: Sequence[str],
    rows: Tensor,
    strategy: Strategy,
    schedule: Schedule,
    mailbox: Mailbox,
    optimizer: Callable[[Sequence[torch.nn.Parameter]], torch.optim.Optimizer],
    start: Tensor | None = None,
    batch_size: int = 2,
    draws_seed: int = 0,
) -> Worker:
    """A strict worker that is drawn to its `rows` [n, D], `batch_size` of them at a time.

    Args:
        optimizer: makes one for the parameters.
        start: where the model begins [D]; unset: at the origin.
    """
    inputs = torch.ones(len(rows), 1)
    task = Task(
        model=lambda: Point(rows.shape[1]), train=(inputs, rows), validation=(inputs, rows), loss=half_squared_distance
    )
    model = Point(rows.shape[1])
    if start is not None:
        with torch.no_grad():
            next(model.parameters()).copy_(start)
    given = Given(
        strategy, schedule, task, model, optimizer(list(model.parameters())), Draws(len(rows), batch_size, draws_seed)
    )
    return build_worker(
        WorkerSpec.in_process(name, names, PLAIN | {"train.batch_size": batch_size}), mailbox, given, strict=True
    )


def sgd(lr: float, momentum: float = 0.0) -> Callable[[Sequence[torch.nn.Parameter]], torch.optim.Optimizer]:
    """For `point_worker`."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum)

"""What does not fit together in a task is found before anything is trained: its model, its loss, its labels, its
metrics; and what a metric gives is made a number."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError, UserCodeError
from gossipdistill.learning.evaluation import evaluating, generators_kept
from gossipdistill.printable import shown
from gossipdistill.user_code import users_code, users_setup

if TYPE_CHECKING:
    from gossipdistill.tasks.base import Task

PROBE_ROWS = 2
"""This number of validation rows is run through a model."""
_ODD_LABELS_MAX = 8
"""The loss is tried with at most this number of different labels below zero."""
ROWS_AT_ONCE = 4096
"""One forward pass has this number of rows where the whole validation set is run."""


def check_model(task: Task, model: nn.Module) -> None:
    """Run some validation rows through `model`, its loss and the metrics, and report what does not fit together.

    A metric that refuses these few rows is tried on the whole validation set: some need rows of several classes.
    Changes neither the model, nor its mode, nor any generator. Raises ConfigError.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    x, y = (part[:PROBE_ROWS].to(device) for part in task.validation)
    with evaluating(model), torch.no_grad(), generators_kept():
        with users_setup("Task.model", problem=f"refuses inputs {list(x.shape)}", home=task.made_at):
            out = model(x)
        _check_outputs(task, out, x)
        with users_setup("Task.loss", problem=f"refuses outputs {list(out.shape)}", home=task.made_at):
            value = task.loss(out, y)
        if not isinstance(value, Tensor) or value.ndim != 0:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError("must give a scalar tensor", key="Task.loss", value=shape)
        _check_labels(task, out)
        _check_metrics(task, model, out, y)


def measured(task: Task, name: str, out: Tensor, y: Tensor, problem: str = "failed") -> float:
    """The metric `name` of outputs [rows, ...] and labels [rows, ...]; NaN is a value like others. It is given copies:
    one that works in place would spoil what the next one sees, and the validation labels for good.

    Raises:
        UserCodeError: when it fails, or gives no number.
    """
    with users_setup(f"Task.metrics[{name!r}]", problem=problem, home=task.made_at):
        value: object = task.metrics[name](out.clone(), y.clone())
        if isinstance(value, Tensor):
            value = value.item() if value.numel() == 1 else value
        elif not isinstance(value, numbers.Number) and getattr(value, "size", None) == 1:  # an array of numpy
            value = getattr(value, "item", lambda: value)()
        number = float(value) if isinstance(value, numbers.Real) else None
    if number is None:
        found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else shown(value)
        what, problem = f"Task.metrics[{name!r}]", f"gives {found}, which is no number"
        raise UserCodeError(what, problem, key=what, problem=problem)
    return number


def figures(task: Task, out: Tensor, y: Tensor, lenient: bool = False, metrics: bool = True) -> dict[str, float]:
    """Under their names the metrics, unless they are not wanted, and under `loss` the loss, of outputs [rows, ...] for
    labels [rows, ...].

    A metric that fails is NaN where outputs are not finite, as after a training that has diverged; with `lenient`,
    loss and metrics are everywhere: one that needs all classes may be asked about few rows.

    Raises:
        UserCodeError, ConfigError: when one fails.
    """
    diverged = not bool(out.isfinite().all())
    found: dict[str, float] = {}
    for name in ("loss", *(task.metrics if metrics else ())):
        try:
            found[name] = _loss(task, out, y) if name == "loss" else measured(task, name, out, y)
        except ConfigError:
            if not (diverged or lenient):
                raise
            found[name] = math.nan
    return found


def _loss(task: Task, out: Tensor, y: Tensor) -> float:
    with users_code("Task.loss"):
        return float(task.loss(out, y))


def odd_label(task: Task, classes: int) -> str | None:
    """The first label that is no class number below `classes`, in words; None where all are, or labels are no
    classes."""
    for part, (_, y) in (("this peer's training data", task.train), ("the validation data", task.validation)):
        rows = ((y < 0) | (y >= classes)).nonzero() if task.distillable else y.new_zeros(0)
        if len(rows):
            row = int(rows[0, 0])
            return f"label {int(y[row])} at row {row} of {part}; accepted: 0 to {classes - 1}"
    return None


def _check_outputs(task: Task, out: object, x: Tensor) -> None:
    if not isinstance(out, Tensor):
        raise ConfigError("must give one tensor", key="Task.model", value=type(out).__name__)
    if out.ndim == 0 or len(out) != len(x):
        raise ConfigError(f"gives outputs {list(out.shape)} for {len(x)} rows", key="Task.model")
    classes = task.class_count
    if classes is None:
        return
    if out.ndim != 2 or out.shape[1] < classes or (task.classes and out.shape[1] != classes):
        raise ConfigError(
            f"gives outputs {list(out.shape)}, and the labels ask for {classes} classes",
            key="Task.model",
            accepted=f"logits [{len(x)}, {classes}]",
        )


def _check_labels(task: Task, out: Tensor) -> None:
    """Labels below zero, which some losses pass over (-100) and others refuse only in the middle of the training."""
    if not task.distillable:
        return
    for key, part, (_, y) in (
        ("Task.train", "this peer's training data", task.train),
        ("Task.validation", "the validation data", task.validation),
    ):
        for label in sorted(set(y[y < 0].tolist()))[:_ODD_LABELS_MAX]:
            row = int((y == label).nonzero()[0, 0])
            try:
                with users_setup("Task.loss", home=task.made_at):
                    task.loss(out[:1].cpu(), y[row : row + 1])  # on a GPU it would end the process
            except UserCodeError as error:
                raise UserCodeError(
                    "Task.loss",
                    error.told,
                    key=key,
                    problem=f"label {label} at row {row} of {part} is refused "
                    f"by Task.loss; accepted: 0 to {out.shape[1] - 1}: {error.told}",
                ) from error.__cause__


def _check_metrics(task: Task, model: nn.Module, out: Tensor, y: Tensor) -> None:
    whole: Tensor | None = None
    for name in task.metrics:
        try:
            measured(task, name, out, y)
        except ConfigError:
            x, labels = task.validation
            if whole is None:
                parts = [model(x[at : at + ROWS_AT_ONCE].to(out.device)) for at in range(0, len(x), ROWS_AT_ONCE)]
                whole = torch.cat(parts).cpu()
            measured(task, name, whole, labels, f"refuses the whole validation set, outputs {list(whole.shape)}")

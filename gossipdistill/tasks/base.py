"""The shape of a task: a model to build, data of one peer, a loss, metrics.

A task file has one function `task(shard, ...) -> Task`; the parameters after `shard` are the task's options. See
`load.py` for how it is found, `shards.py` for the shard.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError
from gossipdistill.learning.shared_arrays import is_finite
from gossipdistill.tasks.checking import check_model

ShardKind = Literal["disjoint", "same", "label_skew"]
Loss = Callable[[Tensor, Tensor], Tensor]
Metric = Callable[[Tensor, Tensor], float]

CLASSES_TEXT_MAX = 160
"""Peers compare a list of class names word for word up to this length (characters)."""


def accuracy(out: Tensor, y: Tensor) -> float:
    """Fraction of the rows whose largest logit `out` [rows, classes] is at the label `y` [rows]; 0 to 1."""
    return (out.argmax(1) == y).float().mean().item()


@dataclass(frozen=True, slots=True)
class Deal:
    """The deal of a pool: of `pool` examples each peer has `each`; the run asked for `asked`, or for no number
    (None)."""

    pool: int
    each: int
    asked: int | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What one peer learns. Data stay on the CPU; batches are moved to the device of the peer.

    Args:
        model: builds a new model; called without arguments, with torch's generator seeded by the caller.
        train: this peer's inputs [examples, ...] and labels [examples, ...].
        validation: inputs and labels that no peer trains on, the same for all peers.
        loss: function of model outputs and labels; returns the mean over the rows, a scalar.
        transfer: unlabelled inputs [transfer, ...], the same and in the same order on every peer, on which
            predictions are exchanged; None where there are none.
        metrics: name -> function of outputs and labels that returns the mean over the rows; `accuracy` is shown in
            tables.
        classes: names of the classes, in the order of the labels; None where they have no names.
    """

    model: Callable[[], nn.Module]
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    loss: Loss
    transfer: Tensor | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    distillable: bool = field(init=False)
    """Whether outputs are class logits [rows, classes], so that predictions can be exchanged: labels are [examples]
    whole numbers."""
    dealt: Deal | None = field(init=False, default=None)
    """The deal that gave this peer its examples, if its shard dealt them; it is filled in when the task is loaded."""
    made_at: str = field(init=False, default="")
    """`file:line` of the call `Task(...)`, for messages; empty where this package makes one task of another."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "made_at", _caller_of_task())
        if isinstance(self.model, nn.Module) or not callable(self.model):
            found = type(self.model).__name__
            raise ConfigError(
                f"must be a function that builds a new model, this is a {found}",
                key="Task.model",
                accepted="for example model=lambda: nn.Linear(2, 2)",
            )
        if not callable(self.loss):
            raise ConfigError("must be a function of (outputs, labels)", key="Task.loss", value=self.loss)
        x, y = _pair(self.train, "Task.train")
        validation_x, validation_y = _pair(self.validation, "Task.validation")
        _alike(validation_x, "Task.validation", "inputs", x)
        _alike(validation_y, "Task.validation", "labels", y)
        if self.transfer is not None:
            _check_tensor(self.transfer, "Task.transfer", "it")
            _alike(self.transfer, "Task.transfer", "inputs", x)
        self._check_metrics()
        object.__setattr__(self, "distillable", y.ndim == 1 and _whole(y))
        if self.classes is not None:
            self._check_classes()

    def examples(self) -> dict[str, int | None]:
        """The amount of data that this peer has: the labelled examples `used`, the size of the `pool` that they were
        dealt from and the number `asked` for (None: not known), and the rows of the `transfer` set."""
        transfer = len(self.transfer) if self.transfer is not None else 0
        pool, asked = (self.dealt.pool, self.dealt.asked) if self.dealt is not None else (None, None)
        return {"used": len(self.train[0]), "pool": pool, "asked": asked, "transfer": transfer}

    def _check_metrics(self) -> None:
        if not isinstance(self.metrics, Mapping):
            raise ConfigError("must map names to functions", key="Task.metrics", value=self.metrics)
        for name, metric in self.metrics.items():
            if not (isinstance(name, str) and name and callable(metric)):
                raise ConfigError(
                    "must map a name to a function of (outputs, labels)", key="Task.metrics", value={name: metric}
                )

    def _check_classes(self) -> None:
        names = self.classes
        if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
            raise ConfigError("must be a tuple of names", key="Task.classes", value=names)
        if len(set(names)) < len(names):
            raise ConfigError("names a class twice", key="Task.classes", value=names)
        if not self.distillable:
            raise ConfigError("the labels are no class numbers [examples]", key="Task.classes", value=names)
        for key, (_, y) in (("Task.train", self.train), ("Task.validation", self.validation)):
            low, high = int(y.min()), int(y.max())
            if low < 0 or high >= len(names):
                raise ConfigError(
                    f"label {low if low < 0 else high} has no class name",
                    key=key,
                    accepted=f"0 to {len(names) - 1}, one number for each of Task.classes",
                )

    @property
    def class_count(self) -> int | None:
        """Number of classes: that of `classes`, otherwise by the largest label; None if the labels are no class
        numbers."""
        if not self.distillable:
            return None
        return len(self.classes) if self.classes else 1 + int(max(self.train[1].max(), self.validation[1].max()))

    def check_model(self, model: nn.Module) -> None:
        """Check that `model`, loss, labels and metrics fit together (checking.py). Raises ConfigError."""
        check_model(self, model)


@dataclass(frozen=True)
class About:
    """What `gossipdistill task show` prints of a ready-made task's data."""

    origin: str
    licence: str
    sizes: str
    folder: str = ""
    """The data set's subfolder of the data folder and the cache has this name; empty where it comes with the
    package."""
    url: str = ""
    """The data set is downloaded from this address."""


def fingerprint(task: Task, name: str) -> dict[str, str]:
    """What two peers compare at first contact; all values must be equal for predictions to mean the same.

    Keys: `task`, its name; `classes`, their names in order ("unnamed", or "none" where labels are no classes; where the
    names are long or cannot be printed, their number and the first 16 hex digits of the SHA-256 of all);
    `transfer`, the first 16 hex digits of the SHA-256 of the transfer set's type, shape and bytes, or "none".
    """
    classes = "none"
    if task.distillable:
        classes = ",".join(task.classes) if task.classes else "unnamed"
        if task.classes and (len(classes) > CLASSES_TEXT_MAX or not classes.isprintable()):
            digest = hashlib.sha256("\0".join(task.classes).encode()).hexdigest()[:16]
            classes = f"{len(task.classes)} classes, {digest}"
    digest = "none"
    if task.transfer is not None:
        rows = task.transfer.detach().cpu().resolve_conj().resolve_neg().contiguous()
        content = hashlib.sha256(f"{rows.dtype} {tuple(rows.shape)} ".encode())
        content.update(rows.reshape(-1).view(torch.uint8).numpy().data)
        digest = content.hexdigest()[:16]
    return {"task": name, "classes": classes, "transfer": digest}


def _pair(pair: object, key: str) -> tuple[Tensor, Tensor]:
    """The two tensors of a data set, checked: present, of one length, not empty, finite."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        found = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else type(pair).__name__
        raise ConfigError(f"must be a pair (inputs, labels), this is a {found}", key=key)
    x, y = _check_tensor(pair[0], key, "inputs"), _check_tensor(pair[1], key, "labels")
    if len(x) != len(y):
        raise ConfigError(f"{len(x)} inputs and {len(y)} labels; they must be as many", key=key)
    return x, y


def _check_tensor(value: object, key: str, part: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise ConfigError(f"{part} must be a torch.Tensor, found {type(value).__name__}", key=key)
    odd = _not_plain(value)
    if odd:
        raise ConfigError(f"{part} must be a dense tensor with values of its own, {odd}", key=key)
    if value.ndim == 0 or len(value) == 0:
        raise ConfigError(f"{part} must hold at least one row, found shape {list(value.shape)}", key=key)
    if not is_finite(value):
        raise ConfigError(f"{part} must be finite, found NaN or infinity", key=key)
    return value


def _not_plain(value: Tensor) -> str:
    """Why rows of this tensor cannot be taken, step after step; empty if they can."""
    if value.layout is not torch.strided and not value.is_nested:
        return f"found layout {str(value.layout).removeprefix('torch.')}; use .to_dense()"
    if value.is_nested or value.is_quantized:
        return f"found a {'nested' if value.is_nested else 'quantised'} one; use a padded or dequantised one"
    if value.is_meta:
        return "found one without memory (device meta)"
    return "found one with a history of operations; use .detach()" if value.grad_fn is not None else ""


def _alike(found: Tensor, key: str, part: str, model_of: Tensor) -> None:
    """One row of `found` must look like one row of the training data."""
    if found.shape[1:] != model_of.shape[1:] or found.dtype != model_of.dtype:
        raise ConfigError(
            f"{part} are {_row(found)}, those of Task.train are {_row(model_of)}; they must be alike", key=key
        )


def _row(tensor: Tensor) -> str:
    return f"{list(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')} per row"


def _whole(tensor: Tensor) -> bool:
    return not (tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool)


def _caller_of_task() -> str:
    """`file:line` of the call `Task(...)`; empty for `dataclasses.replace`."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name in ("__init__", "__post_init__"):
        frame = frame.f_back
    file = frame.f_code.co_filename
    return "" if file.startswith("<") or file == dataclasses.__file__ else f"{file}:{frame.f_lineno}"

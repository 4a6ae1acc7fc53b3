"""The six tasks of the bed. Their option `part` says on which rows models are judged: `validation`, to choose settings
by, or `test`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from experiments.untuned import data
from gossipdistill import Task
from gossipdistill.tasks import Shard, accuracy
from gossipdistill.tasks.models import cnn, mlp

Part = Literal["validation", "test"]


def adult(shard: Shard, part: Part = "test") -> Task:
    """Census records, 108 inputs, 2 classes, 500 labelled records per peer; 11,266 parameters."""
    return _task(shard, data.adult(), part, 500, lambda: mlp(108, 2))


def cifar10(shard: Shard, part: Part = "test") -> Task:
    """Pictures of things, 10 classes, 500 labelled pictures per peer; two strided convolutions, 10,554 parameters."""
    return _task(shard, data.cifar10(), part, 500, strided)


def synthetic(shard: Shard, part: Part = "test") -> Task:
    """Points that a random network has labelled, 6 classes, 200 labelled points per peer; 5,894 parameters."""
    return _task(shard, data.synthetic(), part, 200, lambda: mlp(20, 6))


def text(shard: Shard, part: Part = "test") -> Task:
    """The next letter, 27 classes, 1,000 labelled places per peer; 10,443 parameters."""
    return _task(shard, data.text(), part, 1_000, data.NextLetter)


def digits(shard: Shard, part: Part = "test") -> Task:
    """Handwritten digits, 10 classes, 100 labelled digits per peer; the CNN of the task `digits`, 9,050 parameters."""
    return _task(shard, data.digits(), part, 100, lambda: cnn(8, 10))


def fashion(shard: Shard, part: Part = "test") -> Task:
    """Pictures of clothes, 10 classes, 500 labelled pictures per peer; 55,050 parameters."""
    return _task(shard, data.fashion(), part, 500, lambda: mlp(784, 10))


def strided() -> nn.Module:
    """Colour pictures [rows, 3, 32, 32] to logits [rows, 10]."""
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=4, stride=4),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def _task(shard: Shard, found: data.Data, part: Part, each: int, model: Callable[[], nn.Module]) -> Task:
    x, y = found.pool
    mine = shard.deal(y, default=each)
    return Task(
        model=model,
        train=(x[mine], y[mine]),
        transfer=found.transfer,
        validation=found.validation if part == "validation" else found.test,
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
        classes=found.classes,
    )

"""The six tasks of the bed. Their option `part` says on which rows models are judged: `validation`, to choose settings
by, or `test`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn

from experiments.common import data
from gossipdistill import Task
from gossipdistill.tasks import Shard, accuracy
from gossipdistill.tasks.models import mlp

Part = Literal["validation", "test"]


def adult(shard: Shard, part: Part = "test") -> Task:
    """Census records, 108 inputs, 2 classes, 500 labelled records per peer; 11,266 parameters."""
    return _task(shard, data.adult(), part, 500, lambda: mlp(108, 2))


def cifar10(shard: Shard, part: Part = "test") -> Task:
    """Pictures of things, 10 classes, 500 labelled pictures per peer; two strided convolutions, 10,554 parameters."""
    return _task(shard, data.cifar10(), part, 500, lambda: strided(3, 32, (16, 32)))


def synthetic(shard: Shard, part: Part = "test") -> Task:
    """Points that a random network has labelled, 6 classes, 200 labelled points per peer; 5,894 parameters."""
    return _task(shard, data.synthetic(), part, 200, lambda: mlp(20, 6))


def text(shard: Shard, part: Part = "test") -> Task:
    """The next letter, 27 classes, 1,000 labelled places per peer; 10,443 parameters."""
    return _task(shard, data.text(), part, 1_000, data.NextLetter)


def digits(shard: Shard, part: Part = "test") -> Task:
    """Handwritten digits, 10 classes, 100 labelled digits per peer; a strided CNN, 9,050 parameters."""
    return _task(shard, data.digits(), part, 100, lambda: strided(1, 8, (16, 48)))


def fashion(shard: Shard, part: Part = "test") -> Task:
    """Pictures of clothes, 10 classes, 500 labelled pictures per peer; 55,050 parameters."""
    return _task(shard, data.fashion(), part, 500, lambda: mlp(784, 10))


def strided(planes: int, side: int, channels: tuple[int, int]) -> nn.Module:
    """Pictures [rows, planes, side, side] to logits [rows, 10] by two convolutions with steps and no pooling, which is
    dear on a CPU: 8 pixels become 4 and 2, 32 become 8 and 4."""
    first, second = channels
    step = 2 if side <= 8 else 4
    return nn.Sequential(
        nn.Conv2d(planes, first, kernel_size=max(step, 3), stride=step, padding=1 if step < 3 else 0),
        nn.ReLU(),
        nn.Conv2d(first, second, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (side // step // 2) ** 2, 10),
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

"""Models of a chosen size and data of no meaning, for benchmarks that ask what a parameter costs.

Most parameters lie in one or two square matrices, as in the layers of a real model.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gossipdistill.tasks import Task, accuracy
from gossipdistill.tasks.shards import Shard

INPUTS, CLASSES, ROWS = 64, 10, 64
HIDDEN = {"4,810": (64,), "301,066": (512, 512), "10 million": (2220, 2220, 2220), "34 million": (4096, 4096, 4096)}
"""Number of parameters, in words, to the widths of the hidden layers."""


def mlp(size: str) -> nn.Module:
    """An MLP 64-...-10 with so many parameters."""
    widths = (INPUTS, *HIDDEN[size])
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


def sized_task(size: str) -> Task:
    """Random inputs [64, 64] with random labels."""
    generator = torch.Generator().manual_seed(0)

    def examples() -> tuple[Tensor, Tensor]:
        x = torch.randn(ROWS, INPUTS, generator=generator)
        return x, torch.randint(CLASSES, (ROWS,), generator=generator)

    loss = nn.functional.cross_entropy
    return Task(lambda: mlp(size), examples(), examples(), loss, metrics={"accuracy": accuracy})


def task(shard: Shard, size: str = "34 million") -> Task:
    """The same for every peer."""
    return sized_task(size)

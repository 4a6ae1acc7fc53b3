"""What the newcomers' tests share: an empty folder, an idle machine, a task of their own and a simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gossipdistill.config.plan import Asked
from gossipdistill.launchers.compare import Comparison
from gossipdistill.simulation.run import Simulation, plan_simulation

TASK = """
import torch
from torch import nn

from gossipdistill import Task


def task(shard, dealt: bool = True) -> Task:
    x, y = torch.randn(11000, 2, generator=torch.Generator().manual_seed(1)), torch.arange(11000) % 2
    mine = shard.deal(y[:10000]) if dealt else torch.arange(50)
    return Task(
        model=lambda: nn.Linear(2, 2), train=(x[mine], y[mine]), transfer=x[10000:10500],
        validation=(x[10500:], y[10500:]), loss=nn.functional.cross_entropy,
    )


def heights(shard) -> Task:
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(1))
    mine = shard.deal(x[:900, 0])
    return Task(
        model=lambda: nn.Linear(2, 1), train=(x[mine], x[mine, :1]), validation=(x[900:], x[900:, :1]),
        loss=nn.functional.mse_loss,
    )
"""


def simulated(tmp_path: Path, *settings: str, **asked: Any) -> Simulation:
    run = Simulation(plan_simulation(Asked(**({"peers": "3", "settings": settings, "out": tmp_path} | asked))))
    assert run.run() == run.summary.exit_code
    return run


def comparison(tmp_path: Path, topology: str, strategies: list[str], **asked: Any) -> Comparison:
    return Comparison(
        Asked(topology=topology, steps=5, out=tmp_path, **asked), strategies, [0], lambda _: lambda *_: None
    )

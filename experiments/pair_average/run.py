"""Pairwise averages under loss, while peers train: python -m experiments.pair_average.run [--report] [EXCHANGES]"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.lossy import Storm
from experiments.common.quadratic import point_worker
from gossipdistill.learning.cadence import Cadence
from gossipdistill.sim.compute import Compute, Pace
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import Exchange, strategy_of
from gossipdistill.topology import load_topology
from gossipdistill.training.ending import finish
from gossipdistill.training.worker import Worker

PROGRESS_EVERY = 5_000
COLUMNS = ("exchanges", "messages_lost", "steps", "mean_off")
NAMES, DIM, LOSS, DUPLICATION, DELAY_S = ("p0", "p1", "p2", "p3", "p4"), 10, 0.2, 0.1, 0.01


class Recorder(torch.optim.SGD):
    """SGD that remembers by how much it has moved the model in all: `moved` [DIM] float64."""

    moved: Tensor

    def step(self, closure: Any = None) -> Any:
        """A step, and what it moved."""
        (point,) = self.param_groups[0]["params"]
        before = point.detach().double()
        super().step(closure)
        self.moved += point.detach().double() - before


def recorder(parameters: Sequence[torch.nn.Parameter]) -> Recorder:
    """One that has moved nothing yet."""
    made = Recorder(parameters, lr=0.05, momentum=0.5)
    made.moved = torch.zeros(DIM, dtype=torch.float64)
    return made


class Trainer:
    """A worker at its own pace."""

    def __init__(self, worker: Worker, pace: Pace) -> None:
        self.worker, self.pace = worker, pace

    def step(self, now: float) -> float:
        """One step; seconds until the next."""
        self.worker.step(now)
        return self.pace.next_s()


def conserved(exchanges: int, seed: int = 0) -> dict[str, float]:
    """Train until so many differences were added and taken; then let everything arrive, and add up."""
    torch.set_num_threads(1)
    chance = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(NAMES), DIM, generator=chance)
    workers: dict[str, Worker] = {}

    def spawn(launch: Launch) -> Trainer:
        centre = centres[launch.place]
        rows = centre + 0.5 * torch.randn(64, DIM, generator=chance)
        kind = strategy_of("adpsgd")
        strategy = kind(kind.options_type(), Exchange(every_steps=1, per_second_max=0.0))
        worker = point_worker(
            launch.name,
            NAMES,
            rows,
            strategy,
            load_topology("complete", NAMES),
            launch.mailbox,
            recorder,
            batch_size=4,
            draws_seed=launch.place,
        )
        workers[launch.name] = worker
        return Trainer(worker, Compute(step_time_s=0.05, jitter=0.3).pace(launch.place, seed, 1.0 + launch.place))

    storm = Storm(random.Random(f"pairs {seed}"), loss=LOSS, duplication=DUPLICATION, delay_s=DELAY_S)
    world = World(NAMES, spawn, Network(Quality(latency_s=0.002), faults=storm, seed=seed), seed=seed)
    world.start_all()

    def done() -> int:
        return sum(worker.learner.ledger.exchanges for worker in workers.values()) // 2

    told = 0
    while done() < exchanges:
        world.run_for(5.0)
        if done() >= told + PROGRESS_EVERY:
            told = done()
            print(f"{told:,} exchanges", file=sys.stderr, flush=True)
    storm.calm = True
    for worker in workers.values():
        worker.gossip.endpoint.cadence = Cadence(1 << 30, 0.0)
    world.run_for(20.0)
    total = torch.zeros(DIM, dtype=torch.float64)
    for worker in workers.values():
        finish(worker.gossip, worker.learner.now_s)
        assert isinstance(worker.learner.optimizer, Recorder)
        total += worker.gossip.state.mass.whole(worker.learner) - worker.learner.optimizer.moved
    return {
        "exchanges": done(),
        "messages_lost": storm.lost,
        "steps": sum(worker.learner.step for worker in workers.values()),
        "mean_off": float(total.abs().max()) / len(NAMES),
    }


def run(key: Key) -> Cell:
    """The figures of a cell."""
    return {**conserved(key["exchanges"], key["seed"])}


def main() -> None:
    """Write results/table.md."""
    parser = command.parser(__doc__)
    parser.add_argument("exchanges", type=int, nargs="?", default=100_000)
    asked, kept = command.begin(parser), Path(__file__).parent / "results" / "cells.jsonl"
    key = {"exchanges": asked.exchanges, "seed": 0}
    cells = known(kept) if asked.report else fill(kept, [key], run)
    (row,) = ({name: cell[name] for name in COLUMNS} for cell in cells if cell["key"] == key)
    figures = command.line(f"{value:.3g}" if value < 1 else f"{value:,}" for value in row.values())
    command.write(kept.with_name("table.md"), "\n".join([command.line(row), "|" + " --- |" * len(row), figures]) + "\n")


if __name__ == "__main__":
    main()

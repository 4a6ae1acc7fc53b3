"""Virtual time to a validation loss, of four peers of which one may be ten times slower."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from torch import Tensor

from experiments.common.cells import Cell
from experiments.common.collective import STANDS_FOR_IT, Collective
from experiments.common.runs import completed, planned, settings_of
from experiments.common.timed import Timed
from gossipdistill.config.spec import WorkerSpec

PEERS, SLOWDOWN = 4, 10.0
COLLECTIVE = "all_reduce"
METHODS = (COLLECTIVE, "codistill_predictions", "codistill_checkpoints", "isolated")
SPEEDS = ("alike", "straggler")
STEPS = 400
"""Of each peer of ordinary speed."""
STEP_S = 0.02
LOOK_EVERY_S = 0.16
ROWS = 1_000
"""Validation rows of the loss that is looked at."""
Curve = list[tuple[float, float]]
"""(virtual seconds, loss) at each look that found a lower loss than all before."""


@contextmanager
def specs_of(key: dict[str, Any]) -> Iterator[list[WorkerSpec]]:
    """The peers of a run with a constant rate, so that no schedule knows when it will end."""
    method = key["method"]
    keys = {
        "topology": "complete",
        "task.shards": "disjoint",
        "task.pool": key["pool"],
        "task.part": key["part"],
        "train.lr": key["lr"],
        "train.lr_schedule": "constant",
        "train.step_time_s": STEP_S,
    }
    if method == "codistill_predictions":
        keys["strategy.transfer_batch_size"] = 32
    elif method == "codistill_checkpoints":
        keys["exchange.every_steps"] = 10
    steps = round(STEPS * key["scale"])
    with planned(
        peers=str(PEERS),
        task=f"experiments.common.tasks:{key['task']}",
        strategy=STANDS_FOR_IT if method == COLLECTIVE else method,
        steps=steps,
        seed=key["seed"],
        settings=settings_of(keys),
    ) as specs:
        if key["speeds"] == "straggler":
            specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
        yield specs


@dataclass
class Watched(Timed):
    """Looks at the loss of the peers of ordinary speed now and then: the mean over their single models."""

    lows: Curve = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sample_every_s = LOOK_EVERY_S

    def _sample(self) -> None:
        self._sampled_s = self.world.now
        losses = []
        for spec in self.healthy:
            learner, task = self.peers[spec.name].worker.learner, self.peers[spec.name].worker.task
            x, y = (part[:ROWS] for part in task.validation)
            losses.append(float(task.loss(learner.predict(learner.model, x), y)))
        note(self.lows, self.world.now, mean(losses))


def note(lows: Curve, now_s: float, loss: float) -> None:
    """Keep a look that is lower than all before."""
    if math.isfinite(loss) and (not lows or loss < lows[-1][1]):
        lows.append((round(now_s, 3), round(loss, 5)))


def run(key: dict[str, Any]) -> Cell:
    """The lows of one run."""
    with specs_of(key) as specs:
        if key["method"] != COLLECTIVE:
            simulation = completed(Watched(specs))
            return {"lows": simulation.lows, "ended_s": round(simulation.world.now, 3)}
    peers, lows = Collective(specs), []
    steps = specs[0].config.steps or 1
    x, y = (part[:ROWS] for part in peers.tasks[0].validation)
    for step in range(steps):
        peers.step(step / steps)
        if step % 4 == 3:
            note(lows, peers.wall_s, _loss(peers, x, y))
    return {"lows": lows, "ended_s": round(peers.wall_s, 3)}


def _loss(peers: Collective, x: Tensor, y: Tensor) -> float:
    return float(peers.tasks[0].loss(peers.learner.predict(peers.learner.model, x), y))


def seconds_to(lows: Sequence[Sequence[float]], target: float) -> float:
    """Virtual seconds until the loss was first at most the target; infinite where it never was."""
    return next((at_s for at_s, loss in lows if loss <= target), math.inf)

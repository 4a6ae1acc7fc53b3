"""What one cell of the comparison runs, and which of its settings were chosen on the tuning seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from experiments.common.cells import Cell, Key, Store
from experiments.common.collective import STANDS_FOR_IT, Collective
from experiments.common.lockstep import STEP_S, train, workers_of
from experiments.common.runs import planned, settings_of
from experiments.parity.compute import Step, steps_within
from experiments.parity.search import START, START_BOUNDED, Point, climb
from gossipdistill.config.spec import WorkerSpec

TASKS = ("adult", "fashion", "cifar")
DATA = ("disjoint", "same")
COUNTS = (2, 4, 8)
COLLECTIVE = "all_reduce"
METHODS = ("codistill_checkpoints", "codistill_predictions")
ALONE = "isolated"
TUNING_SEEDS = (100, 101)
"""No table shows them. The validation data of these runs are held out of the training part."""
BATCH = 32
STARTS: Mapping[str, Mapping[str, Any]] = {
    COLLECTIVE: {},
    "codistill_checkpoints": {"exchange.every_steps": 10},
    "codistill_predictions": {
        "strategy.transfer_batch_size": 32,
        "exchange.every_steps": 10,
        "task.transfer_examples": 500,
    },
    ALONE: {},
}
"""Beside the defaults: with 120 to 400 steps, checkpoints every 50 would be two or three exchanges."""
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "drops": {"train.lr_schedule": "drops"},
    "decaying": {"strategy.weight_decay_schedule": [1.0, 0.1, 0.0]},
    "weight 0.5": {"strategy.weight": 0.5},
    "weight 2": {"strategy.weight": 2.0},
    "weight 4": {"strategy.weight": 4.0},
    "temperature 2": {"strategy.temperature": 2.0},
    "every 2 steps": {"exchange.every_steps": 2, "exchange.per_second_max": 0},
    "every 40 steps": {"exchange.every_steps": 40},
    "one teacher": {"topology": "directed_ring"},
    "1,000 transfer rows": {"task.transfer_examples": 1_000, "exchange.every_steps": 20},
    "batch 16": {"train.batch_size": 16},
    "transfer batch 64": {"strategy.transfer_batch_size": 64},
    "burn-in of 60 steps": {"strategy.burn_in_steps": 60},
    "ramp of 100 steps": {"strategy.ramp_steps": 100},
    "clip auto": {"train.clip_norm": "auto"},
    "clip off": {"train.clip_norm": "off"},
    "equal updates": {},
}
"""Name -> keys. The last one is no key: as many steps as all_reduce makes, whatever they cost."""
TRIED: Mapping[str, Sequence[str]] = {
    COLLECTIVE: ("batch 16", "clip auto"),
    "codistill_checkpoints": (
        "weight 0.5",
        "weight 2",
        "weight 4",
        "temperature 2",
        "every 2 steps",
        "every 40 steps",
        "one teacher",
        "batch 16",
        "clip off",
        "burn-in of 60 steps",
        "ramp of 100 steps",
    ),
    "codistill_predictions": (
        "weight 0.5",
        "weight 2",
        "weight 4",
        "temperature 2",
        "every 40 steps",
        "1,000 transfer rows",
        "batch 16",
        "transfer batch 64",
        "clip off",
        "burn-in of 60 steps",
        "ramp of 100 steps",
    ),
}
"""What was tried in order to close the gap, all at equal compute."""

GAIN_MIN = 0.25
"""Points that a change must raise the tuning score by; less is noise."""


@dataclass(frozen=True)
class Size:
    """How much of everything: `updates` are the steps of all_reduce, whose passes are everybody's budget."""

    name: str
    updates: int
    pool: int
    options: Mapping[str, Mapping[str, Any]]


SIZES = {
    "small": Size("small", 400, 2_000, {}),
    "full": Size(
        "full", 2_000, 4_000, {"adult": {"hidden": [64, 64]}, "fashion": {"hidden": [64, 64]}, "cifar": {"side": 32}}
    ),
}


@dataclass(frozen=True)
class Setting:
    """A method on a task: everything but rate, decay and seed."""

    task: str
    data: str
    n: int
    method: str
    changes: tuple[str, ...] = ()
    size: str = "small"

    def with_changes(self, *changes: str) -> Setting:
        """The same with these changes instead."""
        return replace(self, changes=changes)

    @property
    def keys(self) -> dict[str, Any]:
        """Dotted keys of the run."""
        size = SIZES[self.size]
        keys: dict[str, Any] = {
            "topology": "complete",
            "task.shards": self.data,
            "task.pool": size.pool,
            "train.batch_size": BATCH,
            "train.step_time_s": STEP_S,
            **{f"task.{k}": v for k, v in size.options.get(self.task, {}).items()},
            **STARTS[self.method],
        }
        for change in self.changes:
            keys |= CHANGES[change]
        if "batch 16" in self.changes and self.method == METHODS[1] and "transfer batch 64" not in self.changes:
            keys["strategy.transfer_batch_size"] = 16
        return keys

    @property
    def step(self) -> Step:
        """What one step of a peer computes."""
        keys = self.keys
        batch = keys["train.batch_size"]
        if self.method == "codistill_checkpoints":
            return Step(batch, teachers=1 if keys["topology"] == "directed_ring" else self.n - 1)
        if self.method == "codistill_predictions":
            rows, every = keys["task.transfer_examples"], keys["exchange.every_steps"]
            return Step(batch, 0, keys["strategy.transfer_batch_size"], rows, every)
        return Step(batch)

    @property
    def steps(self) -> int:
        """As many as the budget of all_reduce allows."""
        updates = SIZES[self.size].updates
        if "equal updates" in self.changes:
            return updates
        return steps_within(updates * Step(BATCH).passes, self.step)

    def key(self, point: Point, seed: int, part: str) -> Key:
        """Of a cell."""
        return {
            "task": self.task,
            "data": self.data,
            "n": self.n,
            "method": self.method,
            "changes": list(self.changes),
            "lr": point[0],
            "weight_decay": point[1],
            "seed": seed,
            "part": part,
            "size": self.size,
        }

    def specs(self, point: Point, seed: int, part: str) -> AbstractContextManager[list[WorkerSpec]]:
        """The peers of a run."""
        return planned(
            peers=str(self.n),
            task=f"experiments.common.tasks:{self.task}",
            strategy=STANDS_FOR_IT if self.method == COLLECTIVE else self.method,
            steps=self.steps,
            seed=seed,
            settings=settings_of(self.keys | {"train.lr": point[0], "train.weight_decay": point[1], "task.part": part}),
        )


def run(setting: Setting, point: Point, seed: int, part: str) -> Cell:
    """Train once: figures of single models, never of an ensemble, and the processor time of one peer."""
    with setting.specs(point, seed, part) as specs:
        pass
    if setting.method == COLLECTIVE:
        peers = Collective(specs)
        for step in range(setting.steps):
            peers.step(step / setting.steps)
        figures, cpu_s = [peers.figures()], peers.cpu_ms_per_step * setting.steps / 1e3
    else:
        workers = workers_of(specs)
        began_s = time.process_time()
        train(workers, setting.steps)
        cpu_s = (time.process_time() - began_s) / len(workers)
        figures = [worker.evaluate()[1] for worker in workers]
    return {
        "accuracy": round(100 * sum(one["accuracy"] for one in figures) / len(figures), 3),
        "worst": round(100 * min(one["accuracy"] for one in figures), 3),
        "loss": round(sum(one["loss"] for one in figures) / len(figures), 4),
        "steps": setting.steps,
        "passes": round(setting.steps * setting.step.passes),
        "cpu_s": round(cpu_s, 3),
    }


@dataclass(frozen=True)
class Bench:
    """Settings that are chosen on the tuning seeds, from cells that are there or are run for it."""

    store: Store

    def cell(self, setting: Setting, point: Point, seed: int, part: str) -> Cell:
        """The cell, from the file or anew."""
        return self.store.cell(setting.key(point, seed, part), lambda: run(setting, point, seed, part))

    def tuning_score(self, setting: Setting, point: Point) -> float:
        """Mean accuracy over the tuning seeds, on held-out training examples."""
        found = [self.cell(setting, point, seed, "validation")["accuracy"] for seed in TUNING_SEEDS]
        return float(sum(found) / len(found))

    def tuned(self, setting: Setting, start: Point | None = None) -> Point:
        """Rate and weight decay of this method in this setting. Without a start both starts are tried: climbing from
        one may end on a small hill."""

        def score(point: Point) -> float:
            return self.tuning_score(setting, point)

        if start is not None or setting.method == COLLECTIVE or setting.changes == ("clip off",):
            return climb(score, start or START)
        here = climb(score, START_BOUNDED)
        return climb(score, START) if score(START) > score(here) else here

    def closest(self, setting: Setting) -> tuple[str, ...]:
        """The changes that raise the tuning score, taken greedily, the best first, at the rate and decay that are best
        without any."""
        point, chosen = self.tuned(setting), ()
        best = self.tuning_score(setting, point)
        while True:
            scores = {
                change: self.tuning_score(setting.with_changes(*chosen, change), point)
                for change in TRIED[setting.method]
                if change not in chosen and not _excluded(change, chosen)
            }
            change = max(scores, key=lambda name: scores[name], default="")
            if not change or scores[change] < best + GAIN_MIN:
                return chosen
            chosen, best = (*chosen, change), scores[change]


def _excluded(change: str, chosen: Sequence[str]) -> bool:
    """Whether it would undo one that is chosen already."""
    return any(set(CHANGES[change]) & set(CHANGES[one]) for one in chosen)

"""The two claims of Anil et al. 2018 (1804.03235) in small: time to a loss beside a straggler, and churn.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.codistillation_claims.run [--parts straggler,churn] [--tasks adult]
    python -m experiments.codistillation_claims.run --report      the tables again, from the cells that are there

One line of `results/cells.jsonl` for each run, so that an interrupted series goes on where it was. `--full` has more
steps, examples and seeds, and is kept apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.codistillation_claims import straggler
from experiments.codistillation_claims.churn import copies, ensembles, mean_of
from experiments.codistillation_claims.table import Times, churn_table, time_table
from experiments.common import command
from experiments.common.cells import Cell, NotThereError, Store
from experiments.common.lockstep import STEP_S, train, workers_of
from experiments.common.runs import planned, settings_of
from experiments.parity.search import START, Point, climb

RESULTS = Path(__file__).parent / "results"
TASKS = ("adult", "fashion")
PARTS = ("straggler", "churn")
TUNING_SEEDS = (100, 101)
"""No table shows them, and their validation data are held out of the training part."""
RATES = (0.025, 0.05, 0.1, 0.2)
ALONE = "isolated"
CHURN_ROWS = (ALONE, "self_distillation", "codistill_checkpoints", "codistill_predictions")
CHURN_STEPS = 400
TIMED = 5
"""So many of the seeds, the first ones, are timed."""
COPIES = 2
"""Models that are trained together, or alone beside one another."""


@dataclass(frozen=True)
class Claims:
    """Both parts, of one size."""

    store: Store
    pool: int
    scale: float
    """Of the steps."""

    # --- time to a loss -------------------------------------------------------------------------------------------

    def lows(self, task: str, method: str, speeds: str, rate: float, seed: int, part: str) -> straggler.Curve:
        """Of one run."""
        key: dict[str, Any] = {
            "what": "straggler",
            "task": task,
            "method": method,
            "speeds": speeds,
            "lr": rate,
            "seed": seed,
            "part": part,
            "pool": self.pool,
            "scale": self.scale,
        }
        found: straggler.Curve = self.store.cell(key, lambda: straggler.run(key))["lows"]
        return found

    def target(self, task: str, method: str) -> float:
        """The loss that this method reaches at its best rate on all tuning seeds: rounded up to two decimals."""
        ends = [
            max(self.lows(task, method, "straggler", rate, seed, "validation")[-1][1] for seed in TUNING_SEEDS)
            for rate in RATES
        ]
        return math.ceil(100 * min(ends)) / 100

    def rate(self, task: str, method: str, target: float) -> float:
        """That with which the tuning seeds reach the target soonest, beside a straggler; if no rate does, that of the
        lowest loss."""

        def score(rate: float) -> tuple[float, float]:
            curves = [self.lows(task, method, "straggler", rate, seed, "validation") for seed in TUNING_SEEDS]
            took = sum(straggler.seconds_to(lows, target) for lows in curves)
            return took, sum(lows[-1][1] for lows in curves)

        return min(RATES, key=score)

    def times(self, task: str, seeds: Sequence[int]) -> Iterator[Times]:
        """A line of the table for each target, speeds and method."""
        for of in (ALONE, straggler.COLLECTIVE):
            target = self.target(task, of)
            for method in straggler.METHODS:
                rate = self.rate(task, method, target)
                took = {
                    speeds: [
                        straggler.seconds_to(self.lows(task, method, speeds, rate, seed, "test"), target)
                        for seed in seeds
                    ]
                    for speeds in straggler.SPEEDS
                }
                yield Times(task, of, target, method, rate, took)

    # --- churn ----------------------------------------------------------------------------------------------------

    def retrained(self, task: str, strategy: str, point: Point, pair: int, part: str) -> Cell:
        """Churn between two runs on the same examples."""
        key: dict[str, Any] = {
            "what": "churn",
            "task": task,
            "strategy": strategy,
            "lr": point[0],
            "weight_decay": point[1],
            "pair": pair,
            "part": part,
            "pool": self.pool,
            "scale": self.scale,
        }
        return self.store.cell(key, lambda: self._retrain(key))

    def _retrain(self, key: dict[str, Any]) -> Cell:
        tables, judged = [], []
        for again in range(2):
            probabilities, y = self._predictions(key, again)
            tables.append(probabilities)
            judged += [_judged(p, y) for p in probabilities]
            judged_together = _judged(mean_of(probabilities), y)
        flips, distance = copies(*tables)
        both_flips, both_distance = ensembles(*tables)
        return {
            "flips": round(100 * flips, 3),
            "distance": round(distance, 5),
            "accuracy": round(sum(a for a, _ in judged) / len(judged), 3),
            "loss": round(sum(loss for _, loss in judged) / len(judged), 4),
            "ensemble": {
                "flips": round(100 * both_flips, 3),
                "distance": round(both_distance, 5),
                "accuracy": round(judged_together[0], 3),
                "loss": round(judged_together[1], 4),
            },
        }

    def _predictions(self, key: dict[str, Any], again: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What each of two models says about the validation inputs, and their labels."""
        keys = {
            "topology": "complete",
            "task.shards": "same",
            "task.pool": key["pool"],
            "task.part": key["part"],
            "task.data_seed": key["pair"],
            "train.lr": key["lr"],
            "train.weight_decay": key["weight_decay"],
            "train.step_time_s": STEP_S,
        }
        if key["strategy"] == "codistill_checkpoints":
            keys["exchange.every_steps"] = 10
        elif key["strategy"] != ALONE:
            keys["strategy.transfer_batch_size"] = 32
        steps = round(CHURN_STEPS * key["scale"])
        with planned(
            peers=str(COPIES),
            task=f"experiments.common.tasks:{key['task']}",
            strategy=key["strategy"],
            steps=steps,
            seed=10 * key["pair"] + again,
            settings=settings_of(keys),
        ) as specs:
            workers = workers_of(specs)
        train(workers, steps)
        return [worker.evaluate()[0].softmax(1) for worker in workers], workers[0].task.validation[1]

    def point(self, task: str) -> Point:
        """Rate and weight decay of a model alone on the tuning seeds; all rows have them."""

        def score(point: Point) -> float:
            found = [self.retrained(task, ALONE, point, seed, "validation")["accuracy"] for seed in TUNING_SEEDS]
            return float(sum(found) / len(found))

        return climb(score, START)

    def churns(self, task: str, seeds: Sequence[int]) -> dict[str, list[Cell]]:
        """Row -> its cells by pair."""
        point = self.point(task)
        found = {row: [self.retrained(task, row, point, pair, "test") for pair in seeds] for row in CHURN_ROWS}
        found["ensemble of two"] = [cell["ensemble"] for cell in found[ALONE]]
        return found


def _judged(p: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Accuracy (%) and loss (nats) of probabilities [rows, C]."""
    told = p.gather(1, y[:, None]).clamp_min(1e-12)
    return 100 * float((p.argmax(1) == y).float().mean()), float(-told.log().mean())


def main() -> None:
    """Every missing cell, then the tables."""
    parser = command.parser(__doc__, seeds=range(8))
    parser.add_argument("--tasks", type=command.words, default=list(TASKS))
    parser.add_argument("--parts", type=command.words, default=list(PARTS))
    command.add_store(parser)
    asked = command.begin(parser)
    claims = Claims(Store.of(RESULTS, asked), 8_000 if asked.full else 2_000, 4.0 if asked.full else 1.0)
    text, whole = "", True
    for part in asked.parts:
        for task in asked.tasks:
            try:
                if part == PARTS[0]:
                    text += time_table(task, list(claims.times(task, asked.seeds[:TIMED]))) + "\n"
                else:
                    text += churn_table(task, ALONE, claims.churns(task, asked.seeds)) + "\n"
            except NotThereError:
                text += f"{part}, {task}: not all cells are there yet\n\n"
                whole = False
    everything = (asked.tasks, asked.parts) == (list(TASKS), list(PARTS))
    if everything and whole and not asked.full:
        command.write(RESULTS / "table.md", text)
    else:
        print(text)


if __name__ == "__main__":
    main()

"""The two claims of Anil et al. 2018 (1804.03235) in small: time to a loss beside a straggler, and churn.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.codistillation_claims.run [--parts straggler,churn] [--tasks adult]
    python -m experiments.codistillation_claims.run --report      the tables again, from the cells that are there

One line of `results/cells.jsonl` for each run, so that an interrupted series goes on where it was. `--full` has more
steps, examples and seeds, and is kept apart.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.codistillation_claims import straggler
from experiments.codistillation_claims.churn import copies, ensembles, mean_of
from experiments.codistillation_claims.table import Times, churn_table, time_table
from experiments.common.cells import Cell, NotThereError, Store
from experiments.common.lockstep import STEP_S, train, workers_of
from experiments.parity.search import START, Point, climb
from gossipdistill.config.plan import Asked
from gossipdistill.simulation.run import plan_simulation

RESULTS = Path(__file__).parent / "results"
TASKS = ("adult", "fashion")
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
            "what": "straggler", "task": task, "method": method, "speeds": speeds, "lr": rate, "seed": seed,
            "part": part, "pool": self.pool, "scale": self.scale,
        }  # fmt: skip
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
            "what": "churn", "task": task, "strategy": strategy, "lr": point[0], "weight_decay": point[1],
            "pair": pair, "part": part, "pool": self.pool, "scale": self.scale,
        }  # fmt: skip
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
            "flips": round(100 * flips, 3), "distance": round(distance, 5),
            "accuracy": round(sum(a for a, _ in judged) / len(judged), 3),
            "loss": round(sum(loss for _, loss in judged) / len(judged), 4),
            "ensemble": {
                "flips": round(100 * both_flips, 3), "distance": round(both_distance, 5),
                "accuracy": round(judged_together[0], 3), "loss": round(judged_together[1], 4),
            },
        }  # fmt: skip

    def _predictions(self, key: dict[str, Any], again: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """What each of two models says about the validation inputs, and their labels."""
        keys = {
            "topology": "complete", "task.shards": "same", "task.pool": key["pool"], "task.part": key["part"],
            "task.data_seed": key["pair"], "train.lr": key["lr"], "train.weight_decay": key["weight_decay"],
            "train.step_time_s": STEP_S,
        }  # fmt: skip
        if key["strategy"] == "codistill_checkpoints":
            keys["exchange.every_steps"] = 10
        elif key["strategy"] != ALONE:
            keys["strategy.transfer_batch_size"] = 32
        steps = round(CHURN_STEPS * key["scale"])
        with tempfile.TemporaryDirectory() as out:
            specs = plan_simulation(
                Asked(
                    peers=str(COPIES),
                    task=f"experiments.common.tasks:{key['task']}",
                    strategy=key["strategy"],
                    steps=steps,
                    seed=10 * key["pair"] + again,
                    device="cpu",
                    data_dir=Path(os.environ["GOSSIPDISTILL_DATA"]) if "GOSSIPDISTILL_DATA" in os.environ else None,
                    out=Path(out),
                    settings=[f"{name}={value}" for name, value in keys.items()],
                )
            )
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--parts", default="straggler,churn")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--cpu-minutes", type=float, default=float("inf"), help="begin no cell after so many")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    path = RESULTS / ("full.jsonl" if asked.full else "cells.jsonl")
    store = Store(path, not asked.report, 60 * asked.cpu_minutes)
    claims = Claims(store, 8_000 if asked.full else 2_000, 4.0 if asked.full else 1.0)
    text, whole = "", True
    for part in asked.parts.split(","):
        for task in asked.tasks.split(","):
            try:
                if part == "straggler":
                    text += time_table(task, list(claims.times(task, seeds[:TIMED]))) + "\n"
                else:
                    text += churn_table(task, ALONE, claims.churns(task, seeds)) + "\n"
            except NotThereError:
                text += f"{part}, {task}: not all cells are there yet\n\n"
                whole = False
    everything = (asked.tasks, asked.parts) == (",".join(TASKS), "straggler,churn")
    if everything and whole and not asked.full:
        (RESULTS / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

"""A bed of tasks that no default was tuned on: every strategy that waits for nobody, against training alone.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.untuned.run      goes on where it was
    python -m experiments.untuned.run --report                       the table again, from the cells that are there
    ... --set train.clip_norm=1.0                                    another setting, kept apart as a variant
    ... --validation --seeds 100,101,102                             to choose settings by: never by test figures

One line of `results/cells.jsonl` for each finished cell, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.common.cells import Cell, Key, add, known, missing
from experiments.untuned.data import folder
from experiments.untuned.table import (
    ALONE,
    FAMILY,
    GRAPHS,
    OTHERS,
    SEEDS,
    SHARDS,
    TASKS,
    TEACHERS,
    Place,
    applies,
    gains,
    places,
    table,
)
from gossipdistill.config.plan import Asked
from gossipdistill.simulation.run import Simulation, plan_simulation
from gossipdistill.strategies import strategy_of

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STEPS = 750
SEEDS_OTHERS = 5
"""Of the strategies that are not of the family."""
PEERS = {GRAPHS[0]: ("4", "complete"), GRAPHS[1]: ("7", str(HERE / "irregular-7.toml"))}
SKEW = {
    "adult": ("task.skew=0.8", "task.classes_per_peer=1"),
    "synthetic": ("task.classes_per_peer=2",),
    "text": ("task.classes_per_peer=8",),
}
"""How labels are skewed where the product's own way (94 % of three classes) does not fit the number of classes."""
GROUPS = 'strategy.groups=[["ada", "bo", "dee"], ["cy", "eve", "fay", "gus"]]'
"""On the irregular graph, where neighbours in the roster are no groups: within each of these news gets round."""


@dataclass(frozen=True)
class Variant:
    """Settings beside the defaults, the part that models are judged on, and the share of the steps."""

    settings: tuple[str, ...] = ()
    part: str = "test"
    scale: float = 1.0

    @property
    def name(self) -> str:
        """For files; empty for what is shown."""
        words = [self.part] if self.part != "test" else []
        words += [f"scale={self.scale:g}"] if self.scale != 1.0 else []
        return "+".join([*words, *self.settings]).replace("/", "_")

    @property
    def path(self) -> Path:
        """Where its cells are."""
        return RESULTS / (f"{self.name}.cells.jsonl" if self.name else "cells.jsonl")

    def fill(self, wanted: Iterable[Key]) -> None:
        """Run what is missing of these cells, in their order."""
        keys = list(missing(self.path, wanted))
        for number, key in enumerate(keys, start=1):
            began_s = time.process_time()
            figures = simulated(key, self)
            cell = add(self.path, key, {**figures, "cpu_s": round(time.process_time() - began_s, 2)})
            print(f"{number} of {len(keys)}: {cell}", flush=True)

    def settings_of(self, cell: Key) -> list[str]:
        """All settings of a cell; those of a strategy only where the strategy has such a key."""
        known = strategy_of(cell["strategy"]).options_type.model_fields
        fitting = [one for one in self.settings if not one.startswith("strategy.") or _key_of_strategy(one) in known]
        skewed = cell["shards"] == "skewed"
        shards = ["task.shards=label_skew", *SKEW.get(cell["task"], ())] if skewed else ["task.shards=disjoint"]
        groups = [GROUPS] if cell["strategy"] == "codistill_groups" and cell["graph"] == GRAPHS[1] else []
        return [*shards, f"task.part={self.part}", *groups, *fitting]


def _key_of_strategy(setting: str) -> str:
    return setting.partition("=")[0].removeprefix("strategy.").partition(".")[0]


def keys_of(strategies: Iterable[str], seeds: Iterable[int], where: Sequence[Place]) -> Iterator[Key]:
    """The cells, seed by seed, so that every row has one early. Where a strategy cannot run there is none."""
    for seed in seeds:
        for task, shards, graph in where:
            for strategy in strategies:
                if applies(strategy, graph, task):
                    yield {"task": task, "shards": shards, "graph": graph, "strategy": strategy, "seed": seed}


def more_seeds(cells: Sequence[Cell]) -> list[Key]:
    """The next seed of each teacher at each place where its interval is too wide, and of training alone there."""
    found: list[Key] = []
    for (place, strategy), gain in gains(cells).items():
        if strategy in TEACHERS and gain.wide and gain.seeds >= SEEDS:
            found += [key for key in keys_of((ALONE, strategy), [gain.seeds], [place]) if key not in found]
    return found


def simulated(cell: Key, variant: Variant) -> Cell:
    """Accuracy in percent of each peer, who came to a bad end and how, and megabytes sent per peer."""
    peers, topology = PEERS[cell["graph"]]
    with tempfile.TemporaryDirectory() as out:
        asked = Asked(
            run_file=HERE / "bed.toml",
            peers=peers,
            topology=topology,
            task=f"experiments.untuned.tasks:{cell['task']}",
            strategy=cell["strategy"],
            steps=max(round(STEPS * variant.scale), 1),
            seed=cell["seed"],
            settings=variant.settings_of(cell),
            data_dir=folder(),
            device="cpu",
            out=Path(out),
            here=HERE.parents[1],
        )
        simulation = Simulation(plan_simulation(asked), stopwatch=time.perf_counter)
        simulation.run()
    entries = simulation.summary.peers
    if simulation.figures.violations:
        raise RuntimeError(f"{cell}: {simulation.figures.violations[0]}")
    return {
        "accuracy": {entry.name: _percent(entry.val_accuracy) for entry in entries},
        "bad_ends": {entry.name: entry.status for entry in entries if entry.status != "finished"},
        "megabytes": round(sum(entry.bytes_sent for entry in entries) / len(entries) / 1e6, 3),
    }


def _percent(accuracy: float | None) -> float:
    """0 where a model has no figure any more."""
    return round(100 * accuracy, 2) if accuracy is not None and math.isfinite(accuracy) else 0.0


def asked_for() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", help=f"unset: 0 to {SEEDS - 1}, of other strategies 0 to {SEEDS_OTHERS - 1}")
    parser.add_argument("--rows", default=",".join((*FAMILY, *OTHERS)), help="strategies")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--shards", default=",".join(SHARDS))
    parser.add_argument("--graphs", default=",".join(GRAPHS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="kept apart as a variant")
    parser.add_argument("--validation", action="store_true", help="judge by the validation part; kept apart")
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {STEPS} steps; kept apart")
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser.parse_args()


def main() -> None:
    """Every missing cell, the codistillation family first, then the table."""
    asked = asked_for()
    variant = Variant(tuple(asked.set), "validation" if asked.validation else "test", asked.scale)
    where = [
        place
        for place in places()
        if place[0] in asked.tasks.split(",")
        and place[1] in asked.shards.split(",")
        and place[2] in asked.graphs.split(",")
    ]
    rows = asked.rows.split(",")
    for row in rows:
        strategy_of(row)
    torch.set_num_threads(1)
    family, others = [row for row in FAMILY if row in rows], [row for row in OTHERS if row in rows]
    if not asked.report:
        seeds = [int(seed) for seed in asked.seeds.split(",")] if asked.seeds else None
        for part in (family[:3], family[3:]):  # groups average weights as well: after the two that do not
            variant.fill(keys_of(part, seeds or range(SEEDS), where))
        while rows == [*FAMILY, *OTHERS] and not seeds and (wanted := more_seeds(known(variant.path))):
            variant.fill(wanted)
        variant.fill(keys_of(others, seeds or range(SEEDS_OTHERS), where))
    text = table(known(variant.path))
    if not variant.name:
        (RESULTS / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

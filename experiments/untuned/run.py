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
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
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
from gossipdistill.simulation.run import Simulation
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
    with planned(
        run_file=HERE / "bed.toml",
        peers=peers,
        topology=topology,
        task=f"experiments.untuned.tasks:{cell['task']}",
        strategy=cell["strategy"],
        steps=max(round(STEPS * variant.scale), 1),
        seed=cell["seed"],
        settings=variant.settings_of(cell),
    ) as specs:
        entries = completed(Simulation(specs, stopwatch=time.perf_counter)).summary.peers
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
    parser = command.parser(__doc__, jobs=True)
    unset = f"unset: 0 to {SEEDS - 1}, of other strategies 0 to {SEEDS_OTHERS - 1}"
    parser.add_argument("--seeds", type=command.numbers, help=unset)
    everything = {"rows": [*FAMILY, *OTHERS], "tasks": TASKS, "shards": SHARDS, "graphs": GRAPHS}
    for name, default in everything.items():
        parser.add_argument(f"--{name}", type=command.words, default=list(default))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="kept apart as a variant")
    parser.add_argument("--validation", action="store_true", help="judge by the validation part; kept apart")
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {STEPS} steps; kept apart")
    return command.begin(parser)


def main() -> None:
    """Every missing cell, the codistillation family first, then the table."""
    asked = asked_for()
    variant = Variant(tuple(asked.set), "validation" if asked.validation else "test", asked.scale)
    where = [
        (task, shards, graph)
        for task, shards, graph in places()
        if task in asked.tasks and shards in asked.shards and graph in asked.graphs
    ]
    rows, run = asked.rows, partial(simulated, variant=variant)
    for row in rows:
        strategy_of(row)
    family, others = [row for row in FAMILY if row in rows], [row for row in OTHERS if row in rows]
    if not asked.report:
        for part in (family[:3], family[3:]):  # groups average weights as well: after the two that do not
            fill(variant.path, keys_of(part, asked.seeds or range(SEEDS), where), run, asked.jobs)
        while rows == [*FAMILY, *OTHERS] and not asked.seeds and (wanted := more_seeds(known(variant.path))):
            fill(variant.path, wanted, run, asked.jobs)
        fill(variant.path, keys_of(others, asked.seeds or range(SEEDS_OTHERS), where), run, asked.jobs)
    text = table(known(variant.path))
    if variant.name:
        print(text)
    else:
        command.write(RESULTS / "table.md", text)


if __name__ == "__main__":
    main()

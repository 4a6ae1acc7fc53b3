"""`python -m experiments.mass.stragglers`: push-sum beside a peer that is 10 or 30 times slower, on Fashion-MNIST.

Four peers on skewed labels, momentum 0.9, everything else at its default: the setting of `which_strategy`, with fewer
steps and more seeds. Looked at when the three peers of ordinary speed are through.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.mass.stragglers [--seeds 0,1,2] [--untriggered 3] [--report]

Finished cells are kept in results/stragglers.jsonl, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from experiments.common import command
from experiments.common.cells import Key, fill, known
from experiments.common.runs import completed, planned
from experiments.mass import stragglers_table
from experiments.mass.watched import Watched
from gossipdistill.learning import mass
from gossipdistill.learning.flat import flat_parameters

HERE = Path(__file__).parent
CELLS = HERE / "results" / "stragglers.jsonl"
STRATEGIES, ALONE = ("sgp", "osgp", "async_gradient_push"), "isolated"
STEPS, SLOWDOWNS, UNBOUNDED = 400, (10.0, 30.0), 1e9
TRIGGER = "PRESSING_WEIGHT"
"""The weight in `learning/mass.py` above which a peer publishes at its next step; without it, nobody does."""


def run(key: Key) -> dict[str, Any]:
    """The figures of one cell; accuracies in per cent, on the official 10,000 test images."""
    settings = [f"strategy.stretch_max={key['stretch_max']}"] if "stretch_max" in key else []
    trigger = math.inf if key.get("untriggered") else getattr(mass, TRIGGER, math.inf)
    with (
        mock.patch.object(mass, TRIGGER, trigger, create=True),
        planned(
            run_file=HERE.parent / "which_strategy" / "skewed.toml",
            strategy=key["strategy"],
            steps=STEPS,
            seconds=100.0 * STEPS,
            seed=key["seed"],
            settings=settings,
        ) as specs,
    ):
        specs[-1] = replace(specs[-1], slowdown=key["slowdown"])
        simulation = completed(Watched(specs))
    entries = {entry.name: entry for entry in simulation.summary.peers}
    models = [flat_parameters(worker.learner.model) for worker in simulation.workers.values()]
    return {
        "accuracy": [round(100 * entries[spec.name].val_accuracy, 2) for spec in simulation.healthy],
        "finite": all(bool(model.isfinite().all()) for model in models),
        "heaviest": round(max(simulation.heaviest.values()), 4),
        "kept": round(max(simulation.kept.values()), 4),
        "megabytes": round(sum(entries[spec.name].bytes_sent for spec in simulation.healthy) / 3e6, 3),
    }


def keys(seeds: Sequence[int], untriggered: int) -> Iterator[Key]:
    """Training alone, the defaults, without the bound, and without the trigger."""
    for place, seed in enumerate(seeds):
        yield {"strategy": ALONE, "slowdown": SLOWDOWNS[0], "seed": seed}
        for slowdown in SLOWDOWNS:
            for strategy in STRATEGIES:
                key = {"strategy": strategy, "slowdown": slowdown, "seed": seed}
                yield key
                yield {**key, "stretch_max": UNBOUNDED}
                if place < untriggered:
                    yield {**key, "untriggered": True}
                    yield {**key, "stretch_max": UNBOUNDED, "untriggered": True}


def main() -> None:
    """Every missing cell, then the table."""
    parser = command.parser(__doc__, seeds=range(10), jobs=True)
    parser.add_argument("--untriggered", type=int, default=3, help="of them, so many without the trigger as well")
    parser.add_argument("--cells", type=Path, default=CELLS)
    asked = command.begin(parser)
    if not asked.report:
        fill(asked.cells, keys(asked.seeds, asked.untriggered), run, asked.jobs)
    command.write(HERE / "results" / "stragglers.md", stragglers_table.table(known(asked.cells)))


if __name__ == "__main__":
    main()

"""`python -m experiments.mass.stragglers`: push-sum beside a peer that is 10 or 30 times slower, on Fashion-MNIST.

Four peers on skewed labels, momentum 0.9, everything else at its default: the setting of `which_strategy`, with fewer
steps and more seeds. Looked at when the three peers of ordinary speed are through.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.mass.stragglers [--seeds 10] [--untriggered 3] [--report]

Finished cells are kept in results/stragglers.jsonl, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from experiments.common.cells import Key, add, known, missing
from experiments.mass import stragglers_table
from experiments.mass.watched import Watched
from gossipdistill.config.plan import Asked
from gossipdistill.learning import mass
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.simulation.run import plan_simulation

HERE = Path(__file__).parent
CELLS = HERE / "results" / "stragglers.jsonl"
STRATEGIES, ALONE = ("sgp", "osgp", "async_gradient_push"), "isolated"
STEPS, SLOWDOWNS, UNBOUNDED = 400, (10.0, 30.0), 1e9
TRIGGER = "PRESSING_WEIGHT"
"""The weight in `learning/mass.py` above which a peer publishes at its next step; without it, nobody does."""


def run(key: Key) -> dict[str, Any]:
    """The figures of one cell; accuracies in per cent, on the official 10,000 test images."""
    settings = [f"strategy.stretch_max={key['stretch_max']}"] if "stretch_max" in key else []
    with tempfile.TemporaryDirectory() as out, mock.patch.object(
        mass, TRIGGER, math.inf if key.get("untriggered") else getattr(mass, TRIGGER, math.inf), create=True
    ):  # fmt: skip
        asked = Asked(
            run_file=HERE.parent / "which_strategy" / "skewed.toml", strategy=key["strategy"], steps=STEPS,
            seconds=100.0 * STEPS, seed=key["seed"], device="cpu", settings=settings,
            data_dir=Path(os.environ["GOSSIPDISTILL_DATA"]), out=Path(out),
        )  # fmt: skip
        specs = plan_simulation(asked)
        specs[-1] = replace(specs[-1], slowdown=key["slowdown"])
        simulation = Watched(specs)
        simulation.run()
    if simulation.figures.violations:
        raise RuntimeError(f"{key}: {simulation.figures.violations[0]}")
    entries = {entry.name: entry for entry in simulation.summary.peers}
    models = [flat_parameters(worker.learner.model) for worker in simulation.workers.values()]
    return {
        "accuracy": [round(100 * entries[spec.name].val_accuracy, 2) for spec in simulation.healthy],
        "finite": all(bool(model.isfinite().all()) for model in models),
        "heaviest": round(max(simulation.heaviest.values()), 4),
        "kept": round(max(simulation.kept.values()), 4),
        "megabytes": round(sum(entries[spec.name].bytes_sent for spec in simulation.healthy) / 3e6, 3),
    }


def keys(seeds: int, untriggered: int) -> Iterator[Key]:
    """Training alone, the defaults, without the bound, and without the trigger."""
    for seed in range(seeds):
        yield {"strategy": ALONE, "slowdown": SLOWDOWNS[0], "seed": seed}
        for slowdown in SLOWDOWNS:
            for strategy in STRATEGIES:
                key = {"strategy": strategy, "slowdown": slowdown, "seed": seed}
                yield key
                yield {**key, "stretch_max": UNBOUNDED}
                if seed < untriggered:
                    yield {**key, "untriggered": True}
                    yield {**key, "stretch_max": UNBOUNDED, "untriggered": True}


def main() -> None:
    """Every missing cell, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--untriggered", type=int, default=3, help="of them, so many without the trigger as well")
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.report:
        wanted = list(missing(asked.cells, keys(asked.seeds, asked.untriggered)))
        for number, key in enumerate(wanted, start=1):
            began_s = time.process_time()
            cell = add(asked.cells, key, run(key))
            cpu_s = time.process_time() - began_s
            print(f"{number} of {len(wanted)}: {cell}, {cpu_s:.1f} s", flush=True)
    text = stragglers_table.table(known(asked.cells))
    (HERE / "results" / "stragglers.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

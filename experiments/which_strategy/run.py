"""Which strategy when: every strategy on Fashion-MNIST, in virtual time, and the one table to choose by.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.which_strategy.run [--seeds 0,1,2] [--rows sgp,osgp] [--scale 1.0]
    python -m experiments.which_strategy.run --report       the table again, from the cells that are there

One line of `results/cells.jsonl` for each finished cell, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.common.cells import add, known, missing
from experiments.common.collective import STANDS_FOR_IT, Collective
from experiments.common.timed import Timed
from experiments.which_strategy.table import ALONE, CALM, SETTINGS, STRAGGLER, Cell, Series, table
from gossipdistill.config.plan import Asked
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.simulation.run import plan_simulation
from gossipdistill.strategies import STRATEGIES, strategy_of

HERE = Path(__file__).parent
CELLS = HERE / "results" / "cells.jsonl"
STEPS, SLOWDOWN = 750, 10.0
COLLECTIVE = "all_reduce"


def keys_of(rows: list[str], seeds: list[int], scale: float) -> Iterator[Cell]:
    """All cells, seed by seed, so that every row has one early. The straggler is in the skewed setting alone."""
    for seed in seeds:
        for row in rows:
            for setting, speeds in ((SETTINGS[0], CALM), (SETTINGS[1], CALM), (SETTINGS[1], STRAGGLER)):
                yield {"strategy": row, "setting": setting, "speeds": speeds, "seed": seed, "scale": scale}


def longer_keys(times: float | None, seeds: list[int], scale: float) -> Iterator[Cell]:
    """Training alone with so many times the steps: what the processor time of a teacher would have bought."""
    for seed in seeds if times is not None else ():
        for setting in SETTINGS:
            yield {"strategy": ALONE, "setting": setting, "speeds": CALM, "seed": seed, "scale": scale, "times": times}


def specs_of(cell: Cell, out: Path) -> list[WorkerSpec]:
    """The four peers of a cell; with a straggler, the last of them is slow."""
    steps = max(round(STEPS * cell["scale"] * cell.get("times", 1.0)), 1)
    strategy = cell["strategy"] if cell["strategy"] != COLLECTIVE else STANDS_FOR_IT
    asked = Asked(
        run_file=HERE / f"{cell['setting']}.toml",
        strategy=strategy,
        steps=steps,
        seconds=100.0 * steps,
        seed=cell["seed"],
        device="cpu",
        data_dir=Path(os.environ["GOSSIPDISTILL_DATA"]) if "GOSSIPDISTILL_DATA" in os.environ else None,
        out=out,
    )
    specs = plan_simulation(asked)
    if cell["speeds"] == STRAGGLER:
        specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
    return specs


def simulated(cell: Cell) -> dict[str, Any]:
    """Figures of one cell: of the healthy peers, and the processor time of a step of all."""
    with tempfile.TemporaryDirectory() as out:
        simulation = Timed(specs_of(cell, Path(out)))
        simulation.run()
    entries = {entry.name: entry for entry in simulation.summary.peers}
    healthy = [entries[spec.name] for spec in simulation.healthy]
    if simulation.figures.violations:
        raise RuntimeError(f"{cell}: {simulation.figures.violations[0]}")
    return {
        "accuracy": {entry.name: round(100 * entry.val_accuracy, 2) for entry in healthy},
        "megabytes": round(sum(entry.bytes_sent for entry in healthy) / len(healthy) / 1e6, 3),
        "wall_s": round(max(simulation.through_s[spec.name] for spec in simulation.healthy), 3),
        "cpu_ms_per_step": round(1e3 * simulation.world.learner_s / sum(e.steps for e in entries.values()), 4),
    }


def collective(cell: Cell) -> dict[str, Any]:
    """The same of all_reduce, which has a transport of its own: its arithmetic here, its time from the same paces."""
    with tempfile.TemporaryDirectory() as out:
        specs = specs_of(cell, Path(out))
    peers, steps = Collective(specs), specs[0].config.steps or 1
    for step in range(steps):
        peers.step(step / steps)
    accuracy = round(100 * peers.figures()["accuracy"], 2)
    return {
        "accuracy": {spec.name: accuracy for spec in specs if spec.slowdown == 1.0},
        "megabytes": round(peers.sent_bytes / 1e6, 3),
        "wall_s": round(peers.wall_s, 3),
        "wall_overlapped_s": round(peers.wall_overlapped_s, 3),
        "cpu_ms_per_step": round(peers.cpu_ms_per_step, 4),
    }


def cells_of(scale: float) -> list[Cell]:
    """The cells that are there of this scale."""
    return [cell for cell in known(CELLS) if cell["key"]["scale"] == scale]


def fill(keys: Iterable[Cell]) -> None:
    """Run the cells that are missing of these."""
    wanted = list(missing(CELLS, keys))
    for number, cell in enumerate(wanted, start=1):
        began_s = time.process_time()
        figures = collective(cell) if cell["strategy"] == COLLECTIVE else simulated(cell)
        cpu_s = round(time.process_time() - began_s, 2)
        add(CELLS, cell, {**figures, "cpu_s": cpu_s})
        print(f"{number} of {len(wanted)}: {cell} {figures}, {cpu_s} s of processor time", flush=True)


def main() -> None:
    """Every missing cell, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default=",".join(STRATEGIES))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {STEPS} steps; other scales are kept apart")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    rows, seeds = asked.rows.split(","), [int(seed) for seed in asked.seeds.split(",")]
    for row in rows:
        strategy_of(row)
    torch.set_num_threads(1)
    if not asked.report:
        fill(keys_of(rows, seeds, asked.scale))
        if ALONE in rows:  # what a step costs is known by now
            fill(longer_keys(Series(cells_of(asked.scale)).times, seeds, asked.scale))
    text = table(cells_of(asked.scale))
    if asked.scale == 1.0:
        (HERE / "results" / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

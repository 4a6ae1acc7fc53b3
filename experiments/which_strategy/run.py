"""Which strategy when: every strategy on Fashion-MNIST, in virtual time, and the one table to choose by.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.which_strategy.run [--seeds 0,1,2] [--rows sgp,osgp] [--scale 1.0]
    python -m experiments.which_strategy.run --report       the table again, from the cells that are there

One line of `results/cells.jsonl` for each finished cell, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.common import command
from experiments.common.cells import fill, known
from experiments.common.collective import STANDS_FOR_IT, Collective
from experiments.common.runs import completed, planned
from experiments.common.timed import Timed
from experiments.which_strategy.table import ALONE, CALM, SETTINGS, STRAGGLER, Cell, Series, table
from gossipdistill.config.spec import WorkerSpec
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


@contextmanager
def specs_of(cell: Cell) -> Iterator[list[WorkerSpec]]:
    """The four peers of a cell; with a straggler, the last of them is slow."""
    steps = max(round(STEPS * cell["scale"] * cell.get("times", 1.0)), 1)
    strategy = cell["strategy"] if cell["strategy"] != COLLECTIVE else STANDS_FOR_IT
    run_file = HERE / f"{cell['setting']}.toml"
    with planned(run_file=run_file, strategy=strategy, steps=steps, seconds=100.0 * steps, seed=cell["seed"]) as specs:
        if cell["speeds"] == STRAGGLER:
            specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
        yield specs


def figures_of(cell: Cell) -> dict[str, Any]:
    """Figures of one cell: of the healthy peers, and the processor time of a step of all."""
    with specs_of(cell) as specs:
        return collective(specs) if cell["strategy"] == COLLECTIVE else simulated(specs)


def simulated(specs: list[WorkerSpec]) -> dict[str, Any]:
    """Those of a strategy."""
    simulation = completed(Timed(specs))
    entries = {entry.name: entry for entry in simulation.summary.peers}
    healthy = [entries[spec.name] for spec in simulation.healthy]
    return {
        "accuracy": {entry.name: round(100 * entry.val_accuracy, 2) for entry in healthy},
        "megabytes": round(sum(entry.bytes_sent for entry in healthy) / len(healthy) / 1e6, 3),
        "wall_s": round(max(simulation.through_s[spec.name] for spec in simulation.healthy), 3),
        "cpu_ms_per_step": round(1e3 * simulation.world.learner_s / sum(e.steps for e in entries.values()), 4),
    }


def collective(specs: list[WorkerSpec]) -> dict[str, Any]:
    """Those of all_reduce, which has a transport of its own: its arithmetic here, its time from the same paces."""
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


def main() -> None:
    """Every missing cell, then the table."""
    parser = command.parser(__doc__, seeds=(0, 1, 2), jobs=True)
    parser.add_argument("--rows", type=command.words, default=list(STRATEGIES))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {STEPS} steps; other scales are kept apart")
    asked = command.begin(parser)
    for row in asked.rows:
        strategy_of(row)
    if not asked.report:
        fill(CELLS, keys_of(asked.rows, asked.seeds, asked.scale), figures_of, asked.jobs)
        if ALONE in asked.rows:  # what a step costs is known by now
            times = Series(cells_of(asked.scale)).times
            fill(CELLS, longer_keys(times, asked.seeds, asked.scale), figures_of, asked.jobs)
    text = table(cells_of(asked.scale))
    if asked.scale == 1.0:
        command.write(HERE / "results" / "table.md", text)
    else:
        print(text)


if __name__ == "__main__":
    main()

"""Predictions with top-k against checkpoints, at equal bytes, on a language: every run, in virtual time, and the table.

GOSSIPDISTILL_DATA=FOLDER python -m experiments.char_lm_equal_bytes.run       all runs that are missing, then the table
python -m experiments.char_lm_equal_bytes.run --report                        the table from the committed results
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
from experiments.common.spread import mean_and_error
from gossipdistill.simulation.run import Simulation

HERE = Path(__file__).parent
CELLS = HERE / "results" / "cells.jsonl"
SEEDS = (0, 1, 2)
ALONE, BYTES = "alone", "predictions, top 8"
TRANSFER_BATCH = "strategy.transfer_batch_size=32"
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    ALONE: ("isolated", ()),
    "control: its own past": ("self_distillation", (TRANSFER_BATCH, "exchange.every_steps=20")),
    # 1,000 rows of 8 values, 8 indices and a rest: 34,000 bytes.
    BYTES: ("codistill_predictions", (TRANSFER_BATCH, "exchange.every_steps=20", "exchange.encoding=top_k:8")),
    # 261 rows of 65 values: 33,930 bytes; the other rows in the exchanges after.
    "predictions, all 65, a quarter of the rows": (
        "codistill_predictions",
        (TRANSFER_BATCH, "exchange.every_steps=20", "strategy.coordinated_rows=261"),
    ),
    # 18,017 parameters in half precision: 36,034 bytes, every 21 steps.
    "checkpoints, half precision": ("codistill_checkpoints", ("exchange.every_steps=21", "exchange.encoding=half")),
}


def simulated(key: Key) -> Cell:
    """One run: bits per character and accuracy of each peer, and megabytes sent per peer."""
    strategy, settings = ROWS[key["row"]]
    run_file = HERE / "run.toml"
    with planned(run_file=run_file, strategy=strategy, seconds=9.0, seed=key["seed"], settings=settings) as specs:
        peers = completed(Simulation(specs)).summary.peers
    if any(peer.steps != specs[0].config.steps for peer in peers):
        raise RuntimeError(f"{key}: not everybody finished")
    return {
        "bits": {peer.name: round(peer.metrics["bits_per_character"], 4) for peer in peers},
        "accuracy": {peer.name: round(100 * peer.val_accuracy, 2) for peer in peers},
        "megabytes": round(sum(peer.bytes_sent for peer in peers) / len(peers) / 1e6, 3),
    }


def table(cells: Iterable[Cell]) -> str:
    """Means over peers and seeds; what differs from training alone is paired by seed."""
    runs = {(cell["key"]["row"], cell["key"]["seed"]): cell for cell in cells}
    lines = [
        "| | bits per character | against alone | against predictions, top 8 | accuracy % | MB sent per peer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        seeds = sorted(seed for name, seed in runs if name == row)
        if not seeds:
            continue
        entries = [row, f"{_mean(runs, row, seeds, 'bits'):.3f}"]
        for base in (ALONE, BYTES):
            paired = [seed for seed in seeds if (base, seed) in runs]
            differences = [_mean(runs, row, [seed], "bits") - _mean(runs, base, [seed], "bits") for seed in paired]
            entries.append("{:+.3f} ± {:.3f}".format(*mean_and_error(differences)) if row != base else "-")
        entries.append(f"{_mean(runs, row, seeds, 'accuracy'):.1f}")
        entries.append(f"{sum(runs[row, seed]['megabytes'] for seed in seeds) / len(seeds):.2f}")
        lines.append(command.line(entries))
    return "\n".join(lines) + "\n"


def _mean(runs: dict[tuple[str, int], Cell], row: str, seeds: list[int], what: str) -> float:
    values = [value for seed in seeds for value in runs[row, seed][what].values()]
    return float(sum(values) / len(values))


def main() -> None:
    """Every missing run, then the table."""
    asked = command.begin(command.parser(__doc__, SEEDS, jobs=True))
    if not asked.report:
        fill(CELLS, ({"row": row, "seed": seed} for seed in asked.seeds for row in ROWS), simulated, asked.jobs)
    command.write(HERE / "results" / "table.md", table(known(CELLS)))


if __name__ == "__main__":
    main()

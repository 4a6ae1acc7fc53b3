"""Predictions with top-k against checkpoints, at equal bytes, on a language: every run, in virtual time, and the table.

GOSSIPDISTILL_DATA=FOLDER python -m experiments.char_lm_equal_bytes.run       all runs that are missing, then the table
python -m experiments.char_lm_equal_bytes.run --report                        the table from the committed results
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gossipdistill.config.plan import Asked
from gossipdistill.simulation.run import Simulation, plan_simulation

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "runs.jsonl"
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


def simulate(row: str, seed: int) -> dict[str, Any]:
    """One run: bits per character and accuracy of each peer, and megabytes sent per peer."""
    strategy, settings = ROWS[row]
    began_s = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        asked = Asked(
            run_file=HERE / "run.toml",
            strategy=strategy,
            seconds=9.0,
            seed=seed,
            settings=settings,
            data_dir=Path(os.environ["GOSSIPDISTILL_DATA"]) if "GOSSIPDISTILL_DATA" in os.environ else None,
            device="cpu",
            out=Path(out),
        )
        simulation = Simulation(plan_simulation(asked))
        code = simulation.run()
    peers = simulation.summary.peers
    if code or any(peer.steps != simulation.specs[0].config.steps for peer in peers):
        raise RuntimeError(f"{row}, seed {seed}: not everybody finished")
    return {
        "row": row,
        "seed": seed,
        "bits": {peer.name: round(peer.metrics["bits_per_character"], 4) for peer in peers},
        "accuracy": {peer.name: round(100 * peer.val_accuracy, 2) for peer in peers},
        "megabytes": round(sum(peer.bytes_sent for peer in peers) / len(peers) / 1e6, 3),
        "cpu_s": round(time.process_time() - began_s, 1),
    }


def known() -> list[dict[str, Any]]:
    """The runs that are there."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """(mean, standard error of the mean)."""
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return mean, (spread / len(values)) ** 0.5


def table() -> str:
    """Means over peers and seeds; what differs from training alone is paired by seed."""
    runs = {(run["row"], run["seed"]): run for run in known()}
    lines = [
        "| | bits per character | against alone | against predictions, top 8 | accuracy % | MB sent per peer |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        seeds = [seed for seed in SEEDS if (row, seed) in runs]
        if not seeds:
            continue
        cells = [row, f"{_mean(runs, row, seeds, 'bits'):.3f}"]
        for base in (ALONE, BYTES):
            paired = [seed for seed in seeds if (base, seed) in runs]
            differences = [_mean(runs, row, [seed], "bits") - _mean(runs, base, [seed], "bits") for seed in paired]
            cells.append("{:+.3f} ± {:.3f}".format(*mean_and_error(differences)) if row != base else "-")
        cells.append(f"{_mean(runs, row, seeds, 'accuracy'):.1f}")
        cells.append(f"{sum(runs[row, seed]['megabytes'] for seed in seeds) / len(seeds):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean(runs: dict[tuple[str, int], dict[str, Any]], row: str, seeds: list[int], what: str) -> float:
    values = [value for seed in seeds for value in runs[row, seed][what].values()]
    return float(sum(values) / len(values))


def main() -> None:
    """Every missing run, then the table."""
    done = {(run["row"], run["seed"]) for run in known()}
    missing = [(row, seed) for seed in SEEDS for row in ROWS if (row, seed) not in done and "--report" not in sys.argv]
    for row, seed in missing:
        found = simulate(row, seed)
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(found, flush=True)
    (RESULTS.parent / "table.md").write_text(table(), encoding="utf-8")
    print(table())


if __name__ == "__main__":
    main()

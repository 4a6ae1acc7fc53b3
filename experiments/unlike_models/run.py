"""Unlike models teach one another: every run of this experiment, in virtual time, and the table of its results.

    python -m experiments.unlike_models.run            all runs, then the table and the plot
    python -m experiments.unlike_models.run --report   the table from the committed results

Exit code 1 when a claim does not hold. The same seeds give the same figures on the same machine and torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
from experiments.common.spread import mean_and_error
from gossipdistill.simulation.run import Simulation

HERE = Path(__file__).parent
CELLS = HERE / "results" / "cells.jsonl"
SETTINGS = ("skewed", "iid")
STRATEGIES = ("isolated", "codistill_predictions", "self_distillation")
SEEDS = (0, 1, 2)
MODELS = {"ada": "mlp", "bo": "cnn", "cy": "mlp", "dee": "cnn"}
TAUGHT, ALONE, CONTROL = "codistill_predictions", "isolated", "self_distillation"


def simulated(key: Key) -> Cell:
    """One run: accuracy in percent of each peer, and megabytes sent per peer."""
    run_file = HERE / f"{key['setting']}.toml"
    with planned(run_file=run_file, strategy=key["strategy"], seed=key["seed"], seconds=60.0) as specs:
        entries = completed(Simulation(specs)).summary.peers
    if any(entry.status != "finished" for entry in entries):
        raise RuntimeError(f"{key}: not everybody finished")
    peers = {entry.name: round(100 * entry.val_accuracy, 2) for entry in entries}
    sent = sum(entry.bytes_sent for entry in entries) / len(peers) / 1e6
    return {"accuracy": peers, "megabytes": round(sent, 2)}


def table(cells: Sequence[Cell]) -> tuple[str, list[str]]:
    """The table, and which claims do not hold, in words."""
    accuracy = {tuple(cell["key"].values()): cell["accuracy"] for cell in cells}
    failed: list[str] = []
    lines = [
        "| setting | peer | model | alone % | control % | by predictions % | over alone, points | over the control |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for setting in SETTINGS:
        for peer, model in MODELS.items():
            of = {name: [accuracy[setting, name, seed][peer] for seed in SEEDS] for name in STRATEGIES}
            entries = [f"{mean_and_error(of[name])[0]:.1f}" for name in (ALONE, CONTROL, TAUGHT)]
            for base in (ALONE, CONTROL):
                gains = [taught - other for taught, other in zip(of[TAUGHT], of[base], strict=True)]
                entries.append("{:+.1f} ± {:.1f}".format(*mean_and_error(gains)))
                if base == ALONE and min(gains) <= 0.0:
                    failed.append(f"{setting}, {peer}: gains per seed {gains}")
            lines.append(command.line([setting, peer, model, *entries]))
    sent = mean_and_error([cell["megabytes"] for cell in cells if cell["key"]["strategy"] == TAUGHT])[0]
    verdict = "PASS" if not failed else "FAIL"
    lines += [
        f"\n{verdict}: each of four peers is better than alone in each of {len(SEEDS)} seeds, in both settings.",
        f"By predictions a peer sent {sent:.1f} MB (counted in the simulated network, headers included).",
    ]
    return "\n".join(lines) + "\n", failed


def draw(cells: Sequence[Cell]) -> None:
    """Each peer of each seed, alone and by predictions."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, setting in zip(axes, SETTINGS, strict=True):
        for place, peer in enumerate(MODELS):
            for shift, strategy in zip((-0.2, 0.0, 0.2), (ALONE, CONTROL, TAUGHT), strict=True):
                keys = [{"setting": setting, "strategy": strategy, "seed": seed} for seed in SEEDS]
                values = [cell["accuracy"][peer] for cell in cells if cell["key"] in keys]
                label = {ALONE: "alone", CONTROL: "control", TAUGHT: "by predictions"}[strategy] if not place else None
                colour = {ALONE: "#8c2f39", CONTROL: "#b08968", TAUGHT: "#2f6f8c"}[strategy]
                axis.scatter([place + shift] * len(values), values, color=colour, s=28, label=label)
        axis.set_xticks(range(len(MODELS)), [f"{peer}\n{model}" for peer, model in MODELS.items()])
        axis.set_title({"skewed": "94 % of labels of three classes", "iid": "labels at random"}[setting])
    axes[0].set_ylabel("accuracy %, one dot per seed")
    axes[0].legend(loc="center right", fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "results" / "unlike_models.png", dpi=120)


def main() -> int:
    """Every run that is missing, then the table; 1 when a claim does not hold."""
    asked = command.begin(command.parser(__doc__, SEEDS, jobs=True))
    if not asked.report:
        keys = (
            {"setting": setting, "strategy": strategy, "seed": seed}
            for strategy in STRATEGIES
            for seed in asked.seeds
            for setting in SETTINGS
        )
        draw(fill(CELLS, keys, simulated, asked.jobs))
    text, failed = table(known(CELLS))
    command.write(HERE / "results" / "table.md", text)
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Both settings, three seeds, six rows each, on real sockets: about 13 minutes on 2 cores.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.fashion_mnist.run
    python -m experiments.fashion_mnist.run --report       reads results/skewed.json and results/iid.json again

Paired differences with standard errors, and a drawing. Exit code 1 when a claim does not hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from experiments.common import command
from experiments.common.spread import mean_and_error

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CLAIMS = {"skewed": 18.0, "iid": 3.0}
"""Points by which predictions must beat isolated training."""
LABELS = {
    "isolated": "alone",
    "self_distillation": "alone + own\npast predictions\n(control)",
    "codistill_predictions": "by predictions",
    "codistill_checkpoints": "by stale\ncheckpoints",
    "gossip_averaging": "by averaging\nweights",
    "pooled": "pooled",
}


def accuracies(setting: str) -> dict[str, dict[int, float]]:
    """strategy -> seed -> mean test accuracy over the peers in percent."""
    found: dict[str, dict[int, float]] = {}
    for run in json.loads((RESULTS / f"{setting}.json").read_text())["runs"]:
        if run["finished"] == run["peers"]:
            found.setdefault(run["strategy"], {})[run["seed"]] = 100 * run["val_accuracy"]["mean"]
    return found


def megabytes(setting: str) -> dict[str, float]:
    """strategy -> megabytes sent per peer, mean over seeds."""
    sent: dict[str, list[float]] = {}
    for run in json.loads((RESULTS / f"{setting}.json").read_text())["runs"]:
        sent.setdefault(run["strategy"], []).append(run["bytes_sent_per_peer"] / 1e6)
    return {name: sum(values) / len(values) for name, values in sent.items()}


def compare(setting: str, seeds: Sequence[int]) -> None:
    """Run all rows of a setting, and keep what `gossipdistill compare` says."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gossipdistill",
                "compare",
                str(HERE / f"{setting}.toml"),
                "--out",
                out,
                "--seeds",
                ",".join(map(str, seeds)),
                "--strategies",
                ",".join(LABELS),
                "--format",
                "json",
            ],
            check=True,
            stdout=subprocess.PIPE,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{setting}.json").write_bytes(done.stdout)


def main() -> int:
    """Both settings, then the tables, the claims and the drawing."""
    asked = command.begin(command.parser(__doc__, seeds=(0, 1, 2)))
    failed, lines = 0, list[str]()
    for setting in CLAIMS if not asked.report else ():
        compare(setting, asked.seeds)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for axis, (setting, claim) in zip(axes, CLAIMS.items(), strict=True):
        found, sent = accuracies(setting), megabytes(setting)
        lines += [
            f"\n{setting}: test accuracy %, mean over peers; {len(found['isolated'])} seeds paired\n",
            "| strategy | accuracy % | over isolated, points | over the control, points | MB sent per peer |",
            "| --- | --- | --- | --- | --- |",
        ]
        heights, errors = [], []
        for name in (name for name in LABELS if name in found):
            mean, error = mean_and_error(list(found[name].values()))
            heights.append(mean)
            errors.append(error)
            cells = []
            for base in ("isolated", "self_distillation"):
                seeds = sorted(set(found[name]) & set(found[base]))
                gain, gain_error = mean_and_error([found[name][seed] - found[base][seed] for seed in seeds])
                cells.append("" if name == base else f"{gain:+.1f} ± {gain_error:.1f}")
            volume = "-" if name == "pooled" else f"{sent[name]:.1f}"
            lines.append(f"| {name} | {mean:.1f} ± {error:.1f} | {cells[0]} | {cells[1]} | {volume} |")
        names = [LABELS[name] for name in LABELS if name in found]
        axis.bar(names, heights, yerr=errors, color="#5b8fa8", ecolor="#22303c", capsize=3)
        for place, height in enumerate(heights):
            axis.text(place, height + 2.0, f"{height:.1f}", ha="center", fontsize=9)
        axis.set_title({"skewed": "94 % of labels of three classes", "iid": "labels at random"}[setting])
        axis.tick_params(axis="x", labelsize=7)
        axis.set_ylim(0, 95)
        seeds = sorted(set(found["codistill_predictions"]) & set(found["isolated"]))
        gains = [found["codistill_predictions"][seed] - found["isolated"][seed] for seed in seeds]
        holds = sum(gains) / len(gains) >= claim
        failed += not holds
        verdict = "PASS" if holds else "FAIL"
        lines.append(
            f"\n{verdict}: predictions beat isolated by {sum(gains) / len(gains):.1f} points, at least {claim} wanted"
        )
    axes[0].set_ylabel("test accuracy %")
    figure.suptitle("Fashion-MNIST, 4 peers of unequal speed, 500 labels each, 2,000 unlabelled inputs in common")
    figure.tight_layout()
    figure.savefig(RESULTS / "fashion_mnist.png", dpi=130)
    command.write(RESULTS / "table.md", "\n".join(lines) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Unlike models teach one another: every run of this experiment, in virtual time, and the table of its results.

    python experiments/unlike_models/run.py            all runs, then the table
    python experiments/unlike_models/run.py --report   the table from the committed results

Exit code 1 when a claim does not hold. The same seeds give the same figures on the same machine and torch.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "runs.json"
SETTINGS = ("skewed", "iid")
STRATEGIES = ("isolated", "codistill_predictions", "self_distillation")
SEEDS = (0, 1, 2)
MODELS = {"ada": "mlp", "bo": "cnn", "cy": "mlp", "dee": "cnn"}
TAUGHT, ALONE, CONTROL = "codistill_predictions", "isolated", "self_distillation"

Run = dict[str, object]


def simulate(setting: str, strategy: str, seed: int, out: str) -> Run:
    """One run: accuracy in percent of each peer, and megabytes sent per peer."""
    command = [
        sys.executable, "-m", "gossipdistill", "simulate", str(HERE / f"{setting}.toml"), "--strategy", strategy,
        "--seed", str(seed), "--virtual-seconds", "60", "--out", out, "--format", "json",
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        raise RuntimeError(done.stderr)
    summary = json.loads(done.stdout)
    if any(peer["status"] != "finished" for peer in summary["peers"]):
        raise RuntimeError(f"{setting}, {strategy}, seed {seed}: not everybody finished")
    peers = {peer["name"]: round(100 * peer["val_accuracy"], 2) for peer in summary["peers"]}
    sent = sum(peer["bytes_sent"] for peer in summary["peers"]) / len(peers) / 1e6
    return {"setting": setting, "strategy": strategy, "seed": seed, "accuracy": peers, "megabytes": round(sent, 2)}


def run_all() -> None:
    """Every run once; kept after each, so that an interrupted series goes on where it was."""
    runs: list[Run] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = {(run["setting"], run["strategy"], run["seed"]) for run in runs}
    RESULTS.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as out:
        for strategy in STRATEGIES:
            for seed in SEEDS:
                for setting in SETTINGS:
                    if (setting, strategy, seed) not in done:
                        runs.append(simulate(setting, strategy, seed, out))
                        RESULTS.write_text("[\n" + ",\n".join(json.dumps(run) for run in runs) + "\n]\n")


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """(mean, standard error of the mean)."""
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return mean, math.sqrt(spread / len(values))


def report() -> int:
    """Print the table; the number of claims that do not hold."""
    runs = json.loads(RESULTS.read_text())
    accuracy = {(run["setting"], run["strategy"], run["seed"]): run["accuracy"] for run in runs}
    failed = 0
    print("| setting | peer | model | alone % | control % | by predictions % | over alone, points | over the control |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for setting in SETTINGS:
        for peer, model in MODELS.items():
            of = {name: [accuracy[setting, name, seed][peer] for seed in SEEDS] for name in STRATEGIES}
            cells = [f"{mean_and_error(of[name])[0]:.1f}" for name in (ALONE, CONTROL, TAUGHT)]
            for base in (ALONE, CONTROL):
                gains = [taught - other for taught, other in zip(of[TAUGHT], of[base], strict=True)]
                cells.append("{:+.1f} ± {:.1f}".format(*mean_and_error(gains)))
                if base == ALONE and min(gains) <= 0.0:
                    failed += 1
                    print(f"| FAIL: {setting}, {peer}: gains per seed {gains} |", file=sys.stderr)
            print(f"| {setting} | {peer} | {model} | " + " | ".join(cells) + " |")
    sent = mean_and_error([run["megabytes"] for run in runs if run["strategy"] == TAUGHT])[0]
    verdict = "PASS" if not failed else "FAIL"
    print(f"\n{verdict}: each of four peers is better than alone in each of {len(SEEDS)} seeds, in both settings.")
    print(f"By predictions a peer sent {sent:.1f} MB (counted in the simulated network, headers included).")
    return failed


def draw() -> None:
    """Each peer of each seed, alone and by predictions."""
    runs = json.loads(RESULTS.read_text())
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, setting in zip(axes, SETTINGS, strict=True):
        for place, peer in enumerate(MODELS):
            for shift, strategy in zip((-0.2, 0.0, 0.2), (ALONE, CONTROL, TAUGHT), strict=True):
                values = [r["accuracy"][peer] for r in runs if (r["setting"], r["strategy"]) == (setting, strategy)]
                label = {ALONE: "alone", CONTROL: "control", TAUGHT: "by predictions"}[strategy] if not place else None
                colour = {ALONE: "#8c2f39", CONTROL: "#b08968", TAUGHT: "#2f6f8c"}[strategy]
                axis.scatter([place + shift] * len(values), values, color=colour, s=28, label=label)
        axis.set_xticks(range(len(MODELS)), [f"{peer}\n{model}" for peer, model in MODELS.items()])
        axis.set_title({"skewed": "94 % of labels of three classes", "iid": "labels at random"}[setting])
    axes[0].set_ylabel("accuracy %, one dot per seed")
    axes[0].legend(loc="center right", fontsize=8)
    figure.tight_layout()
    figure.savefig(RESULTS.parent / "unlike_models.png", dpi=120)


if __name__ == "__main__":
    if "--report" not in sys.argv:
        run_all()
        draw()
    sys.exit(1 if report() else 0)

"""`python -m experiments.unusual_norm.run`: how often is the norm of honest weights unusual, and which lies are?

Honest runs: every strategy that mixes weights, in virtual time, four peers, three seeds. Lies: those of
experiments/robust_mixing. A model is unusual when its norm is more than four times the reader's, or less than a quarter
(gossipdistill/learning/norms.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.robust_mixing.run import HONEST, LIAR, LIES, run
from gossipdistill.config.plan import Asked
from gossipdistill.simulation.run import Simulation, plan_simulation
from gossipdistill.strategies import STRATEGIES
from gossipdistill.training.worker import Worker

RESULTS = Path(__file__).parent / "results"
RUNS = RESULTS / "runs.jsonl"
"""One line per run; those that are there are not run again."""
SEEDS = (0, 1, 2)
SECONDS = 8.0
SLOWDOWN = 5.0
STRATEGIES_WITH_WEIGHTS = (
    "gossip_averaging", "codistill_checkpoints", "codistill_groups", "leader_sgd", "sgp", "osgp",
    "async_gradient_push", "adpsgd", "dpsgd", "dmsgd", "decentlam",
)  # fmt: skip
assert set(STRATEGIES_WITH_WEIGHTS) <= set(STRATEGIES)


class Setting(NamedTuple):
    """What is trained, and on what network."""

    task: str
    settings: tuple[str, ...] = ()
    slow: bool = False


COMMON = ("topology=complete", "train.momentum=0.0", "train.step_time_s=0.02", f"seconds={SECONDS}")
SKEWED = ("task.shards=label_skew", "task.examples_per_peer=100")
SETTINGS = {
    "digits, MLP": Setting("digits", SKEWED),
    "digits, MLP, 20 % of all messages lost, one peer 5 x slower": Setting("digits", (*SKEWED, "sim.loss=0.2"), True),
    "digits, CNN, Adam": Setting("digits", (*SKEWED, "task.model=cnn", "train.optimizer=adam", "train.lr=0.003")),
    "logistic (weights begin at zero)": Setting("logistic"),
    "quadratic (weights begin at zero)": Setting("quadratic"),
}


def takes(setting: str, strategy: str) -> bool:
    """Whether there is such a run: who makes its own step does not take Adam, and teachers need class outputs."""
    kind, task, settings = STRATEGIES[strategy], SETTINGS[setting].task, SETTINGS[setting].settings
    if kind.owns_step and "train.optimizer=adam" in settings:
        return False
    return task != "quadratic" or not kind.needs.class_outputs


def honest(setting: str, strategy: str, seed: int) -> dict[str, int]:
    """Of one run: how many models were judged, and how many were unusual."""
    task, settings, slow = SETTINGS[setting]
    with tempfile.TemporaryDirectory() as out:
        asked = Asked(
            peers="4",
            task=task,
            strategy=strategy,
            seed=seed,
            settings=[*COMMON, *settings],
            device="cpu",
            out=Path(out),
        )
        specs = plan_simulation(asked)
        if slow:
            specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
        simulation = Simulation(specs)
        simulation.run()
    entries = simulation.summary.peers
    assert all(entry.status == "finished" for entry in entries)
    return {
        "models": sum(entry.parcels_used for entry in entries),
        "unusual": sum(sum(entry.unusual_norms.values()) for entry in entries),
    }


def lying(lie: str, rule: str, seed: int) -> dict[str, int]:
    """Of the seven honest readers: how many models the liar sent them, and how many were unusual."""
    counts = {"models": 0, "unusual": 0}

    def count(workers: Mapping[str, Worker]) -> None:
        for name in HONEST:
            ledger = workers[name].learner.ledger
            counts["models"] += ledger.links[LIAR].exchanges
            counts["unusual"] += ledger.unusual[LIAR]

    run(rule, LIES[lie], seed, count)
    return counts


def table(runs: list[dict[str, Any]]) -> str:
    """table.md."""
    lines = [
        f"Four honest peers, {SECONDS:g} s of steps of 20 ms, {len(SEEDS)} seeds; all strategies together.", "",
        "| honest peers | models read | of unusual norm | share | strategies that had some |",
        "| --- | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    for setting in SETTINGS:
        rows = [one for one in runs if one["what"] == setting]
        models, unusual = (sum(row[key] for row in rows) for key in ("models", "unusual"))
        which = {name: sum(row["unusual"] for row in rows if row["how"] == name) for name in STRATEGIES_WITH_WEIGHTS}
        some = ", ".join(f"{name} {count}" for name, count in which.items() if count) or "none"
        lines.append(f"| {setting} | {models:,} | {unusual:,} | {100 * unusual / max(models, 1):.2f} % | {some} |")
    lines += [
        "", "One of eight lies (experiments/robust_mixing), and the others mix by the robust median:", "",
        "| the eighth sends | models of it that were read | of unusual norm | share |", "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for lie in LIES:
        rows = [one for one in runs if one["what"] == lie]
        models, unusual = (sum(row[key] for row in rows) for key in ("models", "unusual"))
        lines.append(f"| {lie} | {models:,} | {unusual:,} | {100 * unusual / max(models, 1):.1f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Every run that is not there yet, then the table."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    runs = [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []
    done = {(one["what"], one["how"], one["seed"]) for one in runs}
    pairs = [(setting, name) for setting in SETTINGS for name in STRATEGIES_WITH_WEIGHTS if takes(setting, name)]
    wanted = [(setting, name, seed) for setting, name in pairs for seed in SEEDS]
    wanted += [(lie, "median", seed) for lie in LIES for seed in SEEDS]
    for number, (what, how, seed) in enumerate(wanted, start=1):
        if (what, how, seed) in done:
            continue
        counts = honest(what, how, seed) if what in SETTINGS else lying(what, how, seed)
        runs.append({"what": what, "how": how, "seed": seed, **counts})
        with RUNS.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(f"{number} of {len(wanted)}: {runs[-1]}", flush=True)
    (RESULTS / "table.md").write_text(table(runs))
    print(table(runs))


if __name__ == "__main__":
    main()

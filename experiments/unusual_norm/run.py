"""`python -m experiments.unusual_norm.run`: how often is the norm of honest weights unusual, and which lies are?

Honest runs: every strategy that mixes weights, in virtual time, four peers, three seeds. Lies: those of
experiments/robust_mixing. A model is unusual when its norm is more than four times the reader's, or less than a quarter
(gossipdistill/learning/norms.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
from experiments.robust_mixing.run import HONEST, LIAR, LIES, run
from gossipdistill.simulation.run import Simulation
from gossipdistill.strategies import STRATEGIES
from gossipdistill.training.worker import Worker

RESULTS = Path(__file__).parent / "results"
CELLS = RESULTS / "cells.jsonl"
SEEDS = (0, 1, 2)
SECONDS = 8.0
SLOWDOWN = 5.0
STRATEGIES_WITH_WEIGHTS = (
    "gossip_averaging",
    "codistill_checkpoints",
    "codistill_groups",
    "leader_sgd",
    "sgp",
    "osgp",
    "async_gradient_push",
    "adpsgd",
    "dpsgd",
    "dmsgd",
    "decentlam",
)
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
    with planned(peers="4", task=task, strategy=strategy, seed=seed, settings=[*COMMON, *settings]) as specs:
        if slow:
            specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
        entries = completed(Simulation(specs)).summary.peers
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


def counted(key: Key) -> Cell:
    """The figures of a cell."""
    counts = honest if key["what"] in SETTINGS else lying
    return {**counts(key["what"], key["how"], key["seed"])}


def keys(seeds: Sequence[int]) -> Iterator[Key]:
    """Honest runs, then those with a liar."""
    pairs = [(setting, name) for setting in SETTINGS for name in STRATEGIES_WITH_WEIGHTS if takes(setting, name)]
    for what, how in (*pairs, *((lie, "median") for lie in LIES)):
        yield from ({"what": what, "how": how, "seed": seed} for seed in seeds)


def table(runs: list[Cell]) -> str:
    """table.md."""
    lines = [
        f"Four honest peers, {SECONDS:g} s of steps of 20 ms, {len(SEEDS)} seeds; all strategies together.",
        "",
        "| honest peers | models read | of unusual norm | share | strategies that had some |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for setting in SETTINGS:
        rows = [one for one in runs if one["key"]["what"] == setting]
        models, unusual = (sum(row[key] for row in rows) for key in ("models", "unusual"))
        which = {
            name: sum(row["unusual"] for row in rows if row["key"]["how"] == name) for name in STRATEGIES_WITH_WEIGHTS
        }
        some = ", ".join(f"{name} {count}" for name, count in which.items() if count) or "none"
        lines.append(f"| {setting} | {models:,} | {unusual:,} | {100 * unusual / max(models, 1):.2f} % | {some} |")
    lines += [
        "",
        "One of eight lies (experiments/robust_mixing), and the others mix by the robust median:",
        "",
        "| the eighth sends | models of it that were read | of unusual norm | share |",
        "| --- | ---: | ---: | ---: |",
    ]
    for lie in LIES:
        rows = [one for one in runs if one["key"]["what"] == lie]
        models, unusual = (sum(row[key] for row in rows) for key in ("models", "unusual"))
        lines.append(f"| {lie} | {models:,} | {unusual:,} | {100 * unusual / max(models, 1):.1f} % |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Every run that is not there yet, then the table."""
    asked = command.begin(command.parser(__doc__, SEEDS, jobs=True))
    if not asked.report:
        fill(CELLS, keys(asked.seeds), counted, asked.jobs)
    command.write(RESULTS / "table.md", table(known(CELLS)))


if __name__ == "__main__":
    main()

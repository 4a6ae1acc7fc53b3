"""`python -m experiments.robust_mixing.run`: eight peers, one of whom lies, with and without robust mixing.

He, Karimireddy and Jaggi 2022 (2202.01545) on label-skewed digits. All workers live in this process; every tenth step
they send their weights to all others. What the eighth sends is replaced by one of five lies. The figure of merit is the
share of the gossip gain that the seven honest peers keep: (accuracy - alone) / (accuracy when nobody lies - alone).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.lockstep import all_alive, deliver
from experiments.common.spread import mean_and_error
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning import robust as robust_rules
from gossipdistill.learning.snapshot import model_arrays, pack
from gossipdistill.messages import Parcel, Slot
from gossipdistill.tasks import Shard, load_task
from gossipdistill.training.worker import Worker

RESULTS = Path(__file__).parent / "results"
CELLS = RESULTS / "cells.jsonl"
NAMES = tuple(f"p{place}" for place in range(8))
LIAR, HONEST = NAMES[-1], NAMES[:-1]
SEEDS = (0, 1, 2)
STEPS, EVERY = 400, 10
BARE = "coordinate_median"
"""The control: `median` without the mixing of nearest neighbours before it."""
RULES = ("none", "clip", "trimmed_mean", BARE, "median")
STRENGTH = 1.5
"""Of the dissensus attack: 1 cancels the pull of the honest, more drives them apart."""
Arrays = dict[str, Tensor]
Lie = Callable[[str, dict[str, Arrays], torch.Generator], Arrays]


def noise(to: str, models: dict[str, Arrays], generator: torch.Generator) -> Arrays:
    """Its own weights, each with standard normal noise: weights here are about 0.1."""
    return {key: value + torch.randn(value.shape, generator=generator) for key, value in models[LIAR].items()}


def constant(to: str, models: dict[str, Arrays], generator: torch.Generator) -> Arrays:
    """Each weight is 1."""
    return {key: torch.ones_like(value) for key, value in models[LIAR].items()}


def negative(to: str, models: dict[str, Arrays], generator: torch.Generator) -> Arrays:
    """Its own weights with the other sign."""
    return {key: -value for key, value in models[LIAR].items()}


def dissensus(to: str, models: dict[str, Arrays], generator: torch.Generator) -> Arrays:
    """x_i - strength sum_j W_ij (x_j - x_i) / W_i,liar over the honest j, for each recipient i; all W are alike."""
    own = models[to]
    return {
        key: own[key] - STRENGTH * sum(models[name][key] - own[key] for name in HONEST if name != to) for key in own
    }


def close_dissensus(to: str, models: dict[str, Arrays], generator: torch.Generator) -> Arrays:
    """The direction of dissensus, but no further from the recipient than the honest peer that is nearest to it: nobody
    can tell by the distance."""
    own, lie = models[to], dissensus(to, models, generator)
    nearest = min(distance(own, models[name]) for name in HONEST if name != to)
    share = nearest / max(distance(own, lie), 1e-30)
    return {key: own[key] + share * (lie[key] - own[key]) for key in own}


def distance(one: Arrays, other: Arrays) -> float:
    """Euclidean, over all arrays."""
    return sum(float((one[key] - other[key]).square().sum()) for key in one) ** 0.5


LIES: dict[str, Lie | None] = {
    "nobody lies": None,
    "noise": noise,
    "constant": constant,
    "negative": negative,
    "dissensus": dissensus,
    "close dissensus": close_dissensus,
}


def make_worker(name: str, robust: str, seed: int) -> Worker:
    """Peer `name` on its shard of the digits; all start with the same weights."""
    place = NAMES.index(name)
    task = load_task("digits", Shard(place, len(NAMES), "label_skew", 100, seed), {})
    torch.manual_seed(seed)
    model = task.model()
    keys = {"strategy.name": "isolated"} if robust == "alone" else {"strategy.name": "gossip_averaging"}
    keys |= {} if robust == "alone" else {"strategy.robust": robust}
    spec = WorkerSpec.in_process(
        name, NAMES, keys | {"seed": seed, "exchange.every_steps": EVERY, "train.clip_norm": "off"}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return build_worker(spec, all_alive(name, NAMES), Given(task=task, model=model, optimizer=optimizer))


def run(
    robust: str, lie: Lie | None, seed: int, afterwards: Callable[[dict[str, Worker]], None] = lambda workers: None
) -> float:
    """Mean validation accuracy of the seven honest peers, in percent. `afterwards` may look at the workers."""
    if robust == BARE:
        with mock.patch.object(robust_rules, "nearest_mixed", return_value=None):
            return run("median", lie, seed, afterwards)
    workers = {name: make_worker(name, robust, seed) for name in NAMES}
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        now = 0.01 * step
        for worker in workers.values():
            worker.step(now, step / STEPS)
        if robust == "alone" or (step + 1) % EVERY:
            continue
        models = {name: model_arrays(worker.learner.model) for name, worker in workers.items()}

        def said(name: str, slot: Slot, parcel: Parcel) -> Parcel:
            if name != LIAR or lie is None:
                return parcel
            return parcel.with_content(payload=pack(lie(str(slot.peer), models, generator), "raw"))  # noqa: B023

        deliver(list(workers.values()), now, said)
    afterwards(workers)
    return 100 * statistics.mean(workers[name].evaluate()[1]["accuracy"] for name in HONEST)


def table(found: Sequence[Cell]) -> str:
    """table.md."""
    cells = {(cell["key"]["lie"], cell["key"]["rule"], cell["key"]["seed"]): cell["accuracy"] for cell in found}
    alone = [cells["nobody lies", "alone", seed] for seed in SEEDS]
    calm = [cells["nobody lies", "none", seed] for seed in SEEDS]
    gain = statistics.mean(calm) - statistics.mean(alone)
    lines = [
        f"Alone {statistics.mean(alone):.1f} %, eight honest peers by plain averaging {statistics.mean(calm):.1f} %: "
        f"a gain of {gain:.1f} points. Mean accuracy (%) of the seven honest peers over {len(SEEDS)} seeds, and the "
        "share of that gain that they keep with its standard error over seeds:",
        "",
        "| the eighth sends | plain mean | clip | trimmed mean | median, nearest not mixed first | median |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for lie in LIES:
        shown = []
        for rule in RULES:
            accuracies = [cells[lie, rule, seed] for seed in SEEDS]
            kept = [100 * (a - b) / (c - b) for a, b, c in zip(accuracies, alone, calm, strict=True)]
            shown.append("{:.1f} ({:.0f} +- {:.0f} %)".format(statistics.mean(accuracies), *mean_and_error(kept)))
        lines.append(f"| {lie} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def figures(key: Key) -> Cell:
    """The accuracy of a cell."""
    return {"accuracy": run(key["rule"], LIES[key["lie"]], key["seed"])}


def keys(seeds: Sequence[int]) -> Iterator[Key]:
    """Alone, and every rule under every lie."""
    for lie, rule in (("nobody lies", "alone"), *((lie, rule) for lie in LIES for rule in RULES)):
        yield from ({"lie": lie, "rule": rule, "seed": seed} for seed in seeds)


def main() -> None:
    """Run each cell that is not there yet, and write the table."""
    asked = command.begin(command.parser(__doc__, SEEDS, jobs=True))
    if not asked.report:
        fill(CELLS, keys(asked.seeds), figures, asked.jobs)
    command.write(RESULTS / "table.md", table(known(CELLS)))


if __name__ == "__main__":
    main()

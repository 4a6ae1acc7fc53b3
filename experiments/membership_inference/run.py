"""`python -m experiments.membership_inference.run`: what a neighbour can tell about whose examples a peer trained on.

Four peers in one process, in step, without a network. What each sends after its last step is taken as it is on the
wire, and attacked (attack.py): weights, whole predictions, the likeliest class only, clipped predictions. Predictions
are on common inputs: either the task's transfer set, where nobody trains, and the attacker asks a student that it
trained on what it was told; or inputs among which are the examples of all peers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.data import folder
from experiments.common.lockstep import all_alive, train
from experiments.membership_inference import attack
from experiments.membership_inference.table import write
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning.disclosure import disclosed
from gossipdistill.learning.learner import Draws
from gossipdistill.learning.snapshot import load_arrays, unpack, unpack_model
from gossipdistill.messages import Payload
from gossipdistill.tasks import Shard, Task, load_task
from gossipdistill.training.ending import publish_final
from gossipdistill.training.worker import Worker

RESULTS = Path(__file__).parent / "results"
CELLS = RESULTS / "cells.jsonl"
NAMES = ("ada", "bo", "cy", "dee")
SEEDS = (0, 1, 2)
STEPS, BATCH, LR = 400, 32, 0.05
STEP_S = 0.01
OTHERS = 1_000
"""At most so many examples on which nobody trained."""
SHADOWS = 16
EXAMPLES = {
    ("digits", "usual"): 100,
    ("digits", "overfitted"): 30,
    ("tabular", "usual"): 500,
    ("tabular", "overfitted"): 100,
}
"""Labelled examples of each peer: the task's own number, and fewer, which are learnt by heart."""
CLASSES = {"digits": 10, "tabular": 2}
WHERE = {False: "other inputs", True: "inputs with its examples"}


class Sent(NamedTuple):
    """What is sent: the strategy, its options, and whether the common inputs contain the peers' own examples."""

    strategy: str
    options: dict[str, Any]
    among_inputs: bool = False


def less(classes: int) -> dict[str, dict[str, Any]]:
    """Name -> options of whoever tells less. Of two classes the likeliest and what is left are everything."""
    top = {"likeliest class": {"reveal_top_k": 1}} if classes > 2 else {}
    return top | {"clipped": {"reveal_clip": 0.2 / classes}, "little but the label": {"reveal_clip": 0.9 / classes}}


def kinds(classes: int) -> dict[str, Sent]:
    """Name -> what is sent."""
    told = {"whole": {}} | {f"{name}, all peers so": options for name, options in less(classes).items()}
    found = {"nothing": Sent("isolated", {}), "averaged weights": Sent("gossip_averaging", {})}
    found["weights of its own"] = Sent("codistill_checkpoints", {})
    for among in (False, True):
        found |= {f"{WHERE[among]}: {name}": Sent("codistill_predictions", o, among) for name, o in told.items()}
    return found


def run(task: str, regime: str, seed: int, name: str) -> list[dict[str, Any]]:
    """Train four peers and attack each of them. Where predictions are told whole there is one result more for each way
    in which the victim alone could tell less: its own training does not depend on that."""
    sent = kinds(CLASSES[task])[name]
    tasks, others = tasks_of(task, regime, seed, sent.among_inputs)
    workers = [worker_of(place, one, sent, seed) for place, one in enumerate(tasks)]
    train(workers, STEPS, step_s=STEP_S)
    accuracy = 100 * sum(worker.evaluate()[1]["accuracy"] for worker in workers) / len(workers)
    found: dict[str, Any] = {"task": task, "regime": regime, "seed": seed, "sent": name, "accuracy": accuracy}
    if sent.strategy == "isolated":
        return [found]
    payloads = [last_word(worker) for worker in workers]
    ways = {name: sent.options}
    if sent.strategy == "codistill_predictions" and not sent.options:
        ways |= {f"{WHERE[sent.among_inputs]}: {way}, only this peer": o for way, o in less(CLASSES[task]).items()}
    known = candidates(tasks, others)
    shadows = shadows_of(task, regime, seed)
    return [
        found | {"sent": way} | attacked(workers, tasks[0], payloads, sent._replace(options=options), known, shadows)
        for way, options in ways.items()
    ]


def attacked(
    workers: list[Worker],
    task: Task,
    payloads: list[Payload],
    sent: Sent,
    known: tuple[Tensor, Tensor],
    shadows: tuple[list[Tensor], list[Tensor]],
) -> dict[str, Any]:
    """Area under the curve, and members found at 1 % of the others accused, of each attack over all victims."""
    (x, y), (said, saw) = known, shadows
    less_said = [lessened(shadow, sent.options) for shadow in said] if sent.among_inputs else said
    scores: dict[str, list[Tensor]] = {"loss": [], "calibrated": [], "weights": []}
    for worker, payload in zip(workers, payloads, strict=True):
        p = seen(payload, task, x, sent, worker.learner.seed)
        scores["loss"].append(attack.loss_score(p, y))
        scores["calibrated"].append(attack.calibrated_score(p, y, less_said, saw))
        # For comparison: by the model itself, had it been sent.
        scores["weights"].append(attack.loss_score(attack.predictions(worker.learner.model, x), y))
    count, found = len(task.train[0]), {}
    for kind, of_all in scores.items():
        members = torch.cat([own[place * count : (place + 1) * count] for place, own in enumerate(of_all)]).numpy()
        strangers = torch.cat([own[len(workers) * count :] for own in of_all]).numpy()
        found[kind] = [attack.area(members, strangers), attack.true_positives_at(0.01, members, strangers)]
    return found


def lessened(p: Tensor, options: dict[str, Any]) -> Tensor:
    """p [n, C] as whoever has these options tells it."""
    return disclosed(p, options.get("reveal_top_k"), options.get("reveal_clip", 0.0))


def tasks_of(name: str, regime: str, seed: int, among_inputs: bool) -> tuple[list[Task], tuple[Tensor, Tensor]]:
    """The peers' tasks, and examples on which nobody trains."""
    count, data_dir = len(NAMES), folder()
    shards = [Shard(place, count, "disjoint", EXAMPLES[name, regime], seed, data_dir) for place in range(count)]
    tasks = [load_task(name, shard, {}) for shard in shards]
    x, y = (part[:OTHERS] for part in tasks[0].validation)
    if among_inputs:
        inputs = torch.cat([*(task.train[0] for task in tasks), x])
        tasks = [replace(task, transfer=inputs) for task in tasks]
    return tasks, (x, y)


def worker_of(place: int, task: Task, sent: Sent, seed: int) -> Worker:
    """Peer number `place`, with the defaults of a run file."""
    keys = {"strategy.name": sent.strategy, "seed": seed, "train.lr": LR, "train.batch_size": BATCH}
    keys |= {f"strategy.{name}": value for name, value in sent.options.items()} | {"train.clip_norm": "off"}
    spec = WorkerSpec.in_process(NAMES[place], NAMES, keys)
    torch.manual_seed(1_000 * seed + spec.config.make_strategy().start_of(NAMES[place], place, len(NAMES)))
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    return build_worker(spec, all_alive(NAMES[place], NAMES), Given(task=task, model=model, optimizer=optimizer))


def last_word(worker: Worker) -> Payload:
    """What a neighbour gets after the last step."""
    publish_final(worker.gossip, STEP_S * STEPS)
    return worker.gossip.endpoint.mailbox.collect().parcels[0][1].payload


def seen(payload: Payload, task: Task, x: Tensor, sent: Sent, seed: int) -> Tensor:
    """The victim's predictions [n, C] for the candidates x, as far as its neighbour knows them."""
    if sent.strategy != "codistill_predictions":
        model = task.model()
        load_arrays(model, unpack_model(payload, model))
        return attack.predictions(model, x)
    assert task.transfer is not None
    assert task.class_count is not None
    told = unpack(payload, {"soft_targets": (len(task.transfer), task.class_count)})["soft_targets"]
    told = lessened(told, sent.options)
    return (
        told if sent.among_inputs else attack.predictions(attack.student_of(task.model, task.transfer, told, seed), x)
    )


@lru_cache(maxsize=1)
def shadows_of(name: str, regime: str, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Predictions of the attacker's own models for the candidates, each trained alone on as many of them as a peer has,
    with the peers' own schedule; and on which."""
    tasks, others = tasks_of(name, regime, seed, among_inputs=False)
    x, y = candidates(tasks, others)
    found = [shadow_of(tasks[0], x, y, len(tasks[0].train[0]), seed, number) for number in range(SHADOWS)]
    return [one for one, _ in found], [one for _, one in found]


def shadow_of(task: Task, x: Tensor, y: Tensor, count: int, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """One of them: its predictions [n, C], and on which candidates [n] it trained, `count` of all."""
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(1_000 * seed + number))[:count]
    torch.manual_seed(7_000 + 100 * seed + number)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    draws = Draws(count, min(BATCH, count), number)
    for step in range(STEPS):
        batch = rows[draws.at(step)]
        optimizer.zero_grad()
        task.loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    return attack.predictions(model, x), torch.zeros(len(x), dtype=torch.bool).index_fill(0, rows, True)


def candidates(tasks: list[Task], others: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """All examples of the peers, in their order, and then those of nobody."""
    return tuple(torch.cat([*(one.train[part] for one in tasks), others[part]]) for part in (0, 1))  # type: ignore[return-value]


def keys(seeds: Sequence[int]) -> Iterator[Key]:
    """All runs, seed by seed."""
    for seed in seeds:
        for task, regime in EXAMPLES:
            for name in kinds(CLASSES[task]):
                yield {"task": task, "regime": regime, "seed": seed, "sent": name}


def figures(key: Key) -> Cell:
    """What is found in one run, by what the victim sends."""
    return {"found": run(key["task"], key["regime"], key["seed"], key["sent"])}


def main() -> None:
    """Run what is not there yet; then table and plot."""
    asked = command.begin(command.parser(__doc__, SEEDS, jobs=True))
    if not asked.report:
        fill(CELLS, keys(asked.seeds), figures, asked.jobs)
    write([found for cell in known(CELLS) for found in cell["found"]], RESULTS)


if __name__ == "__main__":
    main()

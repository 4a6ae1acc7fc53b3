"""What push-sum costs in one process, without a network: steps between exchanges, and the two halves of an exchange.

A learner is built as in any run, with a mailbox that is told of three neighbours who are not there. What it posts for
them comes back to it as if it were theirs: so it has mass to absorb, and its weight stays where it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.kit.sized import sized_task
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, Neighbourhood, Parcel, Payload
from gossipdistill.strategies.base import View
from gossipdistill.training.worker import Worker

PUSH_SUM = ("sgp", "osgp", "async_gradient_push")
ME, OTHERS = "ada", ("bo", "cy", "dee")
_NEVER = 10**9
_BATCH, _LR = 4, 1e-3
_REBUILT_EVERY = 2


@dataclass(slots=True)
class Lone:
    """A worker whose neighbours are not there, and what it has posted for them."""

    worker: Worker
    numbered: int = 0
    posted: list[Parcel] = field(default_factory=list)

    @staticmethod
    def of(
        strategy: str, size: str, momentum: float = 0.0, optimizer: type[torch.optim.Optimizer] | None = None
    ) -> Lone:
        """One peer of four, fully connected, with a model of this size; SGD, unless it is another optimizer."""
        task, names = sized_task(size), (ME, *OTHERS)
        torch.manual_seed(0)
        model = task.model()
        chosen = (
            torch.optim.SGD(model.parameters(), lr=_LR, momentum=momentum)
            if optimizer is None
            else optimizer(model.parameters(), lr=_LR)  # type: ignore[call-arg]
        )
        keys = {
            "strategy.name": strategy,
            "exchange.every_steps": _NEVER,
            "exchange.per_second_max": 0.0,
            "train.batch_size": _BATCH,
            "train.lr_schedule": "constant",
            "train.clip_norm": "off",
        }
        spec = WorkerSpec.in_process(ME, names, keys)
        worker = build_worker(spec, Mailbox(), Given(task=task, model=model, optimizer=chosen), strict=True)
        worker.gossip.endpoint.mailbox.tell(Neighbourhood(len(names), frozenset(map(PeerName, OTHERS))), ())
        return Lone(worker)

    def step(self) -> None:
        """A step a tenth of a second after the last one."""
        self.worker.step(0.1 * (1 + self.worker.learner.step))

    def exchange_once(self, back: int = 2) -> None:
        """A step after which a share goes to each of three, and one at whose beginning so many come back."""
        self.worker.gossip.endpoint.cadence.every_steps = 1
        self.step()
        self.worker.gossip.endpoint.cadence.every_steps = _NEVER
        self.collect()
        for arrival in self.come_back(back):
            self.worker.gossip.endpoint.mailbox.deliver(arrival)
        self.step()

    def collect(self) -> None:
        """The network takes what is posted, and all of it is settled at once."""
        collected = self.worker.gossip.endpoint.mailbox.collect()
        self.posted += [parcel for _, parcel in collected.parcels]
        self.worker.gossip.endpoint.mailbox.room.free([slot for slot, parcel in collected.parcels if parcel.weight])

    def come_back(self, count: int) -> list[Arrival]:
        """The newest `count` parcels as if each came from whom it was for, put together from pieces."""
        chosen, self.posted = self.posted[len(self.posted) - count :], []
        return [self.arrival(parcel, parcel.to[0]) for parcel in chosen]

    def arrival(self, parcel: Parcel, sender: str) -> Arrival:
        """One parcel as somebody's, in memory of its own that can be written to."""
        self.numbered += 1
        payload = Payload(parcel.payload.layout, memoryview(bytearray(parcel.payload.body)))
        version, content = Version(Boot(1), self.numbered), parcel.with_content(payload=payload).content
        return Arrival(PeerName(sender), version, content, self.worker.learner.now_s)


@dataclass(frozen=True, slots=True)
class Steps:
    """CPU seconds per step of alternating blocks: of `isolated`, and of the strategy beside it."""

    strategy: str
    size: str
    momentum: float
    isolated: list[float]
    gossip: list[float]

    @property
    def ratios(self) -> list[float]:
        """Of each pair of neighbouring blocks."""
        return [ours / alone for ours, alone in zip(self.gossip, self.isolated, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """All figures, with the median ratio and the upper end of its 95 % interval."""
        ratio, upper = bounded(self.ratios)
        return {
            "strategy": self.strategy,
            "size": self.size,
            "momentum": self.momentum,
            "isolated_cpu_s": statistics.median(self.isolated),
            "cpu_s": statistics.median(self.gossip),
            "ratio": ratio,
            "ratio_upper": upper,
            "pairs": len(self.ratios),
            "ratios": self.ratios,
        }


def bounded(values: Sequence[float]) -> tuple[float, float]:
    """(median, upper end of its two-sided 95 % interval by order statistics, infinite for too few values). A burst of
    somebody else's work that hits a few blocks moves neither, where it would move a mean and its deviation."""
    ordered, count = sorted(values), len(values)
    beyond, chance = 0, 0.5**count
    while chance <= 0.025:  # that so many of `count` lie above the median, or fewer
        beyond += 1
        chance += math.comb(count, beyond) * 0.5**count
    return statistics.median(ordered), ordered[count - beyond] if beyond else math.inf


def compare_steps(strategy: str, size: str, momentum: float, blocks: int, steps: int) -> Steps:
    """`blocks` pairs of blocks of so many steps, none of which exchanges anything; which comes first alternates. Where
    its tensors lie makes a worker some per cent quicker or slower for as long as it lives, so both are built anew every
    second time, in alternating order."""
    took: dict[str, list[float]] = {"isolated": [], strategy: []}
    pair: dict[str, Lone] = {}
    for block in range(blocks):
        order = list(took) if block % 2 == 0 else list(took)[::-1]
        if block % _REBUILT_EVERY == 0:
            pair.clear()
            for name in order if block % (2 * _REBUILT_EVERY) == 0 else order[::-1]:
                pair[name] = _warm(Lone.of(name, size, momentum))
        for name in order:
            took[name].append(_cpu_s(lambda lone=pair[name]: [lone.step() for _ in range(steps)]) / steps)  # type: ignore[misc]
    return Steps(strategy, size, momentum, took["isolated"], took[strategy])


def _warm(lone: Lone) -> Lone:
    lone.exchange_once()
    for _ in range(2):
        lone.step()
    return lone


def exchange_costs(strategy: str, size: str, repeats: int) -> dict[str, float]:
    """Median CPU seconds of `mix` of one arrival and of three, and of `publish` to one neighbour and to three."""
    lone = Lone.of(strategy, size)
    lone.exchange_once(back=3)
    worker, took = lone.worker, dict[str, list[float]]()
    for _ in range(repeats):
        for count in (1, 3):
            names = tuple(map(PeerName, OTHERS[:count]))
            view = View(worker.gossip.endpoint.cadence.exchanges, worker.learner.now_s, names)
            lone.step()
            parcels = list[Parcel]()

            def publish(view: View = view, parcels: list[Parcel] = parcels) -> None:
                parcels += worker.gossip.strategy.publish(worker.gossip.state, worker.learner, view)

            took.setdefault(f"publish to {count}", []).append(_cpu_s(publish))
            parcel = parcels[0]
            arrivals = [lone.arrival(parcel, name) for name in names]
            weights = {str(name): 1 / (1 + count) for name in names}
            view = View(worker.gossip.endpoint.cadence.exchanges, worker.learner.now_s, names, weights)

            def mix(view: View = view, arrivals: list[Arrival] = arrivals) -> None:
                worker.gossip.strategy.mix(worker.gossip.state, worker.learner, arrivals, view)

            took.setdefault(f"mix of {count}", []).append(_cpu_s(mix))
            worker.learner.settlements.clear()
    return {what: statistics.median(times) for what, times in took.items()}


def _cpu_s(what: Callable[[], object]) -> float:
    began_s = time.process_time()
    what()
    return time.process_time() - began_s

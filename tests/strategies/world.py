"""A small learner and a small world of workers, joined without any network."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from experiments.common.quadratic import PLAIN, point_worker, sgd
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.learner import Draws
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, DeliveryClass, Neighbourhood, Parcel, Returned, Settlement
from gossipdistill.strategies import Exchange, Strategy, strategy_of
from gossipdistill.tasks import Task, accuracy
from gossipdistill.topology import load_topology
from gossipdistill.training.worker import Worker

NAMES = ("ada", "bo", "cy")
CLASSES = 3
DIMENSIONS = 5
OPTIONS: dict[str, dict[str, object]] = {"concurrent_adversarial": {"helpers": NAMES}}
"""With which a strategy talks to its neighbours, where it would not by default."""
SAME_EXAMPLES = ("concurrent_adversarial",)
"""Strategies whose peers must hold the same examples."""


def make_task(place: int) -> Task:
    """Three blobs in the plane; each peer has labels of mostly one of them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    y = torch.randint(CLASSES, (600,), generator=generator)
    x = centres[y] + 0.6 * torch.randn(600, 2, generator=generator)
    mine = torch.cat([(y[:300] == place).nonzero()[:30, 0], (y[:300] != place).nonzero()[:2, 0]])
    return Task(
        model=lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, CLASSES)),
        train=(x[:300][mine], y[:300][mine]),
        transfer=x[300:400],
        validation=(x[400:], y[400:]),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
        classes=("top", "right", "left"),
    )


def make_strategy(name: str, every_steps: int = 1, **options: object) -> Strategy:
    kind = strategy_of(name)
    exchange = Exchange(every_steps=every_steps, per_second_max=0.0, encoding=kind.encoding)
    return kind(kind.options_type.model_validate(OPTIONS.get(name, {}) | options), exchange)


def make_worker(name: str, strategy: Strategy, names: tuple[str, ...] = NAMES, seed: int = 0) -> Worker:
    place = names.index(name)
    task = make_task(0 if strategy.name in SAME_EXAMPLES else place)
    torch.manual_seed(seed + 1000 * strategy.start_of(name, place, len(names)))
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    draws = Draws(len(task.train[0]), 8, seed + 100 * place)
    spec = WorkerSpec.in_process(name, names, PLAIN | {"steps": 1000, "seed": seed})
    given = Given(strategy, load_topology("complete", names), task, model, optimizer, draws)
    worker = build_worker(spec, Mailbox(), given, strict=True)
    assert task.transfer is not None
    worker.learner.transfer_draws = Draws(len(task.transfer), 32, seed + place)
    return worker


def make_quadratic(
    name: str, strategy: Strategy, names: tuple[str, ...], topology: Path | str, lr: float = 0.0, momentum: float = 0.0
) -> Worker:
    """A worker whose model is a point and whose loss is 0.5 |point - centre|^2, exactly: the gradient is known."""
    place = names.index(name)
    centre = torch.from_numpy(centres(len(names))[place]).float()
    schedule, moving = load_topology(str(topology), names), sgd(lr, momentum)
    return point_worker(name, names, centre.repeat(2, 1), strategy, schedule, Mailbox(), moving)


def learn_from(worker: Worker, x: torch.Tensor | None = None, y: torch.Tensor | None = None) -> None:
    """Train on these examples instead: inputs, labels, or both."""
    assert worker.learner.examples is not None
    inputs, labels = worker.learner.examples
    worker.learner.examples = (inputs if x is None else x, labels if y is None else y)


def centres(count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Centres [count, DIMENSIONS] of the quadratics, the same for every test."""
    return np.random.default_rng(7).standard_normal((count, DIMENSIONS)).astype(np.float32).astype(np.float64)


def place_at(worker: Worker, point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Begin with the model at `point` [DIMENSIONS]."""
    load_flat(worker.learner.model, torch.from_numpy(point))
    worker.gossip.state = worker.gossip.strategy.init(worker.learner)


def point_of(worker: Worker) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Where the model is [DIMENSIONS]."""
    return flat_parameters(worker.learner.model).double().numpy()


@dataclass
class World:
    """Workers side by side; what one posts is delivered to the others before their next step, and what they refuse
    is returned. No link is ever busy."""

    workers: dict[str, Worker]
    boots: int = 1
    posted: list[tuple[str, Parcel]] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    _number: int = 0
    _on_the_way: dict[int, Arrival] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = frozenset(PeerName(name) for name in self.workers)
        for name, worker in self.workers.items():
            worker.gossip.endpoint.mailbox.tell(Neighbourhood(expected=len(names), alive=names - {PeerName(name)}), ())

    def step(self, now: float) -> None:
        for worker in self.workers.values():
            worker.step(now)
        for name in self.workers:
            self.carry(name, now)

    def carry(self, name: str, now: float) -> None:
        collected = self.workers[name].gossip.endpoint.mailbox.collect()
        for settlement in collected.settlements:
            came = self._on_the_way.pop(settlement.version.number)
            self.settled.append(settlement)
            if settlement.sender in self.workers:
                sender = self.workers[settlement.sender].gossip.endpoint.mailbox
                if not settlement.absorbed and came.delivery is DeliveryClass.MASS:
                    sender.deliver(Returned(PeerName(name), came.version, came.content, settlement.reason))
        for slot, parcel in collected.parcels:
            self._number += 1
            self.posted.append((name, parcel))
            if slot.peer in self.workers:
                came = arrival(name, parcel, self._number, now, self.boots)
                if parcel.delivery is not DeliveryClass.STATE:
                    self._on_the_way[self._number] = came
                    self.workers[name].gossip.endpoint.mailbox.room.free([slot])
                self.workers[slot.peer].gossip.endpoint.mailbox.deliver(came)

    @property
    def on_the_way(self) -> list[Arrival]:
        """Mass and frames that nobody has settled yet."""
        return list(self._on_the_way.values())


def arrival(sender: str, parcel: Parcel, number: int, now: float, boot: int = 1) -> Arrival:
    return Arrival(PeerName(sender), Version(Boot(boot), number), parcel.content, now)

"""A small learner and a small world of workers, joined without any network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import nn

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Arrival, DeliveryClass, Neighbourhood, Parcel, Settlement, Slot
from gossipdistill.strategies import Exchange, Initialisation, Strategy, strategy_of
from gossipdistill.tasks import Task, accuracy
from gossipdistill.topology import load_topology
from gossipdistill.worker import Worker

NAMES = ("ada", "bo", "cy")
CLASSES = 3


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
    return kind(kind.options_type.model_validate(options), exchange)


def make_worker(name: str, strategy: Strategy, names: tuple[str, ...] = NAMES, seed: int = 0) -> Worker:
    place = names.index(name)
    task = make_task(place)
    identical = strategy.needs.initialisation is Initialisation.IDENTICAL
    torch.manual_seed(seed if identical else seed + 1000 * (place + 1))
    model = task.model()
    assert task.transfer is not None
    learner = Learner(
        name=name,
        place=place,
        peers=names,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        device=torch.device("cpu"),
        seed=seed,
        transfer=task.transfer,
        transfer_draws=Draws(len(task.transfer), 32, seed + place),
        classes=CLASSES,
        steps_total=1000,
    )
    draws = Draws(len(task.train[0]), 8, seed + 100 * place)
    schedule = load_topology("complete", names)
    exchange = strategy.exchange
    cadence = Cadence(exchange.every_steps, 0.0)
    return Worker(learner, task, strategy, schedule, Mailbox(), cadence, draws, strict=True)


@dataclass
class World:
    """Workers side by side; what one posts is delivered to the others before their next step, and what they refuse
    goes home."""

    workers: dict[str, Worker]
    boots: int = 1
    posted: list[tuple[str, Parcel]] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)
    _number: int = 0
    _on_the_way: dict[int, Arrival] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = frozenset(PeerName(name) for name in self.workers)
        for name, worker in self.workers.items():
            worker.mailbox.tell(Neighbourhood(expected=len(names), alive=names - {PeerName(name)}), ())

    def step(self, now: float) -> None:
        for worker in self.workers.values():
            worker.step(now)
        for name in self.workers:
            self.carry(name, now)

    def carry(self, name: str, now: float) -> None:
        collected = self.workers[name].mailbox.collect()
        for settlement in collected.settlements:
            slot = Slot(PeerName(name), settlement.topic, "")
            came = self._on_the_way.pop(settlement.version.number)
            self.settled.append(settlement)
            if settlement.sender in self.workers:
                sender = self.workers[settlement.sender].mailbox
                sender.free([slot])
                if not settlement.absorbed and came.delivery is DeliveryClass.MASS:
                    sender.deliver(replace(came, sender=PeerName(name), home=True, reason=settlement.reason))
        for slot, parcel in collected.parcels:
            self._number += 1
            self.posted.append((name, parcel))
            if slot.peer in self.workers:
                came = arrival(name, parcel, self._number, now)
                if parcel.delivery is not DeliveryClass.STATE:
                    self._on_the_way[self._number] = came
                self.workers[slot.peer].mailbox.deliver(came)

    @property
    def on_the_way(self) -> list[Arrival]:
        """Mass and frames that nobody has settled yet."""
        return list(self._on_the_way.values())


def arrival(sender: str, parcel: Parcel, number: int, now: float) -> Arrival:
    version = Version(Boot(1), number)
    what = (parcel.step, parcel.exchange, parcel.payload, now, parcel.key)
    mass = (parcel.delivery, parcel.weight, parcel.degree)
    return Arrival(PeerName(sender), parcel.topic, version, *what, *mass)

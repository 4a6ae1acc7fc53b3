"""One peer of four sends what nobody may use, under real strategies over the real protocol, in virtual time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest
import torch

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.snapshot import pack
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Envelope, Parcel, Payload, ReliableMessage, State, Transmit
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host, Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World
from gossipdistill.training.worker import Worker

from .test_network import Trainer
from .world import make_strategy, make_worker

NAMES = ("p0", "p1", "p2", "p3")
LIAR = PeerName("p3")
HONEST = [PeerName(name) for name in NAMES[:3]]
WAYS = {"nan": "not_finite", "infinity": "not_finite", "shape": "shape", "names": "arrays", "type": "encoding"}
"""How a payload is spoilt, and the reason by which it is refused."""


def corrupt(payload: Payload, way: str) -> Payload:
    first, *others = payload.layout
    arrays = {array.name: torch.rand(array.shape) for array in payload.layout}
    if way in ("nan", "infinity"):
        return pack(arrays | {first.name: torch.full(first.shape, float(way))}, "raw")
    if way == "shape":
        return pack(arrays | {first.name: torch.rand(2, 7)}, "raw")
    if way == "names":
        return pack({"something_else": torch.rand(3)}, "raw")
    return Payload((first._replace(encoding="float64"), *others), payload.body)


@dataclass
class Ear(Observer):
    """What the liar has sent, and what was said of it."""

    sent: list[Envelope] = field(default_factory=list)
    said: dict[PeerName, Counter[EventKind]] = field(default_factory=dict)

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        if host.name == LIAR and isinstance(transmit.envelope.message, State | ReliableMessage):
            self.sent.append(transmit.envelope)

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if event.peer == LIAR:
            self.said.setdefault(host.name, Counter())[event.kind] += 1


@dataclass
class Run:
    """Three honest peers and one that spoils each payload of its own, in turn in each way, and says old ones again."""

    strategy: str
    workers: dict[PeerName, Worker] = field(default_factory=dict)
    ear: Ear = field(default_factory=Ear)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        network = Network(Quality(latency_s=0.002), seed=0)
        self.world = World(NAMES, self._spawn, network, observers=[self.ear], seed=0)
        self.world.start_all()

    def _spawn(self, launch: Launch) -> Trainer:
        worker = self.workers[launch.name] = make_worker(launch.name, make_strategy(self.strategy), names=NAMES)
        worker.gossip.endpoint.mailbox = launch.mailbox
        if launch.name == LIAR:
            post, ways = launch.mailbox.post, itertools.cycle(WAYS)

            def lie(parcel: Parcel) -> bool:
                return post(parcel.with_content(payload=corrupt(parcel.payload, next(ways))))

            launch.mailbox.post = lie  # type: ignore[method-assign]
        return Trainer(worker, Compute(step_time_s=0.05, jitter=0.3).pace(launch.place, 0, 1.0))


@pytest.mark.parametrize("strategy", ["codistill_predictions", "gossip_averaging", "sgp", "dpsgd"])
def test_nothing_of_it_is_applied_and_all_of_it_is_counted(strategy: str) -> None:
    run = Run(strategy)
    run.world.run_for(10.0)
    for envelope in run.ear.sent[:200]:  # and a replay of what it has said
        run.world.inject(envelope.to, envelope)
    run.world.run_for(1.0)
    for name in HONEST:
        host, ledger = run.world.hosts[name], run.workers[name].learner.ledger
        refused: Counter[str] = Counter()
        for key, count in ledger.quarantined.items():
            who, _, reason = key.partition(": ")
            assert who == LIAR, key
            refused[reason] += count
        assert set(refused) <= set(WAYS.values()), refused
        assert len(refused) > 1, refused
        assert LIAR not in ledger.links or ledger.links[LIAR].exchanges == 0
        others = {other: ledger.links[other].exchanges for other in HONEST if other != name}
        assert min(others.values()) > 20, others
        assert bool(flat_parameters(run.workers[name].learner.model).isfinite().all())
        weight = DEFAULT_LIMITS.penalty_with_mass if strategy == "sgp" else 1
        assert weight * refused.total() >= DEFAULT_LIMITS.offences_max
        away = host.peer.scores.turned_away_in_words
        assert away[f"{LIAR}: muted"] > 0, away
        least = 5 if strategy == "sgp" else 20  # who gives nothing that can be taken is soon given nothing to send on
        assert sum(away.get(f"{LIAR}: {reason}", 0) for reason in ("repeated", "replay", "muted")) > least, away
        kinds = run.ear.said[name]
        news = [event for event in ledger.take_news(0.0) if event.kind is EventKind.QUARANTINED]
        assert {event.detail["code"] for event in news} == set(refused)
        assert kinds[EventKind.MUTED] >= (
            1 if strategy == "sgp" else 2
        )  # it came back after the first time, and went on
        assert kinds[EventKind.UNMUTED] >= 1
        assert not kinds[EventKind.DEAD] + kinds[EventKind.SUSPECT]

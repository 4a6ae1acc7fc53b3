"""Peers that join a run in progress: real workers over the real protocol in virtual time, and donors that fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from gossipdistill.config.schema import ExchangeKeys
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning import state_transfer
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.snapshot import model_arrays, pack
from gossipdistill.messages import Arrival
from gossipdistill.sim.compute import Compute, Pace
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import STRATEGIES, Initialisation
from gossipdistill.training.endpoint import Endpoint
from gossipdistill.training.joining import Joining, give_to_newcomers
from gossipdistill.training.worker import Worker

from .world import DIMENSIONS, make_quadratic, make_strategy, make_worker, place_at
from .world import World as Workers

NAMES = ("p0", "p1", "p2", "p3", "p4")
NEW = PeerName("p4")
WEIGHTS = [
    name
    for name, kind in STRATEGIES.items()
    if kind.delivery.gossips and kind.needs.alike_models and kind.needs.initialisation is Initialisation.IDENTICAL
]


@dataclass
class Trainer:
    """Joins, if it is a newcomer, then trains."""

    worker: Worker
    pace: Pace
    joins: bool
    joining: Joining | None = None
    news: list[Event] = field(default_factory=list)
    exchanges_before: int = -1
    began_at: bytes = b""

    def step(self, now: float) -> float:
        worker = self.worker
        if self.joins:
            if self.joining is None:
                self.joining = Joining(worker.gossip, now, within_s=60.0)
            over = self.joining.look(now)
            self.news += worker.learner.ledger.take_news(now)
            if not over:
                return 0.02
            self.joins, self.exchanges_before = False, worker.gossip.endpoint.cadence.exchanges
            self.began_at = bytes(pack(model_arrays(worker.learner.model), "raw").body)
        if worker.gossip.awaited(now):
            return 0.002
        worker.step(now)
        self.news += worker.learner.ledger.take_news(now)
        return self.pace.next_s()

    def told(self, kind: EventKind) -> list[tuple[str, str]]:
        return [(event.peer, event.reason) for event in self.news if event.kind is kind]


@dataclass
class Run:
    """Four peers that train, and a fifth that comes when it is started."""

    make: Callable[[str], Worker]
    keys: ExchangeKeys = field(default_factory=ExchangeKeys)
    trainers: dict[PeerName, Trainer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        network = Network(Quality(latency_s=0.002))
        self.world = World(NAMES, self._spawn, network, over_the_wire=True)
        for name in NAMES[:4]:
            self.world.start(name)

    def _spawn(self, launch: Launch) -> Trainer:
        worker = self.make(launch.name)
        worker.gossip.endpoint.mailbox = launch.mailbox
        if self.world.now > 0.0:  # far from where the others are by now
            place_at(worker, np.full(DIMENSIONS, 5.0))
        give_to_newcomers(worker.gossip, self.keys.given_bytes_per_s)
        pace = Compute(step_time_s=0.05, jitter=0.3).pace(launch.place, 0)
        made = self.trainers[launch.name] = Trainer(worker, pace, joins=self.world.now > 0.0 and launch.name == NEW)
        return made

    def point(self, name: str) -> torch.Tensor:
        return flat_parameters(self.trainers[PeerName(name)].worker.learner.model)


def quadratics(strategy: str = "sgp") -> Callable[[str], Worker]:
    return lambda name: make_quadratic(name, make_strategy(strategy), NAMES, "complete", 0.05)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of five numbers travels in five chunks."""
    monkeypatch.setattr(state_transfer, "CHUNK_BYTES", 4)


@pytest.mark.parametrize("strategy", WEIGHTS)
def test_a_newcomer_goes_on_from_a_donors_state_with_weight_one(strategy: str, small_chunks: None) -> None:
    run = Run(quadratics(strategy))
    run.world.run_for(8.0)
    run.world.start(NEW)
    run.world.run_for(1.5)
    new = run.trainers[NEW]
    ((donor, reason),) = new.told(EventKind.ADOPTED)
    assert donor in NAMES[:4]
    assert "its loss on " in reason
    assert new.exchanges_before == 0  # nothing was said while it caught up
    assert run.trainers[PeerName(donor)].told(EventKind.DONATES)[0][0] == NEW
    assert new.worker.learner.step > 5
    giver = run.trainers[PeerName(donor)].worker.gossip.endpoint.donor
    assert giver is not None
    assert [bytes(pin.body) for pin in giver.pins.values()] == [new.began_at]
    assert all(trainer.worker.learner.ledger.quarantined == {} for trainer in run.trainers.values())


def test_a_newcomer_of_mass_brings_in_weight_one_and_no_more(small_chunks: None) -> None:
    run = Run(quadratics())
    run.world.run_for(8.0)
    run.world.start(NEW)
    held: list[float] = []
    while run.trainers[NEW].exchanges_before < 0:
        run.world.run_for(0.02)
        held.append(run.trainers[NEW].worker.gossip.held_weight())
    assert held[:-1] == [1.0] * (len(held) - 1)
    assert len(held) > 5


def test_a_run_that_begins_is_not_joined_and_a_newcomer_without_donors_begins_alone() -> None:
    run = Run(quadratics())
    run.world.run_for(1.0)
    run.world.start(NEW)
    run.world.run_for(2.0)
    new = run.trainers[NEW]
    assert new.told(EventKind.ADOPTED) == []
    assert len(new.told(EventKind.DONOR_PASSED_OVER)) == 3
    assert new.told(EventKind.NOT_ADOPTED) == [("", "no donor has one that I can use; begins with its own model")]
    assert new.worker.learner.step > 5


def begin(run: Run, chunks: int = 2) -> tuple[Trainer, PeerName]:
    """A newcomer that has so many chunks, and its donor."""
    run.world.run_for(8.0)
    run.world.start(NEW)
    new = run.trainers[NEW]
    for _ in range(1000):
        run.world.run_for(0.005)
        if new.joining is not None and len(new.joining.fetch.body) == 4 * chunks:
            break
    assert new.joining is not None
    donor = new.joining.fetch.donor
    assert donor is not None
    return new, donor


def test_a_donor_that_dies_midway_is_followed_by_another_from_the_start(small_chunks: None) -> None:
    run = Run(quadratics())
    new, donor = begin(run)
    run.world.kill(donor)
    run.world.run_for(8.0)
    ((passed_over, reason),) = new.told(EventKind.DONOR_PASSED_OVER)
    assert passed_over == donor
    assert reason in ("is not there any more", "has given nothing for 5 s")
    ((other, _),) = new.told(EventKind.ADOPTED)
    assert other != donor


def test_a_donor_that_is_another_process_midway_is_refused_and_another_asked(small_chunks: None) -> None:
    run = Run(quadratics())
    new, donor = begin(run)
    run.world.start(donor)
    run.world.run_for(8.0)
    ((passed_over, reason),) = new.told(EventKind.DONOR_PASSED_OVER)
    assert passed_over == donor
    assert reason in ("I no longer hold that version", "is not there any more", "has given nothing for 5 s")
    assert new.told(EventKind.ADOPTED)[0][0] != donor


def test_a_broken_link_is_waited_for_and_goes_on_with_the_same_version(small_chunks: None) -> None:
    run = Run(quadratics())
    new, donor = begin(run)
    assert new.joining is not None
    version = new.joining.fetch.serial
    run.world.pause(donor)
    run.world.run_for(0.5)
    run.world.resume(donor)
    run.world.run_for(3.0)
    assert new.told(EventKind.DONOR_PASSED_OVER) == []
    assert new.told(EventKind.ADOPTED)[0][0] == donor
    assert new.joining.fetch.serial == version


def test_a_spoilt_chunk_is_found_by_the_digest_and_another_donor_asked(
    small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt: list[PeerName] = []
    take = Endpoint.state_chunks

    def take_spoilt(endpoint: Endpoint) -> list[Arrival]:
        arrivals = take(endpoint)
        if arrivals and arrivals[0].payload.nbytes and not spoilt:
            spoilt.append(arrivals[0].sender)
            body = bytes(arrivals[0].payload.body)
            payload = replace(arrivals[0].payload, body=bytes([body[0] ^ 1]) + body[1:])
            arrivals[0] = arrivals[0].with_content(payload=payload)
        return arrivals

    monkeypatch.setattr(Endpoint, "state_chunks", take_spoilt)
    run = Run(quadratics())
    run.world.run_for(8.0)
    run.world.start(NEW)
    run.world.run_for(4.0)
    new = run.trainers[NEW]
    reason = "what came is not what it sent: the digest is another"
    assert new.told(EventKind.DONOR_PASSED_OVER) == [(spoilt[0], reason)]
    assert new.told(EventKind.ADOPTED)[0][0] != spoilt[0]


def poison(run: Run, value: float) -> None:
    """All veterans but the last have a model that nobody should adopt, and say nothing of it."""
    for name in NAMES[:3]:
        worker = run.trainers[PeerName(name)].worker
        load_flat(worker.learner.model, torch.full_like(run.point(name), value))


@pytest.mark.parametrize(
    ("value", "reason"), [(float("nan"), "its state is refused: .* NaN"), (1e6, "its loss on .* not adopted")]
)
def test_a_state_that_is_not_sound_or_worse_than_mine_is_not_adopted(
    value: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_transfer, "all_finite", lambda arrays: True)
    run = Run(quadratics("gossip_averaging"))
    run.world.run_for(8.0)
    for trainer in run.trainers.values():  # so that nobody is averaged with anybody any more
        trainer.worker.gossip.endpoint.cadence = replace(trainer.worker.gossip.endpoint.cadence, every_steps=1 << 30)
        trainer.worker.learner.optimizer.param_groups[0]["lr"] = 0.0
    poison(run, value)
    run.world.start(NEW)
    run.world.run_for(3.0)
    new = run.trainers[NEW]
    for _, told in new.told(EventKind.DONOR_PASSED_OVER):
        assert re.search(reason, told)
    assert len(new.told(EventKind.DONOR_PASSED_OVER)) >= 1
    assert bool(run.point(NEW).isfinite().all())
    assert float(run.point(NEW).abs().max()) < 10.0


def test_who_shares_predictions_only_gives_no_weights_and_asks_for_none() -> None:
    run = Run(lambda name: make_worker(name, make_strategy("codistill_predictions"), names=NAMES))
    assert all(trainer.worker.gossip.endpoint.donor is None for trainer in run.trainers.values())
    assert [name for name in STRATEGIES if _gives(name)] == WEIGHTS


def _gives(name: str) -> bool:
    if not STRATEGIES[name].delivery.gossips:
        return False
    return give_to_newcomers(make_worker("p0", make_strategy(name), names=NAMES).gossip, 50e6)


def test_nothing_is_given_where_the_user_does_not_want_it() -> None:
    worker = make_worker("p0", make_strategy("sgp"), names=NAMES)
    assert not give_to_newcomers(worker.gossip, ExchangeKeys(fetch=False).given_bytes_per_s)
    assert worker.gossip.endpoint.donor is None


@pytest.mark.parametrize("strategy", ["codistill_predictions", "codistill_checkpoints"])
def test_a_newcomer_is_listened_to_after_so_many_steps_of_the_listener(strategy: str) -> None:
    options = {"teacher_burn_in_steps": 6, "best_k": 1}
    world = Workers({name: make_worker(name, make_strategy(strategy, **options)) for name in ("ada", "bo")})
    ada = world.workers["ada"]
    for step in range(5):
        world.step(step * 0.1)
    assert ada.learner.ledger.exchanges == 0
    for step in range(5, 12):
        world.step(step * 0.1)
    assert ada.learner.ledger.links["bo"].exchanges > 0
    reasons = [(event.kind, event.detail.get("rule")) for event in ada.learner.ledger.news]
    assert reasons[0] == (EventKind.LEFT_OUT, "teacher_burn_in_steps")
    assert ada.gossip.state.attention.first["bo"][1] <= 1
    before = ada.learner.ledger.links["bo"].exchanges
    world.boots = 2  # bo is killed and begins anew
    world.workers["bo"] = make_worker("bo", make_strategy(strategy, **options))
    world.__post_init__()
    for step in range(12, 16):
        world.step(step * 0.1)
    assert ada.learner.ledger.links["bo"].exchanges <= before + 1
    for step in range(16, 24):
        world.step(step * 0.1)
    assert ada.learner.ledger.links["bo"].exchanges > before + 1

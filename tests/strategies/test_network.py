"""Real strategies and workers over the real protocol in virtual time, while the network misbehaves."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from experiments.common.lossy import Storm
from experiments.mass.averaging import weights_of
from gossipdistill.ids import PeerName
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.messages import Payload
from gossipdistill.sim.checkers import Conditions
from gossipdistill.sim.checkers.mass import MassConserved
from gossipdistill.sim.compute import Compute, Pace
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import STRATEGIES, Delivery, Rounds
from gossipdistill.training.ending import finish, publish_final, serve
from gossipdistill.training.leaving import Leaving
from gossipdistill.training.worker import Worker

from .world import make_quadratic, make_strategy, make_worker

NAMES = ("p0", "p1", "p2", "p3", "p4")
FREE = [name for name, kind in STRATEGIES.items() if kind.delivery.gossips]
OPTIONS: dict[str, dict[str, object]] = {"concurrent_adversarial": {"helpers": NAMES}}


@dataclass
class Trainer:
    """A worker as the owner of a real loop drives it: it asks for whom it has to wait, steps, and serves when done."""

    worker: Worker
    pace: Pace
    done_at_step: int = 1 << 30
    leaving: Leaving | None = None
    _done: bool = False

    def mass(self) -> tuple[float, ...]:
        return (self.worker.gossip.held_weight(),)

    def mass_of(self, payload: Payload, weight: float) -> tuple[float, ...]:
        return (weight,)

    def part(self, now: float) -> None:
        finish(self.worker.gossip, now)
        self.leaving = Leaving(self.worker.gossip, now)

    def step(self, now: float) -> float | None:
        worker = self.worker
        if self.leaving is not None:
            return None if self.leaving.look(now) else 0.002
        if self._done:
            serve(worker.gossip, now)
            return 0.02
        if worker.gossip.awaited(now):
            return 0.002
        worker.step(now)
        if worker.learner.step >= self.done_at_step:
            finish(worker.gossip, now)
            publish_final(worker.gossip, now)
            worker.gossip.endpoint.mailbox.report_progress(worker.learner.step, done=True)
            self._done = True
        return self.pace.next_s()


@dataclass
class Run:
    """Five peers under a strategy."""

    make: Callable[[str], Worker]
    seed: int = 0
    done_at: dict[str, int] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    workers: dict[PeerName, Worker] = field(default_factory=dict)
    trainers: dict[PeerName, Trainer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)  # models of a few numbers
        self.storm = Storm(random.Random(f"storm {self.seed}"), calm=True)
        network = Network(Quality(latency_s=0.002), faults=self.storm, seed=self.seed)
        self.checker = MassConserved(Conditions(len(NAMES)))
        observers = [self.checker]
        self.world = World(NAMES, self._spawn, network, seed=self.seed, over_the_wire=True, observers=observers)
        self.world.start_all()

    def _spawn(self, launch: Launch) -> Trainer:
        worker = self.workers[launch.name] = self.make(launch.name)
        worker.gossip.endpoint.mailbox = launch.mailbox
        pace = Compute(step_time_s=0.05, jitter=0.3).pace(launch.place, self.seed, self.slow.get(launch.name, 1.0))
        made = self.trainers[launch.name] = Trainer(worker, pace, self.done_at.get(launch.name, 1 << 30))
        return made

    def calm_down(self) -> None:
        """Nobody publishes any more, and all that is on its way arrives."""
        self.storm.calm = True
        for worker in self.workers.values():
            worker.gossip.endpoint.cadence = Cadence(1, 0.0, _next_s=math.inf)
        self.world.run_for(20.0)

    def points(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.stack([flat_parameters(w.learner.model).double().numpy() for w in self.workers.values()])


def quadratics(strategy: str, topology: str = "complete", lr: float = 0.05) -> Callable[[str], Worker]:
    return lambda name: make_quadratic(name, make_strategy(strategy), NAMES, topology, lr)


def points_in(run: Run, virtual_s: float) -> list[int]:
    """Steps of each peer in so much time."""
    before = [worker.learner.step for worker in run.workers.values()]
    run.world.run_for(virtual_s)
    return [worker.learner.step - was for worker, was in zip(run.workers.values(), before, strict=True)]


@pytest.mark.parametrize("name", FREE)
def test_every_strategy_trains_through_a_storm_and_settles_what_comes(name: str) -> None:
    torch.manual_seed(0)
    made = OPTIONS.get(name, {})
    # strict: an unsettled arrival raises
    run = Run(lambda peer: make_worker(peer, make_strategy(name, 1, **made), names=NAMES))
    run.world.run_for(1.0)
    run.storm.calm = False
    waits = STRATEGIES[name].rounds is Rounds.LOCKSTEP  # a round takes as long as the unluckiest of its frames
    steps = points_in(run, 20.0 if waits else 3.0)
    assert min(steps) > (3 if waits else 10), steps
    for worker in run.workers.values():
        assert worker.learner.ledger.exchanges > 5
        assert worker.learner.ledger.quarantined == {}
        assert bool(flat_parameters(worker.learner.model).isfinite().all())
    assert run.storm.lost > 50
    assert run.storm.doubled > 5


@pytest.mark.parametrize("seed", range(3))
def test_push_sum_weight_is_conserved_through_loss_duplication_and_reordering(seed: int) -> None:
    run = Run(quadratics("sgp"), seed)
    run.world.run_for(2.0)
    run.storm.calm = False
    for _ in range(10):
        run.world.run_for(0.5)
        assert sum(weights_of(run.world, run.workers)) == pytest.approx(5.0, abs=1e-9), f"seed {seed}"
    run.calm_down()
    held, on_the_way = weights_of(run.world, run.workers)
    assert on_the_way == 0.0
    assert held == pytest.approx(5.0, abs=1e-9), f"seed {seed}"


def test_mass_sent_to_one_who_is_done_comes_home_and_the_living_keep_it() -> None:
    run = Run(quadratics("sgp"), done_at={"p1": 40})
    run.world.run_for(12.0)
    assert run.workers[PeerName("p1")].learner.step == 40
    assert sum(weights_of(run.world, run.workers)) == pytest.approx(5.0, abs=1e-9)
    assert all(worker.learner.step > 100 for name, worker in run.workers.items() if name != "p1")


MASS = [name for name, kind in STRATEGIES.items() if kind.delivery is Delivery.MASS and name != "adpsgd"]


@pytest.mark.parametrize("name", MASS)
def test_the_mass_of_one_that_leaves_stays_with_the_others(name: str) -> None:
    run = Run(quadratics(name))
    run.world.run_for(2.0)
    run.world.leave("p1")
    run.world.run_for(0.3)  # it ends within a few steps of the others, not after a second
    assert PeerName("p1") not in run.world.hosts
    leaver = run.workers.pop(PeerName("p1"))
    told = run.trainers[PeerName("p1")].leaving.event(0.0)  # type: ignore[union-attr]
    assert told is not None
    assert "was taken within 0.0" in told.reason
    assert leaver.gossip.held_weight() == 0.0
    assert bool(flat_parameters(leaver.learner.model).isfinite().all())
    run.calm_down()
    assert sum(worker.gossip.held_weight() for worker in run.workers.values()) == pytest.approx(5.0, abs=1e-9)
    assert not run.checker.violations


@pytest.mark.parametrize("seed", range(3))
def test_the_mass_of_one_that_leaves_stays_with_the_others_under_loss(seed: int) -> None:
    run = Run(quadratics("sgp"), seed)
    run.world.run_for(2.0)
    run.storm.calm, run.storm.loss = False, 0.2
    run.world.run_for(2.0)
    run.world.leave("p1")
    run.world.run_for(1.2)
    assert PeerName("p1") not in run.world.hosts
    del run.workers[PeerName("p1")]
    run.calm_down()
    assert run.checker.lost in ((), (pytest.approx(0.0, abs=1e-9),)), f"seed {seed}"
    assert not run.checker.violations, f"seed {seed}"
    assert sum(weights_of(run.world, run.workers)) >= 5.0 - 1e-9, f"seed {seed}"  # parked ones may be used already


def test_whoever_leaves_goes_to_the_next_when_its_mass_is_refused_and_keeps_it_when_all_do() -> None:
    run = Run(quadratics("sgp"))
    run.world.run_for(2.0)
    for name in NAMES:
        run.world.leave(name)
    run.world.run_for(1.2)
    assert not run.world.hosts
    told = [trainer.leaving.event(0.0) for trainer in run.trainers.values()]  # type: ignore[union-attr]
    assert not run.checker.violations
    assert all(event is None or event.detail["seconds"] < 1.0 for event in told)  # type: ignore[operator]


def test_a_straggler_slows_nobody_under_sgp_and_everybody_under_dpsgd() -> None:
    free = Run(quadratics("sgp"), slow={"p4": 10.0})
    free.world.run_for(2.0)
    alone = points_in(free, 10.0)
    rounds = Run(quadratics("dpsgd"), slow={"p4": 10.0})
    rounds.world.run_for(2.0)
    together = points_in(rounds, 10.0)
    assert min(alone[:4]) > 160, alone
    assert max(together) < 40, together
    assert max(together) - min(together) <= 1, together
    waited = [
        worker.gossip.endpoint.lockstep.waited_s
        for worker in rounds.workers.values()
        if worker.gossip.endpoint.lockstep is not None
    ]
    assert min(waited[:4]) > 5.0
    assert waited[4] < 1.0


def test_a_peer_that_is_killed_stops_the_rounds_of_the_others_for_one_time_out_at_most() -> None:
    run = Run(lambda name: make_quadratic(name, make_strategy("dpsgd", round_timeout_s=1.0), NAMES, "ring", 0.05))
    run.world.run_for(3.0)
    run.world.kill("p2")
    del run.workers[PeerName("p2")]
    assert min(points_in(run, 10.0)) > 100
    run.world.start("p2")
    run.world.run_for(10.0)
    back = run.workers[PeerName("p2")]
    numbers = [worker.gossip.endpoint.cadence.exchanges for worker in run.workers.values()]
    assert max(numbers) - min(numbers) <= 2, numbers
    assert back.learner.ledger.exchanges > 50
    assert float(np.ptp(run.points(), axis=0).max()) < 0.5

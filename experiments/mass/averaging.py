"""Peers that only average: the real strategy, worker, mailbox and protocol on a simulated network, without training.

What is measured: the sum of the push-sum weights that are held or on their way, and how far each estimate is from the
true mean of what everybody began with.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.common.lossy import Storm
from experiments.common.quadratic import point_worker, sgd
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.mass import Mass
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Carrier, DeliveryClass, Returned, Slot, Verdict
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import Exchange
from gossipdistill.strategies.base import MassOptions
from gossipdistill.strategies.sgp import Sgp
from gossipdistill.topology import load_topology
from gossipdistill.training.worker import Worker

DIM = 10
LIMITS = replace(
    DEFAULT_LIMITS,
    consign_timeout_s=0.1,
    consign_timeout_max_s=0.8,
    probe_interval_s=5.0,
    probe_timeout_s=2.0,
    unreachable_after_s=15.0,
)
"""Parcels of 40 bytes on a fast network are said again sooner than a model on a slow one; probes are ten times rarer,
and so is the patience with who does not answer, for the sake of the time that all this takes."""
WAKE_S = (0.1, 1.0)
"""Each peer wakes at a pace of its own between these: the fastest ten times as often as the slowest."""

Vector = NDArray[np.float64]


def make_worker(launch: Launch, names: Sequence[str], start: Vector, topology: str, encoding: str, lr: float) -> Worker:
    """A worker whose model is a point, beginning at `start` [DIM], drawn to `start` when it trains."""
    centre = torch.from_numpy(start).float()
    strategy = Sgp(MassOptions(), Exchange(every_steps=1, per_second_max=0.0, encoding=encoding))
    return point_worker(
        launch.name,
        names,
        centre.repeat(2, 1),
        strategy,
        load_topology(topology, names),
        launch.mailbox,
        sgd(lr),
        centre,
    )


@dataclass
class Averager:
    """A worker that takes, mixes and publishes, and leaves the training out."""

    worker: Worker
    wake_s: float
    chance: random.Random
    exchanges: int = 0
    publishing: bool = True

    def step(self, now: float) -> float:
        """One exchange; seconds until the next."""
        worker = self.worker
        worker.learner.now_s = now
        worker.learner.step += 1
        arrivals = worker.gossip.endpoint.arrivals()
        view = worker.gossip.mix(arrivals, now) if arrivals else worker.gossip.endpoint.view([], now)
        if self.publishing:
            worker.gossip.endpoint.cadence.exchanges += 1
            if not worker.gossip.endpoint.mailbox.room.busy(
                worker.gossip.strategy.topic, DeliveryClass.MASS
            ).issuperset(view.out_neighbours):
                before = state_of(worker).weight
                worker.gossip.publish(view, now)
                self.exchanges += state_of(worker).weight != before
        return self.wake_s * self.chance.uniform(0.8, 1.2)


def state_of(worker: Worker) -> Mass:
    """The push-sum state."""
    state = worker.gossip.state
    assert isinstance(state, Mass)
    return state


class Weights(NamedTuple):
    """Where the push-sum weight is: with learners, or not absorbed yet (queued, flying, held, parked, returned)."""

    held: float
    on_the_way: float


def weights_of(world: World, workers: dict[PeerName, Worker]) -> Weights:
    """Counted from the protocol's own books: what a sender has not settled and its recipient has not absorbed."""
    held = on_the_way = 0.0
    for name in world.hosts:
        held += state_of(workers[name]).weight
        on_the_way += sum(one.weight for one in _on_the_way(world, name))
    return Weights(held, on_the_way)


def mass_of(world: World, workers: dict[PeerName, Worker]) -> Vector:
    """The sum of x [DIM] over all learners and all that is on its way: divided by n, the average that is conserved."""
    total = np.zeros(DIM)
    for name in world.hosts:
        state = state_of(workers[name])
        total += state.whole(workers[name].learner).numpy()
        for one in _on_the_way(world, name):
            total += state.coordinates.unpack(one.payload).double().numpy()
    return total


def _on_the_way(world: World, name: PeerName) -> Iterator[Carrier]:
    """What `name` has sent, and nobody has absorbed; what was returned to it lies in its mailbox."""
    host = world.hosts[name]
    yield from (one for one in host.mailbox.waiting() if isinstance(one, Returned))
    for slot, one in host.peer.reliable_messages.sender.in_flight():
        if not _absorbed(world, name, slot, one.number, host.boot):
            yield one.parcel


def _absorbed(world: World, sender: PeerName, slot: Slot, number: int, boot: int) -> bool:
    recipient = world.hosts.get(slot.peer)
    if recipient is None:
        return False
    window = recipient.peer.reliable_messages.receiver.windows.get(Slot(sender, slot.topic, ""))
    if window is None or window.boot != boot:
        return False
    receipt = window.verdicts.get(number)
    return receipt is not None and receipt.verdict is Verdict.ABSORBED


@dataclass
class Averaging:
    """A storm over peers that average."""

    count: int
    encoding: str = "raw"
    topology: str = "one_peer_exponential"
    seed: int = 0
    limits: Limits = LIMITS
    workers: dict[PeerName, Worker] = field(default_factory=dict)
    averagers: list[Averager] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        names = tuple(f"p{place}" for place in range(self.count))
        self.start = starts(self.count, self.seed)
        self.truth: Vector = self.start.mean(axis=0)
        self.storm = Storm(random.Random(f"storm {self.seed}"))
        network = Network(Quality(latency_s=0.002), faults=self.storm, seed=self.seed)
        chance = random.Random(f"wake {self.seed}")

        def spawn(launch: Launch) -> Averager:
            worker = make_worker(launch, names, self.start[launch.place], self.topology, self.encoding, 0.0)
            self.workers[launch.name] = worker
            averager = Averager(worker, chance.uniform(*WAKE_S), random.Random(f"pace {self.seed} {launch.place}"))
            self.averagers.append(averager)
            return averager

        self.world = World(names, spawn, network, limits=self.limits, seed=self.seed)
        self.world.start_all()

    @property
    def exchanges(self) -> int:
        """Parcels of mass posted so far."""
        return sum(averager.exchanges for averager in self.averagers)

    def estimates(self) -> Vector:
        """z of all peers [count, DIM]."""
        return np.stack([flat_parameters(worker.learner.model).double().numpy() for worker in self.workers.values()])

    def error(self) -> float:
        """The largest distance of an estimate from the true mean, over peers and coordinates."""
        return float(np.abs(self.estimates() - self.truth).max())

    def average_error(self) -> float:
        """The largest distance, over coordinates, of the average of all mass, wherever it is, from the true mean."""
        return float(np.abs(mass_of(self.world, self.workers) / self.count - self.truth).max())

    def settle(self, within_s: float = 120.0) -> None:
        """Nobody publishes any more and the network is calm: let everything arrive."""
        self.storm.calm = True
        for averager in self.averagers:
            averager.publishing = False
        self.world.run_for(within_s)


def starts(count: int, seed: int) -> Vector:
    """Where the peers begin [count, DIM]: standard normal, exact in float32."""
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32).astype(np.float64)

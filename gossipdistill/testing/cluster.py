"""A small cluster in virtual time: real protocol objects and mailboxes, a network bent by a fault plan, no waiting.

A minute of ten peers takes about a second. The same plan, seed and code give the same course of events.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gossipdistill import bundled
from gossipdistill.events import Event
from gossipdistill.faults import FaultPlan, LinkFaults, ProcessFaults, load_fault_plan
from gossipdistill.faults.plan import check_names
from gossipdistill.ids import PeerName
from gossipdistill.roster import load_roster
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host, Launch, Spawn
from gossipdistill.sim.learners import Publisher
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

Faults = FaultPlan | Sequence[dict[str, Any]] | str | Path


class Happening(NamedTuple):
    """An event at `at_s` seconds after the start, as the peer `by` saw it."""

    at_s: float
    by: str
    event: Event


class Cluster:
    """Peers in virtual time. Seconds count from the start of all."""

    def __init__(
        self,
        peers: int | Sequence[str] = 4,
        faults: Faults | None = None,
        seed: int = 0,
        latency_s: float = 0.001,
        spawn: Spawn | None = None,
    ) -> None:
        """
        Args:
            peers: their number (ada, bo, cy, ...), or their names.
            faults: a fault plan, its entries as dictionaries, a ready-made name, or a file.
            seed: the seed of every chance.
            latency_s: the latency of each link, one way.
            spawn: makes the learner of a process that starts (`sim.host`). By default, each peer publishes the number
                of its publications to all others five times a second.
        """
        names = load_roster(str(peers)).names if isinstance(peers, int) else tuple(peers)
        self.plan = _plan(faults, names)
        self.links = LinkFaults(self.plan, names)
        self.happened: list[Happening] = []
        self._seed = seed
        self.world = World(
            names,
            spawn or self._publisher,
            network=Network(Quality(latency_s=latency_s), faults=self.links, seed=seed),
            processes=ProcessFaults(self.plan, names),
            seed=seed,
            observers=[_Witness(self.happened)],
            over_the_wire=True,
        )
        self.world.start_all()

    @property
    def names(self) -> tuple[str, ...]:
        """All peers, living or not."""
        return tuple(map(str, self.world.names))

    @property
    def now_s(self) -> float:
        """The seconds that have passed."""
        return self.world.now

    def run(self, seconds: float) -> None:
        """Let this many seconds pass."""
        self.world.run_for(seconds)

    def living(self) -> tuple[str, ...]:
        """The peers whose process exists."""
        return tuple(name for name in self.names if PeerName(name) in self.world.hosts)

    def sees(self, name: str) -> tuple[str, ...]:
        """The other peers that `name` believes alive."""
        alive = self.world.host(name).mailbox.neighbourhood().alive
        return tuple(other for other in self.names if PeerName(other) in alive)

    def everybody_sees_everybody(self) -> bool:
        """Whether each living peer believes exactly the other living ones alive."""
        living = self.living()
        return all(self.sees(name) == tuple(other for other in living if other != name) for name in living)

    def newest(self, name: str) -> dict[str, int]:
        """The newest number that `name` has of each other peer (of the learners that come with the cluster)."""
        learner = self.world.host(name).stepper
        assert isinstance(learner, Publisher), "a learner of your own knows what it has"
        return {str(sender): number for sender, number in learner.newest.items()}

    def events(self, kind: str, about: str | None = None) -> list[Happening]:
        """The events of this kind (a word of `events.EventKind`), about one peer or about any."""
        return [one for one in self.happened if one.event.kind == kind and about in (None, one.event.peer)]

    def _publisher(self, launch: Launch) -> Publisher:
        chance = random.Random(f"cluster {self._seed} {launch.place} {launch.incarnation}")
        return Publisher(launch.mailbox, Compute().pace(launch.place, self._seed), chance, every_steps=10)


class _Witness(Observer):
    """Notes every event with the time of the world."""

    def __init__(self, happened: list[Happening]) -> None:
        self._happened = happened

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self._happened.append(Happening(now_s, str(host.name), event))


def _plan(faults: Faults | None, names: Sequence[str]) -> FaultPlan:
    if faults is None:
        return FaultPlan()
    if isinstance(faults, str | Path):
        return load_fault_plan(faults, names)
    if isinstance(faults, FaultPlan):
        plan = faults
    else:
        plan = bundled.validated(FaultPlan, {"fault": list(faults)}, file="faults")
    check_names(plan, names, "faults")
    return plan

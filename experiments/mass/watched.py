"""A simulation that is looked at after every step of every peer, and in which the greatest weights are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from experiments.common.timed import Timed
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.sim.compute import Pace
from gossipdistill.sim.host import Launch
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.strategies.base import View
from gossipdistill.training.worker import Worker

Look = Callable[[Worker], None]


@dataclass(slots=True)
class _LookedAt:
    """A pace that shows its worker before it says how long the next step takes (s)."""

    pace: Pace
    worker: Worker
    look: Look

    def next_s(self) -> float:
        """As the pace says."""
        self.look(self.worker)
        return self.pace.next_s()


@dataclass
class Watched(Timed):
    """Calls `look` with the worker after each step; ends when the peers of ordinary speed are through."""

    look: Look = lambda worker: None
    heaviest: dict[str, float] = field(default_factory=dict)
    """The greatest push-sum weight that each peer ever held: after what came was absorbed, before it publishes."""
    kept: dict[str, float] = field(default_factory=dict)
    """The greatest that each was left with at the end of a step."""

    def spawn(self, launch: Launch) -> SimulatedPeer:
        made = super().spawn(launch)
        worker, strategy = made.worker, made.worker.gossip.strategy
        mix = strategy.mix

        def stepped(worker: Worker) -> None:
            self.kept[launch.name] = max(self.kept.get(launch.name, 0.0), worker.gossip.held_weight())
            self.look(worker)

        def noted(state: Any, learner: Any, arrivals: list[Arrival], view: View) -> list[Parcel]:
            parcels = mix(state, learner, arrivals, view)
            self.heaviest[launch.name] = max(self.heaviest.get(launch.name, 0.0), worker.gossip.held_weight())
            return parcels

        made.pace = _LookedAt(made.pace, worker, stepped)  # type: ignore[assignment]
        strategy.mix = noted  # type: ignore[method-assign]
        return made

    @property
    def workers(self) -> dict[str, Worker]:
        """The newest worker of each name."""
        return {name: peer.worker for name, peer in self.peers.items()}

"""A simulation that is looked at after every step of every peer, and in which the greatest weights are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from experiments.common.timed import Looked, Timed
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.sim.host import Launch
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.strategies.base import View
from gossipdistill.training.worker import Worker

Look = Callable[[Worker], None]


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

        def stepped() -> None:
            self.kept[launch.name] = max(self.kept.get(launch.name, 0.0), worker.gossip.held_weight())
            self.look(worker)

        def noted(state: Any, learner: Any, arrivals: list[Arrival], view: View) -> list[Parcel]:
            parcels = mix(state, learner, arrivals, view)
            self.heaviest[launch.name] = max(self.heaviest.get(launch.name, 0.0), worker.gossip.held_weight())
            return parcels

        made.pace = Looked(made.pace, stepped)  # type: ignore[assignment]
        strategy.mix = noted  # type: ignore[method-assign]
        return made

    @property
    def workers(self) -> dict[str, Worker]:
        """The newest worker of each name."""
        return {name: peer.worker for name, peer in self.peers.items()}

"""A simulation in which some peers may be slow, and the time counts until the others are through."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.sim.compute import Pace
from gossipdistill.sim.host import Launch
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.simulation.run import Simulation


@dataclass(slots=True)
class _Watched:
    """A pace that notes when its peer is through; seconds of the world."""

    pace: Pace
    peer: SimulatedPeer
    simulation: Timed

    def next_s(self) -> float:
        """As the pace says."""
        if self.peer.finished:
            self.simulation.through_s.setdefault(self.peer.worker.learner.name, self.simulation.world.now)
        return self.pace.next_s()


@dataclass
class Timed(Simulation):
    """A simulation that ends when the peers of ordinary speed are through."""

    through_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stopped = lambda: all(spec.name in self.through_s for spec in self.healthy)

    @property
    def healthy(self) -> list[WorkerSpec]:
        """Those who are not slow."""
        return [spec for spec in self.specs if spec.slowdown == 1.0]

    def spawn(self, launch: Launch) -> SimulatedPeer:
        made = super().spawn(launch)
        made.pace = _Watched(made.pace, made, self)  # type: ignore[assignment]
        return made

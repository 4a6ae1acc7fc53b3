"""A simulation in which some peers may be slow, and the time counts until the others are through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.sim.compute import Pace
from gossipdistill.sim.host import Launch
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.simulation.run import Simulation


@dataclass(slots=True)
class Looked:
    """A pace that calls `look` before it says how long the next step takes (s)."""

    pace: Pace
    look: Callable[[], None]

    def next_s(self) -> float:
        """As the pace says."""
        self.look()
        return self.pace.next_s()


@dataclass
class Timed(Simulation):
    """A simulation that ends when the peers of ordinary speed are through."""

    through_s: dict[str, float] = field(default_factory=dict)
    """When each peer was through, in seconds of the world."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stopped = lambda: all(spec.name in self.through_s for spec in self.healthy)

    @property
    def healthy(self) -> list[WorkerSpec]:
        """Those who are not slow."""
        return [spec for spec in self.specs if spec.slowdown == 1.0]

    def spawn(self, launch: Launch) -> SimulatedPeer:
        made = super().spawn(launch)

        def look() -> None:
            if made.finished:
                self.through_s.setdefault(launch.name, self.world.now)

        made.pace = Looked(made.pace, look)  # type: ignore[assignment]
        return made

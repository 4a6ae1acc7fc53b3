"""The policies that tell a launcher whether a lost peer is restarted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gossipdistill.errors import NeedsError
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.told import Restarting
from gossipdistill.strategies import Delivery, Strategy


class Restarts(Protocol):
    """Says whether a peer is restarted whose process was lost without a fault plan having ended it."""

    def check(self, strategy: type[Strategy]) -> None:
        """Check the strategy before the run.

        Raises:
            NeedsError: when this strategy cannot take a lost peer back.
        """

    def next_of(self, child: Child) -> Restarting | None:
        """The attempt that follows this process; None where the peer stays lost."""


class NoRestarts:
    """A lost peer stays lost."""

    def check(self, strategy: type[Strategy]) -> None:
        """Accepts any strategy."""

    def next_of(self, child: Child) -> Restarting | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True)
class AtMost:
    """Each peer is restarted at most `count` times."""

    count: int

    def check(self, strategy: type[Strategy]) -> None:
        """Refuses a collective: it cannot take a lost peer back."""
        if self.count and strategy.delivery is Delivery.COLLECTIVE:
            raise NeedsError(f"strategy {strategy.name} cannot take a lost peer back: leave out --max-restarts")

    def next_of(self, child: Child) -> Restarting | None:
        """The next attempt, while one is left."""
        return Restarting(child.restarts + 1, self.count) if child.restarts < self.count else None

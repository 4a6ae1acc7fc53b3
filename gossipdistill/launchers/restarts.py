"""Whether a lost peer is started again: what a launcher is given as its policy of restarts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gossipdistill.errors import NeedsError
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.told import Restarting
from gossipdistill.strategies import Delivery, Strategy


class Restarts(Protocol):
    """Says whether a peer whose process was lost, and which no fault plan has ended, is started again."""

    def check(self, strategy: type[Strategy]) -> None:
        """Before the run.

        Raises:
            NeedsError: when this strategy cannot take a lost peer back.
        """

    def next_of(self, child: Child) -> Restarting | None:
        """The attempt that follows this process; None where the peer stays lost."""


class NoRestarts:
    """A lost peer stays lost."""

    def check(self, strategy: type[Strategy]) -> None:
        """Any strategy will do."""

    def next_of(self, child: Child) -> Restarting | None:
        """None."""
        return None


@dataclass(frozen=True, slots=True)
class AtMost:
    """Each peer is started again at most `count` times."""

    count: int

    def check(self, strategy: type[Strategy]) -> None:
        """A collective does not take a lost peer back."""
        if self.count and strategy.delivery is Delivery.COLLECTIVE:
            raise NeedsError(f"strategy {strategy.name} cannot take a lost peer back: leave out --max-restarts")

    def next_of(self, child: Child) -> Restarting | None:
        """The next attempt, while there is one left."""
        return Restarting(child.restarts + 1, self.count) if child.restarts < self.count else None

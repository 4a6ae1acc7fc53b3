"""Which boots are believed: a process takes its boot from its clock, so it cannot be far ahead of all other clocks.

A believed boot is only replaced by a higher one. If every boot were believed, a stranger could lock out a name for
ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median_low

from gossipdistill.ids import PeerName
from gossipdistill.protocol.table import Table

AHEAD_MAX_MS = 400 * 24 * 3600 * 1000
"""A boot may be ahead by at most 400 days, in the unit of boots (ms): more than a clock that is a year off."""


def highest_at(wall_clock_s: float) -> int:
    """The highest boot that peers with this clock believe."""
    return int(wall_clock_s * 1000) + AHEAD_MAX_MS


@dataclass(slots=True)
class Boots:
    """The bound by my own clock and, with keys, by the boots that the members named last, including ones that are too
    high. So a process whose own clock is years behind follows the clocks of most others."""

    table: Table
    started_s: float = 0.0
    named: dict[PeerName, int] = field(default_factory=dict)

    def is_too_far(self, name: PeerName, boot: int, now: float) -> bool:
        """Whether no process of `name` can have this boot yet. With keys a member's boot is noted."""
        if self.table.proven and (name in self.table.rows or self.table.directory.get(name) is not None):
            self.named[name] = boot
        return self.is_beyond(boot, now)

    def is_beyond(self, boot: int, now: float) -> bool:
        """The same for a boot that a third peer names."""
        return boot > self._mine(now) + AHEAD_MAX_MS and boot > self.clock(now) + AHEAD_MAX_MS

    def clock(self, now: float) -> int:
        """The larger of my clock and the median of all boots, mine among them."""
        others = [boot for name, boot in self.named.items() if name != self.table.me.name]
        return max(self._mine(now), median_low([self._mine(now), *others]))

    def _mine(self, now: float) -> int:
        """My boot plus the time since my start, in milliseconds."""
        return self.table.me.boot + int(max(now - self.started_s, 0.0) * 1000)

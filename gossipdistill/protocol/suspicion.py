"""How long a suspect has to refute, and how much a peer trusts its own timeliness (Lifeguard).

Dadgar, Phillips and Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection", 2018, 1707.00788.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.presence import ClaimKind


@dataclass(slots=True)
class Suspicion:
    """A suspicion against one process: which peers share it, and until when the process may refute.

    Section IV-B: with C independent confirmations of K wanted, the time-out is
    max(shortest, longest - (longest - shortest) x log(C + 1) / log(K + 1)). Times in seconds of my clock.
    """

    since_s: float
    shortest_s: float
    longest_s: float
    wanted: int
    incarnation: int = 0
    """The incarnation that the accusation is about; a refutation with a higher one answers it."""
    by: set[PeerName] = field(default_factory=set)
    failures: int = 0
    """The number of probes of my own that were not answered since it began."""
    verdict: ClaimKind | None = None
    """The verdict that my own pings have yet to confirm: its time is over, or others have declared the member dead or
    gone."""
    verifications: int = 0

    @classmethod
    def begin(cls, limits: Limits, members: int, now: float) -> Suspicion:
        """Begin a suspicion in a run of `members` members, myself included."""
        shortest_s = limits.suspicion_factor * math.log10(max(members, 10)) * limits.probe_interval_s
        wanted = max(min(limits.confirmations_wanted, members - 2), 0)
        longest_s = shortest_s * limits.suspicion_max_factor if wanted else shortest_s
        return cls(now, shortest_s, longest_s, wanted)

    def confirm(self, by: PeerName) -> bool:
        """Note that `by` suspects it. Returns whether that is new and shortens the timeout."""
        if by in self.by or len(self.by) > self.wanted:
            return False
        self.by.add(by)
        return True

    def deadline_s(self) -> float:
        """The time at which it is over. The first accuser opens it; the others confirm it."""
        if self.wanted == 0:
            return self.since_s + self.shortest_s
        confirmations = max(len(self.by) - 1, 0)
        share = math.log(confirmations + 1) / math.log(self.wanted + 1)
        return self.since_s + max(self.shortest_s, self.longest_s - (self.longest_s - self.shortest_s) * share)


@dataclass(slots=True)
class LocalHealth:
    """Section IV-A: 0 is healthy. Failed probes with no nack to show that my links work, and accusations against me,
    make it worse; answers make it better. Intervals and timeouts of my probes are `stretch` times as long."""

    worst: int
    score: int = 0

    @property
    def stretch(self) -> int:
        """The factor from 1 to worst + 1."""
        return 1 + self.score

    def worse(self, by: int = 1) -> None:
        """Note a sign that this process itself is slow."""
        self.score = min(self.score + by, self.worst)

    def better(self) -> None:
        """Note that a probe was answered."""
        self.score = max(self.score - 1, 0)

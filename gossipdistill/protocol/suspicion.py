"""How long a suspect has to refute, and how much a peer trusts its own clockwork (Lifeguard).

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
    """A case against one process: who says so, and until when it may refute.

    Section IV-B: with C independent confirmations of K wanted, the time-out is
    max(shortest, longest - (longest - shortest) x log(C + 1) / log(K + 1)). Times in seconds of my clock.
    """

    since_s: float
    shortest_s: float
    longest_s: float
    wanted: int
    incarnation: int = 0
    """The number of its refutation that the accusation is about; one with a higher number answers it."""
    by: set[PeerName] = field(default_factory=set)
    failures: int = 0
    """Probes of my own that found no answer since it began."""
    verdict: ClaimKind | None = None
    """Its time is over, or others have declared it dead or gone: that is what I have yet to find myself."""
    verifications: int = 0

    @classmethod
    def begin(cls, limits: Limits, members: int, now: float) -> Suspicion:
        """In a run of so many members, myself included."""
        shortest_s = limits.suspicion_factor * math.log10(max(members, 10)) * limits.probe_interval_s
        wanted = max(min(limits.confirmations_wanted, members - 2), 0)
        longest_s = shortest_s * limits.suspicion_max_factor if wanted else shortest_s
        return cls(now, shortest_s, longest_s, wanted)

    def confirm(self, by: PeerName) -> bool:
        """Somebody suspects it. Whether that is news that shortens the time-out."""
        if by in self.by or len(self.by) > self.wanted:
            return False
        self.by.add(by)
        return True

    def deadline_s(self) -> float:
        """When it is over. The first accuser opens the case; the others confirm it."""
        if self.wanted == 0:
            return self.since_s + self.shortest_s
        confirmations = max(len(self.by) - 1, 0)
        share = math.log(confirmations + 1) / math.log(self.wanted + 1)
        return self.since_s + max(self.shortest_s, self.longest_s - (self.longest_s - self.shortest_s) * share)


@dataclass(slots=True)
class LocalHealth:
    """Section IV-A: 0 is well. Probes that fail with nobody to say that my links work, and accusations against me, make
    it worse; answers make it better. Intervals and time-outs of my probes are `stretch` times as long."""

    worst: int
    score: int = 0

    @property
    def stretch(self) -> int:
        """1 to worst + 1."""
        return 1 + self.score

    def worse(self, by: int = 1) -> None:
        """A sign that it is me who is slow."""
        self.score = min(self.score + by, self.worst)

    def better(self) -> None:
        """A probe was answered."""
        self.score = max(self.score - 1, 0)

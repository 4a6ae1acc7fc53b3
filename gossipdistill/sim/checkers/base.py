"""What all checkers share: their findings, and their knowledge of the faults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.sim.observer import Observer

_KEPT_MAX = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation: the duty, the virtual time, and a description with names."""

    checker: str
    at_s: float
    what: str

    def __str__(self) -> str:
        return f"{self.checker}, at {self.at_s:.2f} s: {self.what}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a checker may know of the faults: from `calm_from_s` on there are none, and at `settled_from_s` the stated
    bounds say that everything is in order again. Infinite where there is no calm."""

    peers: int
    calm_from_s: float = float("inf")
    limits: Limits = field(default=DEFAULT_LIMITS)
    bent: frozenset[str] = frozenset()
    """These peers send false messages about themselves and their parcels. The beliefs of others about them, and what is
    exchanged with them, are not checked; the state of all others, and their exchange with one another, is."""

    @property
    def settled_from_s(self) -> float:
        """The start of the calm plus the time that views and parcels may take to settle."""
        return self.calm_from_s + views_bound_s(self.limits, self.peers) + parcels_bound_s(self.limits)


def views_bound_s(limits: Limits, peers: int) -> float:
    """Seconds of calm after which every view is right: every living peer is present in every view, and no other.

    The effects of a fault may take, one after another: 20 probe intervals until some peer probes a member of which
    nothing is known yet (each interval finds it with probability 1 - 1/e or more, so it is missed by all with 1e-9); a
    suspicion at its longest; and its claim, or its refutation, as many intervals as it is carried. A member held dead
    is called by all that hold it dead, each one of its dead every `greet_interval_max_s`. In a large run a member that
    is said to refuse is greeted after at most eight of these intervals. One that has restarted too often is believed
    after `start_again_s`.
    """
    members = max(peers, 10)
    suspicion = limits.suspicion_factor * limits.suspicion_max_factor * math.log10(members)
    carried = limits.claim_transmits_factor * math.ceil(math.log10(peers + 1))
    rounds = 20 + suspicion + carried
    return rounds * limits.probe_interval_s + 2 * limits.greet_interval_max_s + limits.start_again_s


def parcels_bound_s(limits: Limits) -> float:
    """Seconds, after views are right, within which everything in flight is confirmed, settled, returned or written off.

    A sender asks again at least every `consign_timeout_max_s` (mass and streams) or `confirm_timeout_s` (states), and
    is answered at once; the answer may require one more message, hence twice.
    """
    return 2 * max(limits.consign_timeout_max_s, limits.confirm_timeout_s + limits.retry_interval_max_s) + 1.0


class Checker(Observer):
    """Finds violations of one duty. `duty` is the promise, in words."""

    duty: ClassVar[str]

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.violations: list[Violation] = []

    @property
    def name(self) -> str:
        """The name of the checker, as it is printed."""
        return type(self).__name__

    def violate(self, now_s: float, what: str) -> None:
        """Record a violation; after the first few they are not kept."""
        if len(self.violations) < _KEPT_MAX:
            self.violations.append(Violation(self.name, now_s, what))

"""What all checkers share: what they find, and what they are told of the weather."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.sim.observer import Observer

_KEPT_MAX = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: which duty, when in virtual time, and what, with names."""

    checker: str
    at_s: float
    what: str

    def __str__(self) -> str:
        return f"{self.checker}, at {self.at_s:.2f} s: {self.what}"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a checker may know of the faults: from `calm_from_s` on there is none, and `settled_from_s` is when the
    stated bounds say that everything is in order again. Infinite where there is no calm."""

    peers: int
    calm_from_s: float = float("inf")
    limits: Limits = field(default=DEFAULT_LIMITS)
    bent: frozenset[str] = frozenset()
    """Who says false things of itself and of its parcels. What others believe of it, and what travels between it and
    them, is not judged; that they are well, and how they get on with one another, is."""

    @property
    def settled_from_s(self) -> float:
        """Calm, and the time that views and parcels may take to settle."""
        return self.calm_from_s + views_bound_s(self.limits, self.peers) + parcels_bound_s(self.limits)


def views_bound_s(limits: Limits, peers: int) -> float:
    """Seconds of calm after which every view is right: everybody living is there to everybody, and nobody else.

    What a fault may leave behind takes, one after another: 20 probe intervals until somebody probes a member of whom
    nothing is known yet (each interval finds it with probability 1 - 1/e or more, so it is missed by all with 1e-9);
    a suspicion at its longest; and its rumour, or its refutation, as many intervals as it is carried. A member held
    dead is called by all who hold it dead, each one of its dead every `greet_interval_max_s`. In a large run a member
    that is said to refuse is greeted after at most eight of these intervals. One that has started anew
    too often is believed after `start_again_s`.
    """
    members = max(peers, 10)
    suspicion = limits.suspicion_factor * limits.suspicion_max_factor * math.log10(members)
    carried = limits.claim_transmits_factor * math.ceil(math.log10(peers + 1))
    rounds = 20 + suspicion + carried
    return rounds * limits.probe_interval_s + 2 * limits.greet_interval_max_s + limits.start_again_s


def parcels_bound_s(limits: Limits) -> float:
    """Seconds, after views are right, within which all that was under way is confirmed, settled, returned or written
    off.

    A sender asks again at least every `consign_timeout_max_s` (mass and streams) or `confirm_timeout_s` (states), and
    what it asked is answered at once; the answer may name what is to be said next, hence twice.
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
        """Of the checker, as it is printed."""
        return type(self).__name__

    def violate(self, now_s: float, what: str) -> None:
        """Note a violation; after the first few they are not kept."""
        if len(self.violations) < _KEPT_MAX:
            self.violations.append(Violation(self.name, now_s, what))

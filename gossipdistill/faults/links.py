"""The effect of a plan on each message: lost, late, duplicated or corrupted. Pure and seeded.

Rules of this file
1. The random numbers of one link depend on the seed, its two names and the number of messages that it has carried while
   a random fault was in force, never on other links. So the outcomes for a process are the same whether one object
   serves it alone, as with real sockets, or all processes of a simulation.
2. The faults in force change only at their borders; between two borders they are not computed again.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gossipdistill.faults.kinds import (
    Corrupt,
    Delay,
    Drop,
    Duplicate,
    Jitter,
    LinkFault,
    OneWay,
    Partition,
    RateLimit,
    Reorder,
)
from gossipdistill.faults.plan import FaultPlan

Draw = Callable[[], float]
"""A draw returns the next number of a link, uniform in [0, 1)."""

_MASK = (1 << 64) - 1


class Outcome(NamedTuple):
    """The outcome for one message: one extra delay in seconds per copy that is to arrive; () means lost."""

    delays_s: tuple[float, ...]
    corrupt: bool = False


UNBENT = Outcome((0.0,))
LOST = Outcome(())


class _Force(NamedTuple):
    """A fault in force. `groups` are the sides of a partition."""

    number: int
    fault: LinkFault | Partition
    groups: list[frozenset[str]]


class LinkFaults:
    """Applies faults to the messages of one process, or of a whole simulation. `names` are the peers in roster
    order."""

    def __init__(self, plan: FaultPlan, names: Sequence[str], seed: int | None = None) -> None:
        self._seed = plan.seed if seed is None else seed
        self._kinds = [fault.kind for fault in plan.fault]
        self._all = [
            _Force(number, fault, fault.sides(names) if isinstance(fault, Partition) else [])
            for number, fault in plan.link_faults()
        ]
        self._borders = sorted({at_s for force in self._all for at_s in (force.fault.begin_s, force.fault.end_s)})
        self._from_s, self._to_s = math.inf, -math.inf
        self._in_force: list[_Force] = []
        self._chances: dict[tuple[str, str], int] = {}
        self._free_at_s: dict[tuple[int, str, str], float] = {}
        self.counts: Counter[int] = Counter()
        """The number of messages that each fault has affected, by its place in the plan."""

    @property
    def fired(self) -> Counter[str]:
        """The number of times that each kind of fault has affected a message."""
        totals: Counter[str] = Counter()
        for number, count in self.counts.items():
            totals[self._kinds[number]] += count
        return totals

    def outcome(self, sender: str, to: str, nbytes: int, now_s: float) -> Outcome:
        """The outcome for a message of `nbytes` that is sent `now_s` seconds after the start of the run."""
        if not self._from_s <= now_s < self._to_s:
            self._look_up(now_s)
        forces = [force for force in self._in_force if force.fault.hits(sender, to, force.groups)]
        if not forces:
            return UNBENT
        for force in forces:
            if isinstance(force.fault, OneWay | Partition):
                self.counts[force.number] += 1
                return LOST
        return self._bend(forces, sender, to, nbytes, now_s)

    def next_border_s(self, now_s: float) -> float:
        """The time at which a link fault begins or ends next; infinite when none does."""
        place = bisect_right(self._borders, now_s)
        return self._borders[place] if place < len(self._borders) else math.inf

    def _look_up(self, now_s: float) -> None:
        place = bisect_right(self._borders, now_s)
        self._from_s = self._borders[place - 1] if place else -math.inf
        self._to_s = self._borders[place] if place < len(self._borders) else math.inf
        self._in_force = [force for force in self._all if force.fault.begin_s <= now_s < force.fault.end_s]

    def _bend(self, forces: list[_Force], sender: str, to: str, nbytes: int, now_s: float) -> Outcome:
        link = (sender, to)
        state: int = self._chances[link] if link in self._chances else _link_state(self._seed, sender, to)

        def draw() -> float:
            nonlocal state
            state, number = _next(state)
            return number

        delay_s, copies_later_s, corrupt, lost = 0.0, list[float](), False, False
        # Every fault in force draws, even for a lost message, so that no fault shifts the random numbers of another.
        for number, fault, _ in forces:
            match fault:
                case Drop():
                    hit = draw() < fault.probability
                    lost |= hit
                case Delay():
                    hit, delay_s = True, delay_s + fault.seconds
                case Jitter():
                    hit, delay_s = True, delay_s + fault.seconds * draw()
                case Reorder():
                    hit = draw() < fault.probability
                    delay_s += fault.seconds if hit else 0.0
                case Duplicate():
                    hit, later_s = draw() < fault.probability, fault.seconds * draw()
                    copies_later_s += [later_s] if hit else []
                case Corrupt():
                    hit = draw() < fault.probability
                    corrupt |= hit
                case _:
                    assert isinstance(fault, RateLimit)
                    wait_s = self._wait_s((number, *link), fault, nbytes, now_s)
                    hit, lost = wait_s > 0, lost or math.isinf(wait_s)
                    delay_s += wait_s
            self.counts[number] += hit
        self._chances[link] = state
        if lost:
            return LOST
        return Outcome((delay_s, *(delay_s + later_s for later_s in copies_later_s)), corrupt)

    def _wait_s(self, key: tuple[int, str, str], fault: RateLimit, nbytes: int, now_s: float) -> float:
        """Seconds in the queue and on the link; infinite if the queue is too long."""
        starts_s = max(self._free_at_s.get(key, now_s), now_s)
        if starts_s - now_s > fault.wait_max_s:
            return math.inf
        self._free_at_s[key] = starts_s + nbytes / fault.bytes_per_s
        return self._free_at_s[key] - now_s


def _link_state(seed: int, sender: str, to: str) -> int:
    digest = hashlib.blake2b(f"{seed}/{sender}/{to}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _next(state: int) -> tuple[int, float]:
    """One step of SplitMix64 (Steele, Lea, Flood 2014): the state of a link is one number. Python's own generator takes
    2.5 kB, for each of the 25 million links among 5,000 peers."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return state, ((z ^ (z >> 31)) >> 11) / (1 << 53)

"""The step times of simulated peers: a pace with jitter, deliberate stragglers, and hiccups."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compute:
    """The machines of all peers.

    A step takes `step_time_s` x slowdown of the peer x a log-normal factor with median 1 and `jitter` as the standard
    deviation of its logarithm. A `straggler_share` of the peers has the slowdown `straggler_factor`. On average every
    `hiccup_every_s` (0: never) a step takes `hiccup_s` longer, as with garbage collection or another job on the
    machine.
    """

    step_time_s: float = 0.02
    jitter: float = 0.1
    straggler_share: float = 0.0
    straggler_factor: float = 10.0
    hiccup_every_s: float = 0.0
    hiccup_s: float = 1.0

    def pace(self, place: int, seed: int, slowdown: float = 1.0) -> Pace:
        """The pace of the peer at `place`; `slowdown` comes from its roster entry."""
        chance = random.Random(f"pace {seed} {place}")
        straggles = chance.random() < self.straggler_share
        return Pace(self, slowdown * (self.straggler_factor if straggles else 1.0), chance)


@dataclass(slots=True)
class Pace:
    """One peer's machine. `slowdown` is 1 for an ordinary one."""

    compute: Compute
    slowdown: float
    _random: random.Random

    def next_s(self) -> float:
        """Seconds that the next step takes."""
        compute = self.compute
        step_s = compute.step_time_s * self.slowdown
        if compute.jitter:
            step_s *= self._random.lognormvariate(0.0, compute.jitter)
        if compute.hiccup_every_s and self._random.random() < step_s / compute.hiccup_every_s:
            step_s += compute.hiccup_s
        return step_s

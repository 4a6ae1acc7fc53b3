"""Work that a restarted peer has lost: what it did and lost again, and the time in which it did nothing.

A value machine of the launcher, which alone has seen all processes of a peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossipdistill.observe.told import Progress

SHORT = "short"
"""The status of a peer that has trained to the end of a run and done less than its share of the steps, for it was lost
and started again meanwhile."""
SHARE_MIN = 0.9
"""Of the steps that it would have done in the whole run, at the rate at which it did steps while it trained. A restart
costs a few seconds: less than a tenth of a run of a minute."""
_RATE_OVER_S = 1.0
"""A rate that was measured over less says little: the first step alone takes a few times as long as the next."""


@dataclass(slots=True)
class Work:
    """The steps that all processes of one peer have done, and in how many seconds of training."""

    crashes: int = 0
    """How often it was lost and started again, though no plan asked for that."""
    planned: bool = False
    """A fault plan has ended it at some time: what that costs is what was to be seen."""
    _steps: float = 0.0
    _trained_s: float = 0.0
    _here: tuple[float, float] = (0.0, 0.0)
    """(steps, seconds) of the process that trains now, as last heard."""

    def heard(self, progress: Progress) -> None:
        """A record of progress: `steps_per_s` since this process began to train, `elapsed_s` ago."""
        self._here = (progress.steps_per_s * progress.elapsed_s, progress.elapsed_s)

    def ended(self, planned: bool = False) -> None:
        """This process has ended, by a fault plan where that is `planned`: the next one counts from zero."""
        self.planned |= planned
        (steps, trained_s), self._here = self._here, (0.0, 0.0)
        self._steps += steps
        self._trained_s += trained_s

    def rate(self) -> float | None:
        """Steps per second of training; None where too few are known."""
        steps, trained_s = self._steps + self._here[0], self._trained_s + self._here[1]
        return steps / trained_s if trained_s >= _RATE_OVER_S and steps > 0 else None

    def problem(
        self, steps: int, seconds: float | None, steps_wanted: int | None, others: Iterable[float | None]
    ) -> str:
        """Why this peer, whose model has gone through so many steps, has done less than its share, in words; empty
        where it has done it, or was never lost.

        Args:
            seconds: how long the run was; None where it ends by steps alone.
            steps_wanted: of each peer, at most.
            others: the rates of the other peers, for one that has hardly trained at all.
        """
        if not self.crashes or self.planned or (steps_wanted is not None and steps >= steps_wanted):
            return ""
        rate = self.rate() or max((one for one in others if one), default=None)
        share = rate * seconds if rate is not None and seconds is not None else None
        if share is not None and steps_wanted is not None:
            share = min(share, steps_wanted)
        if share is None:
            share = float(steps_wanted or 0)
        if steps and steps >= SHARE_MIN * share:
            return ""
        times = "once" if self.crashes == 1 else f"{self.crashes} times"
        of = f" of about {share:.0f}" if share >= 1 else ""
        return f"{steps} steps{of} that it would have done in this time: it was lost and started again {times}"

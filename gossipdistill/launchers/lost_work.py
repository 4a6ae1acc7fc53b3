"""The work that a restarted peer has lost: steps that it did and lost, and time in which it did none.

These are values without I/O, kept by the launcher: it alone has seen all processes of a peer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gossipdistill.observe.told import Progress

SHORT = "short"
"""The status of a peer that has trained to the end of a run, but has done less than its share of the steps because it
was lost and restarted."""
SHARE_MIN = 0.9
"""A peer must do this share of the steps that it would have done in the whole run at the rate of its training. A
restart costs a few seconds, which is less than a tenth of a run of a minute."""
_RATE_OVER_S = 1.0
"""A rate measured over fewer seconds is not used: the first step takes several times as long as the next."""


@dataclass(slots=True)
class Work:
    """The steps that all processes of one peer have done, and in how many seconds of training."""

    crashes: int = 0
    """The number of times that the peer was lost and restarted without a fault plan asking for it."""
    planned: bool = False
    """A fault plan has ended the peer at some time, so the loss is intended."""
    _steps: float = 0.0
    _trained_s: float = 0.0
    _here: tuple[float, float] = (0.0, 0.0)
    """The pair is (steps, seconds of training) of the process that trains now, as last reported."""

    def heard(self, progress: Progress) -> None:
        """A record of progress: `steps_per_s` since this process began to train, `elapsed_s` ago."""
        self._here = (progress.steps_per_s * progress.elapsed_s, progress.elapsed_s)

    def ended(self, planned: bool = False) -> None:
        """This process has ended, and the next one counts from zero. `planned`: a fault plan has ended it."""
        self.planned |= planned
        (steps, trained_s), self._here = self._here, (0.0, 0.0)
        self._steps += steps
        self._trained_s += trained_s

    def rate(self) -> float | None:
        """Steps per second of training; None where too little was measured."""
        steps, trained_s = self._steps + self._here[0], self._trained_s + self._here[1]
        return steps / trained_s if trained_s >= _RATE_OVER_S and steps > 0 else None

    def problem(
        self, steps: int, seconds: float | None, steps_wanted: int | None, others: Iterable[float | None]
    ) -> str:
        """Why this peer, whose model has made `steps` steps, has done less than its share, in words. Empty where it has
        done its share or was never lost.

        Args:
            seconds: the length of the run; None where it ends by steps alone.
            steps_wanted: the steps of each peer, at most.
            others: the rates of the other peers, used for a peer that has hardly trained.
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

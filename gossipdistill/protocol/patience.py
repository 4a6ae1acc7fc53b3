"""How long the answer of a peer may take before it counts as lost: learned from the answers that came.

T = mean + 4 deviation, both smoothed as TCP smooths its round trips (RFC 6298, section 2), doubled for each loss in a
row, and never outside the bounds. Here an answer may wait for a state to ride on, so the bounds are wider than TCP's.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEAN_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4.0


@dataclass(slots=True)
class Patience:
    """One peer's answers. All figures in seconds; without an answer yet, as patient as possible."""

    least_s: float
    most_s: float
    mean_s: float = 0.0
    deviation_s: float = 0.0
    lost_in_a_row: int = 0
    answered: bool = False

    def answer(self, took_s: float) -> None:
        """An answer to something that was sent only once has come after `took_s`."""
        if self.answered:
            self.deviation_s += _DEVIATION_GAIN * (abs(took_s - self.mean_s) - self.deviation_s)
            self.mean_s += _MEAN_GAIN * (took_s - self.mean_s)
        else:
            self.mean_s, self.deviation_s, self.answered = took_s, took_s / 2, True

    def heard(self) -> None:
        """Some answer has come, whether or not one can tell to which sending."""
        self.lost_in_a_row = 0

    def lost(self) -> None:
        """No answer has come in time."""
        self.lost_in_a_row += 1

    def seconds(self) -> float:
        """How long to wait for the next one."""
        if not self.answered:
            return self.most_s
        wait_s = max(self.mean_s + _DEVIATIONS * self.deviation_s, self.least_s)
        return min(wait_s * 2.0 ** min(self.lost_in_a_row, 16), self.most_s)

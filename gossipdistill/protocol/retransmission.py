"""The retransmission timeout of a peer, learned from its answers.

T = mean + 4 deviation, both smoothed as TCP smooths its round trips (RFC 6298, section 2), doubled for each loss in a
row, and never outside the bounds. Here an answer may wait for a state to ride on, so the bounds are wider than TCP's.
Before the first answer T is `first_s`, by default the most, doubled likewise. The deviation of the first answer is
taken as a quarter of it, where the RFC takes half: retransmitting too soon costs little here, and where much is lost,
few answers can be attributed to an attempt and used for learning.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEAN_GAIN, _DEVIATION_GAIN, _DEVIATIONS = 1 / 8, 1 / 4, 4.0


@dataclass(slots=True)
class RetransmissionTimeout:
    """One peer's answers. All values are in seconds."""

    least_s: float
    most_s: float
    first_s: float = float("inf")
    mean_s: float = 0.0
    deviation_s: float = 0.0
    lost_in_a_row: int = 0
    answered: bool = False

    def answer(self, took_s: float) -> None:
        """Note the answer to a message that was sent only once, after `took_s`."""
        if self.answered:
            self.deviation_s += _DEVIATION_GAIN * (abs(took_s - self.mean_s) - self.deviation_s)
            self.mean_s += _MEAN_GAIN * (took_s - self.mean_s)
        else:
            self.mean_s, self.deviation_s, self.answered = took_s, took_s / 4, True

    def heard(self) -> None:
        """Note an answer, whether or not the attempt that it answers is known."""
        self.lost_in_a_row = 0

    def lost(self) -> None:
        """Note that no answer has arrived in time."""
        self.lost_in_a_row += 1

    def seconds(self) -> float:
        """The time to wait for the next answer."""
        wait_s = max(self.mean_s + _DEVIATIONS * self.deviation_s, self.least_s) if self.answered else self.first_s
        return min(wait_s * 2.0 ** min(self.lost_in_a_row, 16), self.most_s)

"""When a peer publishes: once in a number of steps, and at most a number of times per second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Cadence:
    """The tighter of the two limits holds. The cap is per second because a fast step would otherwise starve its own
    network: an exchange costs 0.15 to 0.25 ms of CPU, whatever a step costs."""

    every_steps: int
    per_second_max: float
    exchanges: int = 0
    presses: int = 0
    """This counts the publications between two exchanges. They are no exchanges: those of a schedule keep their
    numbers."""
    _next_s: float = 0.0
    _pressed_last: bool = False

    def due(self, step: int, now: float) -> bool:
        """Whether to publish after step number `step` (from 1); True is counted as an exchange. A pressed publication
        since the last exchange does not delay it."""
        if step % self.every_steps or (now < self._next_s and not self._pressed_last):
            return False
        self._take_turn(now)
        self._pressed_last = False
        self.exchanges += 1
        return True

    def may_press(self, now: float) -> bool:
        """Whether to publish between two exchanges; True is counted as such a publication."""
        if now < self._next_s:
            return False
        self._take_turn(now)
        self._pressed_last = True
        self.presses += 1
        return True

    def _take_turn(self, now: float) -> None:
        if self.per_second_max > 0:
            # Carry on from the planned time, so that the average rate is reached, but never catch up after a pause.
            interval_s = 1.0 / self.per_second_max
            planned_s = self._next_s + interval_s
            self._next_s = planned_s if planned_s > now else now + interval_s

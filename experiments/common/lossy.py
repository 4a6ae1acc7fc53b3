"""A network whose every message may be lost, doubled and overtaken."""

from __future__ import annotations

import random
from dataclasses import dataclass

from gossipdistill.faults.links import LOST, UNBENT, Outcome

LOSS, DUPLICATION, DELAY_S = 0.5, 0.2, 0.02


@dataclass
class Storm:
    """Loses a share of all messages and doubles a share of the rest; delays vary so much that messages overtake others.
    To a simulated network it is what bends links."""

    chance: random.Random
    lost: int = 0
    doubled: int = 0
    calm: bool = False
    """While it is, everything arrives."""
    loss: float = LOSS
    duplication: float = DUPLICATION
    delay_s: float = DELAY_S
    """The mean of the delays, which are exponential."""

    def outcome(self, sender: str, to: str, nbytes: int, now_s: float) -> Outcome:
        """When each copy arrives."""
        if self.calm:
            return UNBENT
        if self.chance.random() < self.loss:
            self.lost += 1
            return LOST
        copies = 1 + (self.chance.random() < self.duplication)
        self.doubled += copies - 1
        return Outcome(tuple(self.chance.expovariate(1.0 / self.delay_s) for _ in range(copies)))

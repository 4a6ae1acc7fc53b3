"""So many per second, and so many at once: the bucket of tokens that every limit on a rate is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """`burst` may be spent at once, and `per_s` come back each second. It starts full."""

    per_s: float
    burst: float
    spent: float = 0.0
    at_s: float = float("-inf")

    def spend(self, amount: float, now: float) -> bool:
        """Whether there was enough left; if not, nothing is spent."""
        if self.spent:
            self.spent = max(self.spent - self.per_s * (now - self.at_s), 0.0)
        self.at_s = now
        if self.spent + amount > self.burst:
            return False
        self.spent += amount
        return True

    def renew(self) -> None:
        """All of it again."""
        self.spent = 0.0

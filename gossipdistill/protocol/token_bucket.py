"""A token bucket: the base of every rate limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """`burst` tokens may be spent at once, and `per_s` come back each second. The bucket starts full."""

    per_s: float
    burst: float
    spent: float = 0.0
    at_s: float = float("-inf")

    def spend(self, amount: float, now: float) -> bool:
        """Spend tokens. Returns whether there were enough; if not, none are spent."""
        if self.spent:
            self.spent = max(self.spent - self.per_s * (now - self.at_s), 0.0)
        self.at_s = now
        if self.spent + amount > self.burst:
            return False
        self.spent += amount
        return True

    def renew(self) -> None:
        """Refill the bucket."""
        self.spent = 0.0

"""Chance out of given bytes: what lets a fuzzer, or hypothesis, play the mutator's dice and shrink what it finds."""

from __future__ import annotations

import random


class Chances(random.Random):
    """A `random.Random` whose chances are given bytes, and 0 when they are used up."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def spent(self) -> bool:
        """Whether no given chance is left."""
        return self._at >= len(self._data)

    def getrandbits(self, k: int, /) -> int:
        """k bits of the given bytes."""
        count = -(-k // 8)
        taken = self._data[self._at : self._at + count]
        self._at += count
        return int.from_bytes(taken, "big") >> (8 * len(taken) - k if 8 * len(taken) > k else 0)

    def random(self) -> float:
        """From 0 to below 1, in steps of 2^-16: two bytes a chance."""
        return self.getrandbits(16) / 65_536

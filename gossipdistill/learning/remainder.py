"""The part of a peer's numerator x beyond its model, q [P]: 4 bytes a parameter where it is rounding alone, else 8.

A value is the sum of a float32 and, once `widen` was called, a second one: 48 bits. One float32 is enough where q is
smaller than the model by its 24 bits already, that is where the model has just been set to x / w.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Remainder:
    """q [P], read and written in ranges, in float64."""

    def __init__(self, length: int, device: torch.device) -> None:
        self._high = torch.zeros(length, device=device)
        self._low: Tensor | None = None

    def __len__(self) -> int:
        return len(self._high)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self._high.device

    @property
    def wide(self) -> bool:
        """Whether it takes 8 bytes a parameter."""
        return self._low is not None

    def widen(self) -> None:
        """From now on what is written is kept to 48 bits."""
        if self._low is None:
            self._low = torch.zeros_like(self._high)

    def narrow(self) -> None:
        """From now on what is written is kept to 24 bits; to be called before all of it is written anew."""
        self._low = None

    def read(self, at: slice) -> Tensor:
        """A range [b], float64: a copy."""
        values = self._high[at].double()
        return values if self._low is None else values.add_(self._low[at])

    def write(self, at: slice, values: Tensor) -> None:
        """Put a range [b] of float64 there."""
        high = self._high[at]
        high.copy_(values)
        if self._low is not None:
            self._low[at].copy_(values - high)

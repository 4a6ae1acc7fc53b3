"""The interface of an array encoding: two pure functions, one file each, all of one shape."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
FLOAT32_MAX = float(np.finfo(np.float32).max)
_BLOCK = 1 << 16


class EncodingError(Exception):
    """The bytes do not hold an array of the stated shape in this encoding."""


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """Counts for one array with `entries` entries: how many an encoding clips, how many that are not 0 it sends as 0,
    and the largest magnitude of either kind."""

    entries: int
    clipped: int = 0
    clipped_max: float = 0.0
    zeroed: int = 0
    zeroed_max: float = 0.0


class Encoding(ABC):
    """Arrays of float32 (of `raw`: of any type) to bytes and back. Subclasses are final and stateless."""

    name: ClassVar[str]
    range_max: ClassVar[float] = math.inf
    """A finite entry of a larger magnitude is clipped."""
    zero_max: ClassVar[float] = 0.0
    """An entry of no larger magnitude is sent as 0."""

    @abstractmethod
    def nbytes(self, shape: tuple[int, ...]) -> int:
        """The length in bytes of an encoded array of this shape: known before a byte is read, so it can be checked."""

    @abstractmethod
    def encode(self, array: Floats) -> bytes:
        """The array [any shape] as `nbytes(array.shape)` bytes."""

    def encode_into(self, array: Floats, out: memoryview) -> None:
        """As `encode`, into a writable buffer of `nbytes(array.shape)` bytes; overridden where that saves a copy."""
        out[:] = self.encode(array)

    @abstractmethod
    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        """The decoded array [shape], within the error bound that the class states. It is writable: a single copy or,
        where `data` is writable, perhaps a view. A caller that passes a writable buffer gives it away."""

    def out_of_range(self, array: NDArray[Any]) -> OutOfRange:
        """The entries of an array [any shape] of float32 or float64 that this encoding cannot hold."""
        flat, clipped, clipped_max, zeroed, zeroed_max = array.reshape(-1), 0, 0.0, 0, 0.0
        if math.isinf(self.range_max) and not self.zero_max:
            return OutOfRange(flat.size)
        for at in range(0, flat.size, _BLOCK):  # small enough for a cache
            sizes = np.abs(flat[at : at + _BLOCK])
            if not sizes.max() <= self.range_max:  # true for NaN and infinity too
                beyond = sizes[(sizes > self.range_max) & np.isfinite(sizes)]
                clipped, clipped_max = clipped + beyond.size, max(clipped_max, float(beyond.max(initial=0.0)))
            if self.zero_max:
                lost = sizes[(sizes <= self.zero_max) & (sizes > 0)]
                zeroed, zeroed_max = zeroed + lost.size, max(zeroed_max, float(lost.max(initial=0.0)))
        return OutOfRange(flat.size, clipped, clipped_max, zeroed, zeroed_max)

    def checked(self, data: memoryview, shape: tuple[int, ...]) -> memoryview:
        """`data`, if its length is right.

        Raises:
            EncodingError: if it is not.
        """
        if len(data) != self.nbytes(shape):
            raise EncodingError(f"{self.name}: {len(data)} bytes for shape {shape}, expected {self.nbytes(shape)}")
        return data


def largest_magnitude(array: Floats) -> float:
    """max|x|, or NaN if there is one; 0 for an empty array."""
    return float(np.maximum(array.max(), -array.min())) if array.size else 0.0

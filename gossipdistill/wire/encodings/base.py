"""What an array encoding is: two pure functions, one file each, all of one shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class EncodingError(Exception):
    """The bytes do not hold an array of the stated shape in this encoding."""


class Encoding(ABC):
    """Arrays of float32 (of `raw`: of any type) to bytes and back. Subclasses are final and stateless."""

    name: ClassVar[str]

    @abstractmethod
    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Length in bytes of an encoded array of this shape: known before a byte is read, so it can be checked."""

    @abstractmethod
    def encode(self, array: Floats) -> bytes:
        """The array [any shape] as `nbytes(array.shape)` bytes."""

    def encode_into(self, array: Floats, out: memoryview) -> None:
        """As `encode`, into a writable buffer of `nbytes(array.shape)` bytes; overridden where that saves a copy."""
        out[:] = self.encode(array)

    @abstractmethod
    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        """The array [shape] again, within the error bound that the class states. It can be written to: it is a copy,
        and the only one, or, where `data` can be written to, perhaps a view. Whoever hands over such a buffer gives it
        away."""

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

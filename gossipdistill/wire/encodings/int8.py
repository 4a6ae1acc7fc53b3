"""Eight bits with one scale per block of 64 entries, in memory order."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gossipdistill.wire.encodings.base import FLOAT32_MAX, Encoding, Floats, OutOfRange

BLOCK = 64
_SCALE_MAX = np.nextafter(np.float32(np.finfo(np.float32).max / 127), np.float32(0))
"""The largest scale: 127 quanta of it are still a float32."""


@final
class Int8(Encoding):
    """1 byte per entry and 4 per block. Error: at most max|x| of the block / 253.9 (half a quantum of max|x| / 127, and
    float32's rounding), or 1.5e-36 where that is more: a smaller scale would be no normal number.

    A block that holds a non-finite value gets a non-finite scale, for the receiver to refuse.
    """

    name = "int8"
    range_max = FLOAT32_MAX

    def nbytes(self, shape: tuple[int, ...]) -> int:
        count = math.prod(shape)
        return count + 4 * math.ceil(count / BLOCK)

    def encode(self, array: Floats) -> bytes:
        flat = array.reshape(-1).astype(np.float32, copy=False)
        blocks = math.ceil(flat.size / BLOCK)
        padded = np.zeros((blocks, BLOCK), dtype=np.float32)
        padded.reshape(-1)[: flat.size] = flat
        largest = np.maximum(padded.max(axis=1, initial=0.0), -padded.min(axis=1, initial=0.0))
        finite = np.isfinite(largest)
        scale = np.where(finite, np.minimum(largest / np.float32(127), _SCALE_MAX), largest).astype("<f4")
        padded[~finite] = 0.0  # their values do not matter: the scale marks the block as unusable
        padded /= np.where(finite & (scale > 0), scale, np.float32(1.0))[:, None]
        quanta = np.clip(np.rint(padded, out=padded), -127, 127, out=padded).astype(np.int8)
        return b"".join((scale.tobytes(), quanta.reshape(-1)[: flat.size].tobytes()))

    def out_of_range(self, array: NDArray[Any]) -> OutOfRange:
        """As in every encoding, plus the zeroed entries of blocks in which most entries are zeroed because one is so
        much larger. Single entries below half a quantum are within the error that this encoding states."""
        found = super().out_of_range(array)
        flat = np.abs(array.reshape(-1))
        sizes = np.zeros((math.ceil(flat.size / BLOCK), BLOCK), dtype=flat.dtype)
        sizes.reshape(-1)[: flat.size] = flat
        with np.errstate(invalid="ignore"):
            lost = (sizes > 0) & (sizes <= sizes.max(axis=1, initial=0.0, keepdims=True) / 254)
        lost &= 2 * lost.sum(axis=1, keepdims=True) > (sizes > 0).sum(axis=1, keepdims=True)
        lost &= np.isfinite(sizes).all(axis=1, keepdims=True)
        return replace(found, zeroed=int(np.count_nonzero(lost)), zeroed_max=float(sizes[lost].max(initial=0.0)))

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        data = self.checked(data, shape)
        count = math.prod(shape)
        blocks, whole = math.ceil(count / BLOCK), count // BLOCK
        scale = np.frombuffer(data[: 4 * blocks], dtype="<f4")
        quanta = np.frombuffer(data[4 * blocks :], dtype=np.int8)
        values = np.empty(count, dtype=np.float32)
        table = (whole, BLOCK)
        # A non-finite scale turns a 0 into NaN, a forged one gives infinity: the receiver refuses both.
        with np.errstate(over="ignore", invalid="ignore"):
            end = whole * BLOCK
            np.multiply(quanta[:end].reshape(table), scale[:whole, None], out=values[:end].reshape(table))
            if blocks > whole:
                np.multiply(quanta[end:], scale[whole], out=values[end:])
        return values.reshape(shape)

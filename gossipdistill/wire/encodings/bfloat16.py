"""The upper half of a float32: the range of float32 with three digits, for weights and their differences."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from gossipdistill.wire.encodings.base import FLOAT32_MAX, Encoding, Floats, largest_magnitude

BFLOAT16_MAX = float(np.array(0x7F7F0000, dtype=np.uint32).view(np.float32))
_QUIET_NAN = 0x7FC00000


@final
class BFloat16(Encoding):
    """2 bytes per entry, rounded to nearest, ties to even. Error: at most 2^-8 of |x|, or 2^-134 where that is more.
    Clipping a finite value adds no larger error, since the largest value, 3.39e38, is that near.

    A non-finite value stays non-finite, for the receiver to refuse.
    """

    name = "bfloat16"
    range_max = FLOAT32_MAX
    zero_max = 2.0**-134

    def nbytes(self, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)

    def encode(self, array: Floats) -> bytes:
        return _rounded(array).tobytes()

    def encode_into(self, array: Floats, out: memoryview) -> None:
        np.copyto(np.frombuffer(out, dtype="<u2").reshape(array.shape), _rounded(array))

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        bits = np.frombuffer(self.checked(data, shape), dtype="<u2").reshape(shape).astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)


def _rounded(array: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    if not largest_magnitude(array) <= BFLOAT16_MAX:  # true for NaN and infinity too
        clipped = np.where(np.isfinite(array), np.clip(array, -BFLOAT16_MAX, BFLOAT16_MAX), array)
        array = np.where(np.isnan(array), np.array(_QUIET_NAN, dtype=np.uint32).view(np.float32), clipped)
    bits = array.astype(np.float32).view(np.uint32)  # our own copy, to round in place
    odd = bits >> 16
    odd &= 1
    bits += odd
    bits += 0x7FFF
    bits >>= 16
    return bits.astype("<u2")

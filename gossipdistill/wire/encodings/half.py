"""IEEE half precision: the default encoding of predictions."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from gossipdistill.wire.encodings.base import Encoding, Floats, largest_magnitude

HALF_MAX = 65504.0


@final
class Half(Encoding):
    """2 bytes per entry. Error: at most 2^-11 of |x|, or 2^-25 where |x| < 2^-14. |x| > 65504 is clipped to it;
    `out_of_range` counts these entries and those that become 0.

    A non-finite value stays non-finite, for the receiver to refuse.
    """

    name = "half"
    range_max = HALF_MAX
    zero_max = 2.0**-25

    def nbytes(self, shape: tuple[int, ...]) -> int:
        return 2 * math.prod(shape)

    def encode(self, array: Floats) -> bytes:
        return _clipped(array).astype("<f2").tobytes()

    def encode_into(self, array: Floats, out: memoryview) -> None:
        np.copyto(np.frombuffer(out, dtype="<f2").reshape(array.shape), _clipped(array), casting="same_kind")

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        return np.frombuffer(self.checked(data, shape), dtype="<f2").reshape(shape).astype(np.float32)


def _clipped(array: Floats) -> Floats:
    if largest_magnitude(array) <= HALF_MAX:  # false for NaN and infinity
        return array
    return np.where(np.isfinite(array), np.clip(array, -HALF_MAX, HALF_MAX), array)

"""Float32, little-endian, as it is."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from gossipdistill.wire.encodings.base import Encoding, Floats


@final
class Raw(Encoding):
    """4 bytes an entry. Error: none, bit for bit."""

    name = "raw"

    def nbytes(self, shape: tuple[int, ...]) -> int:
        return 4 * math.prod(shape)

    def encode(self, array: Floats) -> bytes:
        return array.astype("<f4", copy=False).tobytes()

    def encode_into(self, array: Floats, out: memoryview) -> None:
        np.copyto(np.frombuffer(out, dtype="<f4").reshape(array.shape), array)

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        values = np.frombuffer(self.checked(data, shape), dtype="<f4").reshape(shape)
        in_place = values.flags.writeable and values.flags.aligned
        return values.astype(np.float32, copy=not in_place)

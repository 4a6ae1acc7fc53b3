"""Unchanged entries, little-endian, in their own type."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gossipdistill.wire.encodings.base import Encoding, EncodingError

CARRIERS: dict[str, str] = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    "bfloat16": "<u2",
    "float8_e4m3fn": "|u1",
    "float8_e5m2": "|u1",
    "float8_e4m3fnuz": "|u1",
    "float8_e5m2fnuz": "|u1",
    "float8_e8m0fnu": "|u1",
    "complex128": "<c16",
    "complex64": "<c8",
    "complex32": "<u4",
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "|i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "|u1",
    "bool": "|u1",
}
"""The keys are types of entries, the values the numpy types that carry their bits. Where numpy has no such type, it is
an integer type of the same size."""


@final
class Raw(Encoding):
    """The size of the type per entry. Error: none, bit for bit."""

    name = "raw"

    def __init__(self, dtype: str = "float32") -> None:
        if dtype not in CARRIERS:
            raise EncodingError(f"raw: unknown type {dtype[:40]!r}")
        self.carrier = np.dtype(CARRIERS[dtype])

    def nbytes(self, shape: tuple[int, ...]) -> int:
        return self.carrier.itemsize * math.prod(shape)

    def encode(self, array: NDArray[Any]) -> bytes:
        return array.astype(self.carrier, copy=False).tobytes()

    def encode_into(self, array: NDArray[Any], out: memoryview) -> None:
        np.copyto(np.frombuffer(out, dtype=self.carrier).reshape(array.shape), array)

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> NDArray[Any]:
        values = np.frombuffer(self.checked(data, shape), dtype=self.carrier).reshape(shape)
        in_place = values.flags.writeable and values.flags.aligned
        return values.astype(self.carrier.newbyteorder("="), copy=not in_place)

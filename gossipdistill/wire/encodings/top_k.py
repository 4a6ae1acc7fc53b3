"""The k largest entries of each row, and the mass of the rest: for soft targets over many classes."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from gossipdistill.wire.encodings.base import Encoding, EncodingError, Floats
from gossipdistill.wire.encodings.half import HALF_MAX


@final
class TopK(Encoding):
    """k half-precision values, k indices (2 bytes, or 4 beyond 65,536 columns) and one residual mass per row.

    Rows are the last axis and their entries are probabilities (>= 0). The residual mass, row sum minus the sum of the k
    values, is transmitted, and the receiver spreads it evenly over the other entries, so a row keeps its sum. Error of
    a kept entry: that of half. Error of another: at most max(its value, residual / (columns - k)), and the sum over a
    row of |error| is at most twice the residual plus half's error. Values and residuals beyond 65504 are clipped to it.
    A row that holds a non-finite value decodes to one that does, for the receiver to refuse.
    """

    name = "top_k"
    range_max = HALF_MAX

    def __init__(self, k: int = 8) -> None:
        self.k = k

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int, str]:
        if not shape or shape[-1] < 1:
            raise EncodingError(f"top_k: no rows in shape {shape}")
        columns = shape[-1]
        return math.prod(shape[:-1]), columns, min(self.k, columns), "<u2" if columns <= 65536 else "<u4"

    def nbytes(self, shape: tuple[int, ...]) -> int:
        rows, _, k, index_type = self._sizes(shape)
        return rows * (2 * k + np.dtype(index_type).itemsize * k + 2)

    def encode(self, array: Floats) -> bytes:
        rows, columns, k, index_type = self._sizes(array.shape)
        table = array.reshape(rows, columns)
        indices = np.sort(np.argpartition(-table, k - 1, axis=1)[:, :k], axis=1)  # so that equal rows are equal bytes
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.take_along_axis(table, indices, axis=1)
            values = np.where(np.isfinite(kept), np.clip(kept, -HALF_MAX, HALF_MAX), kept).astype("<f2")
            rest = table.sum(axis=1) - values.astype(np.float32).sum(axis=1)
            finite = np.isfinite(table).all(axis=1)
            residual = np.where(finite, np.clip(rest, 0.0, HALF_MAX), np.float32("nan")).astype("<f2")
        return b"".join((values.tobytes(), indices.astype(index_type).tobytes(), residual.tobytes()))

    def decode(self, data: memoryview, shape: tuple[int, ...]) -> Floats:
        data = self.checked(data, shape)
        rows, columns, k, index_type = self._sizes(shape)
        index_end = 2 * rows * k + np.dtype(index_type).itemsize * rows * k
        values = np.frombuffer(data[: 2 * rows * k], dtype="<f2").reshape(rows, k).astype(np.float32)
        indices = np.frombuffer(data[2 * rows * k : index_end], dtype=index_type).reshape(rows, k).astype(np.int64)
        residual = np.frombuffer(data[index_end:], dtype="<f2").astype(np.float32)
        if indices.size and int(indices.max()) >= columns:
            raise EncodingError(f"top_k: index {int(indices.max())} of {columns} columns")
        spread = residual / (columns - k) if columns > k else np.zeros_like(residual)
        table: Floats = np.repeat(spread[:, None], columns, axis=1).astype(np.float32, copy=False)
        np.put_along_axis(table, indices, values, axis=1)
        return table.reshape(shape)

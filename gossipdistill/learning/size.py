"""The size of the parameters of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossipdistill.learning.blocks import largest_of, peak


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a model's parameters: their norm, the largest absolute value, their number, and the largest number
    that their types hold."""

    norm: float
    largest: float
    entries: int
    limit: float

    @staticmethod
    def of(parts: Sequence[Tensor]) -> Size:
        """Not finite where the model has diverged."""
        largest = max(map(peak, parts), default=0.0)
        return Size(norm_of(parts), largest, sum(part.numel() for part in parts), largest_of(parts))


def norm_of(parts: Iterable[Tensor]) -> float:
    """The Euclidean norm of all of them together."""
    with torch.no_grad():
        # In float32 at least: the squares of a half-precision vector overflow.
        lengths = (torch.linalg.vector_norm(part.float() if part.element_size() < 4 else part) for part in parts)
        return math.hypot(*map(float, lengths))

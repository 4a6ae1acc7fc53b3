"""All parameters of a model as one vector, for strategies that keep a running account of them.

Buffers are no part of it: the running statistics of BatchNorm follow a peer's own data, and stay its own. Tied weights
count once, complex ones as pairs of real numbers; what the parts are is decided once (learning/shared_arrays.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.rounding import Chance, store, wide
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.snapshot import Shapes, Types, pack, shapes_of, unpack
from gossipdistill.messages import Payload


def flat_parameters(model: nn.Module, shared: SharedArrays | None = None) -> Tensor:
    """A copy [P] of all parameters, in the order of `state_dict`, in the model's own type; of several types, in the
    smallest that holds them all."""
    parts = _parts(model, shared).values()
    return torch.cat([part.reshape(-1) for part in parts]) if parts else torch.empty(0)


def load_flat(model: nn.Module, flat: Tensor, shared: SharedArrays | None = None, chance: Chance | None = None) -> None:
    """Put a vector [P] of any floating type into the parameters. Those of low precision are rounded to the nearest, or,
    with a `chance`, at random (learning/rounding.py)."""
    at = 0
    with torch.no_grad():
        for part in _parts(model, shared).values():
            values = flat[at : at + part.numel()].view(part.shape)
            if chance is None:
                part.copy_(values)
            else:
                store(part, values, chance)
            at += part.numel()


def move(model: nn.Module, change: Tensor, shared: SharedArrays | None, chance: Chance) -> Tensor:
    """x <- x + change [P], computed in float32 at least, and rounded at random where a part is of low precision.
    Returns the model's values afterwards [P]."""
    target = wide(flat_parameters(model, shared)) + change
    load_flat(model, target, shared, chance)
    rounded = any(part.dtype is not target.dtype for part in _parts(model, shared).values())
    return flat_parameters(model, shared) if rounded else target


def _parts(model: nn.Module, shared: SharedArrays | None) -> dict[str, Tensor]:
    return (shared if shared is not None else SharedArrays.of(model)).vector(model)


def parameter_arrays(model: nn.Module, shared: SharedArrays | None = None) -> dict[str, Tensor]:
    """The arrays in which a vector [P] travels, without values: `meta` tensors by name."""
    coordinates = Coordinates.of(model, shared)
    return {
        name: torch.empty(shape, dtype=coordinates.types.get(name, torch.float32), device="meta")
        for name, shape in coordinates.shapes.items()
    }


@dataclass(frozen=True, slots=True)
class Coordinates:
    """The layout of a vector [P]: names and shapes of its parts, in order, and the type in which each travels: float64
    for parameters of float64, else float32, whatever the model is computed in."""

    shapes: Shapes
    types: Types

    @staticmethod
    def of(model: nn.Module, shared: SharedArrays | None = None) -> Coordinates:
        """Those of the parameters of a model."""
        parts = _parts(model, shared)
        wide = {name: torch.float64 for name, part in parts.items() if part.dtype is torch.float64}
        return Coordinates(shapes_of(parts), wide)

    def by_name(self, flat: Tensor) -> dict[str, Tensor]:
        """The parts of a vector [P] under their names, in the types in which they travel."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), torch.split(flat, sizes), strict=True)
        return {name: part.view(shape).to(self.types.get(name, torch.float32)) for (name, shape), part in parts}

    def flat(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `by_name`, whatever the order of `arrays`: a vector [P] on the CPU."""
        return torch.cat([arrays[name].reshape(-1) for name in self.shapes])

    def pack(self, flat: Tensor, encoding: str, ledger: Ledger | None = None, tiny: bool = True) -> Payload:
        """A vector [P], encoded; `ledger` and `tiny` as in `pack` of learning/snapshot."""
        return pack(self.by_name(flat), encoding, ledger, tiny)

    def unpack(self, payload: Payload) -> Tensor:
        """The vector [P] in a payload, on the CPU.

        Raises:
            PayloadRefusedError: as `unpack` of learning/snapshot.
        """
        return self.flat(unpack(payload, self.shapes, self.types))

"""Writing into parameters of low precision so that small moves are not lost.

bfloat16 has eight significant bits: x + 0.01 (y - x), rounded to the nearest, is x again as soon as y is within a
quarter of x, however often it is done. So a value v between two neighbouring numbers a < b of the type becomes

    b with probability (v - a) / (b - a), else a                                        (stochastic rounding)

whose mean is v: many small pulls add up to what they should be, with a noise of less than one step of the type each. A
value that the type holds exactly stays as it is. The other remedy, an accumulator in float32 beside each parameter,
would cost twice the model's memory for good; this costs nothing between two mixes. Types of four bytes or more are
written as always, bit for bit.

The chance comes from a generator of its own (`Chance`), never from torch's global one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_BITS = {1: torch.int8, 2: torch.int16}
_rounded: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""This counts, for each model, the roundings for which the caller named no chance."""


@dataclass(slots=True)
class Chance:
    """Uniform numbers, the same for the same seed on the same kind of device."""

    seed: int
    _generators: dict[torch.device, torch.Generator] = field(default_factory=dict)

    @staticmethod
    def of(model: nn.Module) -> Chance:
        """For callers without a learner: another one at each call for the same model."""
        _rounded[model] = number = _rounded.get(model, 0) + 1
        return Chance(number)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers in [0, 1), float32, in the shape and on the device of `like`."""
        return torch.rand(like.shape, generator=self._generator(like.device), device=like.device)

    def whole(self, below: int, like: Tensor) -> Tensor:
        """Whole numbers from 0 to `below` - 1, int32, in the shape and on the device of `like`."""
        numbers = torch.empty(like.shape, dtype=torch.int32, device=like.device)
        return numbers.random_(0, below, generator=self._generator(like.device))

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self.seed % 2**63)
        return self._generators[device]


def low(tensor: Tensor) -> bool:
    """Whether it is of a floating-point type of less than four bytes."""
    return tensor.is_floating_point() and tensor.element_size() < 4


def wide(tensor: Tensor) -> Tensor:
    """The tensor in the type to compute in: float32 for one of low precision, else itself."""
    return tensor.float() if low(tensor) else tensor


def store(tensor: Tensor, values: Tensor, chance: Chance) -> None:
    """Write values of any floating-point type into `tensor` [same shape], in place."""
    tensor.copy_(stochastic(values.float(), tensor.dtype, chance) if low(tensor) else values)


def stochastic(values: Tensor, dtype: torch.dtype, chance: Chance) -> Tensor:
    """Float32 values, rounded up or down to `dtype` at random, so that their mean is what they were.

    What is finite stays finite: a value beyond the largest of the type becomes that one. NaN and infinity stay.
    """
    largest = torch.finfo(dtype).max
    finite = values.isfinite()
    values = torch.where(finite, values.clamp(-largest, largest), values)
    if dtype is torch.bfloat16:  # the upper half of a float32: eight times as quick
        bits = values.contiguous().view(torch.int32) + chance.whole(1 << 16, values)
        return torch.where(finite, (bits & -(1 << 16)).view(torch.float32), values).to(dtype)
    nearest = values.to(dtype)
    # The bits of a float are its magnitude and a sign, so one more is its neighbour away from zero.
    error, bits = values - nearest.float(), nearest.view(_BITS[nearest.element_size()])
    outward = (error > 0) == (nearest.float() > 0)
    smallest = torch.zeros_like(values).copysign(error).to(dtype).view(bits.dtype) + 1
    neighbour = torch.where(nearest == 0, smallest, bits + torch.where(outward, 1, -1).to(bits.dtype)).view(dtype)
    share = error / (neighbour.float() - nearest.float())  # of the way to it: NaN where nothing is to be done
    return torch.where(chance.uniform(values) < share, neighbour, nearest)

"""All parameters of a model as one vector, for strategies that keep a running account of them.

Buffers are no part of it: the running statistics of BatchNorm follow a peer's own data, and stay its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gossipdistill.learning.snapshot import Shapes


def flat_parameters(model: nn.Module) -> Tensor:
    """A copy [P] of all parameters, in the order of `model.parameters()`, in the model's own type."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def load_flat(model: nn.Module, flat: Tensor) -> None:
    """Put a vector [P] of any floating type into the parameters."""
    at = 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(flat[at : at + parameter.numel()].view_as(parameter))
            at += parameter.numel()


def parameter_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters, as `unpack` expects them. Tied parameters count once."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def parameter_arrays(model: nn.Module) -> dict[str, Tensor]:
    """What a vector [P] is made of when it travels, without values: float32 `meta` tensors by name."""
    return {name: torch.empty(shape, device="meta") for name, shape in parameter_shapes(model).items()}


def by_name(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of a vector [P] under the names of the parameters."""
    parts = torch.split(flat, [math.prod(shape) for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def from_names(arrays: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """The inverse of `by_name`, whatever the order of `arrays`: a vector [P] on the CPU."""
    return torch.cat([arrays[name].reshape(-1) for name in shapes])

"""Adversarial examples of one gradient step, and statistics of their own for BatchNorm.

Notation: x [B, ...] inputs, d [B, ...] directions, epsilon the radius, x + epsilon d the adversarial examples.
Goodfellow et al. 2015 (1412.6572), section 4. One step only: several would cost more than what they are to speed up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from gossipdistill.learning.evaluation import evaluating, generators_kept
from gossipdistill.user_code import users_code


class Norm(StrEnum):
    """In which norm a perturbation is at most epsilon."""

    LINF = "linf"
    L2 = "l2"


def ascent_directions(
    model: nn.Module, loss: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor, norm: Norm
) -> Tensor:
    """d = sign(g) (linf) or g / |g| for each example (l2), with g the gradient of the loss to x; [B, ...] like x.

    In evaluation mode, so that neither dropout's generator nor any statistic moves, and no parameter gets a gradient.
    """
    with evaluating(model), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        with users_code("Task.model"):
            gradient: Tensor = torch.autograd.grad(loss(model(inputs), y), inputs)[0]
    if norm is Norm.LINF:
        return torch.sign(gradient)
    return gradient / _lengths(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)


def depends_on_inputs(model: nn.Module, loss: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor) -> bool:
    """Whether the loss has a gradient to the inputs x [B, ...] at all. Nothing is changed, no generator either."""
    with generators_kept(), evaluating(model), torch.enable_grad(), users_code("Task.model"):
        inputs = x.detach().clone().requires_grad_()
        value = loss(model(inputs), y)
        return value.requires_grad and torch.autograd.grad(value, inputs, allow_unused=True)[0] is not None


def bounded(directions: Tensor, norm: Norm) -> Tensor:
    """The directions, no longer than 1 in this norm, also those that a neighbour made."""
    if norm is Norm.LINF:
        return directions.clamp(-1.0, 1.0)
    return directions / _lengths(directions).clamp_min(1.0)


def _lengths(rows: Tensor) -> Tensor:
    """Euclidean norm of each row of [B, ...], shaped so that it divides them."""
    lengths: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return lengths.view(-1, *[1] * (rows.ndim - 1))


Statistics = dict[str, dict[str, Tensor]]


@contextlib.contextmanager
def own_statistics(model: nn.Module, kept: Statistics) -> Iterator[None]:
    """Inside, normalisation layers run on the running statistics in `kept`, and update those; a copy of the model's at
    first. Adversarial examples are of another distribution (Xie et al. 2020, 1911.09665, section 4.1); the layers'
    weights are shared."""
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, _NormBase) and layer._buffers}
    main: Statistics = {}
    for name, layer in layers.items():
        # Exchanged, not copied: the graph of the forward pass before still refers to the others.
        main[name] = dict(layer._buffers)  # type: ignore[arg-type]
        if name not in kept:
            kept[name] = {key: buffer.clone() for key, buffer in main[name].items() if buffer is not None}
        layer._buffers.update(kept[name])
    try:
        yield
    finally:
        for name, layer in layers.items():
            kept[name] = {key: buffer for key, buffer in layer._buffers.items() if buffer is not None}
            layer._buffers.update(main[name])

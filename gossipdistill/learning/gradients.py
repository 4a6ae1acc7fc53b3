"""How the gradient of one optimiser step is made: from how many batches, in which precision, of what size at most."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class GradientRules:
    """`accumulate` batches make one step, and their mean is its gradient. `clip_norm` bounds the Euclidean norm of the
    whole gradient; None is no bound. `autocast` is the type of forward passes and losses; None is the model's own."""

    accumulate: int = 1
    clip_norm: float | None = None
    autocast: torch.dtype | None = None

    def precision(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of a forward pass and its loss. Weights, gradients and the optimiser stay as they are."""
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.autocast)

    def batches(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows [accumulate * batch] of one step as batches of equal size."""
        return rows.chunk(self.accumulate) if self.accumulate > 1 else (rows,)

    def clip(self, model: nn.Module) -> None:
        """Scale the gradient down to `clip_norm` if it is longer (Pascanu, Mikolov and Bengio 2013, algorithm 1).

        It comes before a strategy adjusts the gradient, as in a loop of the user's own, where `clip_grad_norm_` stands
        before the optimiser's step and a strategy's hook runs inside it.
        """
        if self.clip_norm is None:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        if any(gradient.is_sparse for gradient in gradients):
            _clip_sparse(model, self.clip_norm)
        else:
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)


def _clip_sparse(model: nn.Module, norm_max: float) -> None:
    """The same where some gradients are sparse, of which torch's function takes no norm."""
    entries: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # rows that occur twice are added first
            entries.append(parameter.grad.values())
        elif parameter.grad is not None:
            entries.append(parameter.grad)
    norm = math.hypot(*(float(torch.linalg.vector_norm(part)) for part in entries))
    factor = norm_max / (norm + 1e-6)  # as torch's function has it
    if factor < 1.0:
        for part in entries:
            part.mul_(factor)


ONE_BATCH = GradientRules()

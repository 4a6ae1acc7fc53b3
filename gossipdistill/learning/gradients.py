"""How the gradient of one optimiser step is made: from how many batches, in which precision, of what size at most."""

from __future__ import annotations

import contextlib
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
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)


ONE_BATCH = GradientRules()

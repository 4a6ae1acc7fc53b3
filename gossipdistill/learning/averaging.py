"""Mixing a neighbour's weights into mine, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from gossipdistill.learning.rounding import Chance, store, wide
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.snapshot import model_arrays

T = TypeVar("T")


def at_most_the_plain_mean(others: Mapping[str, tuple[float, T]]) -> dict[str, tuple[float, T]]:
    """The same pairs (w_j, what j sent), scaled so that the w_j sum to at most n / (1 + n) for n of them.

    Senders are not in step: several versions may arrive at once, each with the weight of an exchange in which it was to
    be the only one. Together they weigh at most as much as in the plain mean of them and me.
    """
    share_max = len(others) / (1 + len(others))
    factor = min(1.0, share_max / sum(weight for weight, _ in others.values()))
    return {sender: (factor * weight, sent) for sender, (weight, sent) in others.items()}


def mix_in(
    model: nn.Module,
    others: Sequence[tuple[float, Mapping[str, Tensor]]],
    shared: SharedArrays | None = None,
    chance: Chance | None = None,
) -> None:
    """x <- (1 - sum_j w_j) x + sum_j w_j x_j for every shared parameter and floating-point buffer, once each.

    Row-stochastic: the receiver's weights sum to one (GALA, Assran et al. 2019, section 3). Optimiser state stays.
    Types of less than four bytes are mixed in float32 and rounded once, up or down at random, so that many small pulls
    add up (learning/rounding.py).

    Args:
        others: pairs (w_j, arrays of x_j by name, as `model_arrays` gives them); the w_j are >= 0 and sum to at most 1.
        shared: which arrays; without it, those that the model has now.
        chance: for the rounding; `Learner.chance` gives one for each step.
    """
    own_share = 1.0 - sum(weight for weight, _ in others)
    if own_share < -1e-9:
        raise ValueError(f"weights of others sum to {1.0 - own_share}, more than 1")
    chance = chance if chance is not None else Chance.of(model)
    with torch.no_grad():
        for name, tensor in model_arrays(model, shared).items():
            if not tensor.is_floating_point():
                continue  # a counter: its average means nothing
            mixed = wide(tensor)
            mixed.mul_(own_share)
            for weight, arrays in others:
                mixed.add_(arrays[name].to(device=mixed.device, dtype=mixed.dtype), alpha=weight)
            if mixed is not tensor:
                store(tensor, mixed, chance)

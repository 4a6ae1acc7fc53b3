"""Mixing a neighbour's weights into mine, in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def mix_in(model: nn.Module, others: Sequence[tuple[float, Mapping[str, Tensor]]]) -> None:
    """x <- (1 - sum_j w_j) x + sum_j w_j x_j for every parameter and floating-point buffer.

    Row-stochastic: the receiver's weights sum to one (GALA, Assran et al. 2019, section 3). Optimiser state stays.

    Args:
        others: pairs (w_j, arrays of x_j by name); the w_j are >= 0 and sum to at most 1.
    """
    own_share = 1.0 - sum(weight for weight, _ in others)
    if own_share < -1e-9:
        raise ValueError(f"weights of others sum to {1.0 - own_share}, more than 1")
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue  # a counter: its average means nothing
            tensor.mul_(own_share)
            for weight, arrays in others:
                tensor.add_(arrays[name].to(device=tensor.device, dtype=tensor.dtype), alpha=weight)

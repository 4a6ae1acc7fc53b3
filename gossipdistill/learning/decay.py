"""Weight decay that falls with the learning rate.

Codistillation regularises by itself, and the optimiser's weight decay on top of it is too much late in training:
Sodhani et al. 2020 (2010.02838, first version) multiply it by 1, 0.1 and 0 as the learning rate drops by tens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def schedule_weight_decay(optimizer: torch.optim.Optimizer, factors: Sequence[float]) -> None:
    """weight decay = initial weight decay * factors[k], where the rate has fallen k times tenfold from its peak.

    So it follows any schedule: one of steps, the cosine, or the user's own. A warm-up, before its peak, is no drop. The
    last factor holds from there on; without factors nothing is touched. Peak and initial value are kept in the
    parameter groups, and so in checkpoints.
    """
    if not factors:
        return
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        peak = group["peak_lr"] = max(rate, group.get("peak_lr", 0.0))
        initial = group.setdefault("initial_weight_decay", group.get("weight_decay", 0.0))
        drops = len(factors) if rate <= 0.0 < peak else tenfold_drops(peak, rate)
        group["weight_decay"] = initial * factors[min(drops, len(factors) - 1)]


def tenfold_drops(peak: float, rate: float) -> int:
    """The number of tenfold drops from `peak` to `rate`, robust to rounding errors."""
    return math.floor(math.log10(peak / rate) + 1e-6) if 0.0 < rate <= peak else 0

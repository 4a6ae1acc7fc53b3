"""When Nesterov's momentum may diverge although the settings are the usual ones."""

from __future__ import annotations

import torch


def finite_sum_risk(optimizer: torch.optim.Optimizer, rows_per_step: int, examples: int, constant: bool) -> str | None:
    """Why this run may diverge, in words; None where the conditions are not met.

    Assran and Rabbat 2020 (2002.12414): where the noise of the gradient is additive and of bounded variance, Nesterov's
    method with a constant step and momentum reaches a neighbourhood of the optimum, at the accelerated rate. Where it
    comes from drawing a part of finitely many examples, and so grows with the distance from the optimum, the usual
    choice, a step of 1 / L with a momentum of (sqrt(kappa) - 1) / (sqrt(kappa) + 1), may diverge, unless the problem is
    well conditioned and its examples are coherent, which is not known in advance. So the known conditions are checked:
    Nesterov's momentum, a step that never falls, and batches that are not everything.

    Args:
        optimizer: any; one without a `nesterov` in its groups has none.
        rows_per_step: that make one gradient, over all batches of the step.
        examples: that this peer holds.
        constant: whether the learning rate stays what it is.
    """
    groups = [group for group in optimizer.param_groups if group.get("nesterov") and group.get("momentum", 0.0) > 0.0]
    if not groups or not constant or rows_per_step >= examples:
        return None
    momentum = max(float(group["momentum"]) for group in groups)
    return (
        f"Nesterov's momentum ({momentum:g}) with a constant learning rate may diverge on batches of {rows_per_step} "
        f"of {examples} examples (Assran and Rabbat 2020): let the rate fall, enlarge the batch, or lower the momentum"
    )

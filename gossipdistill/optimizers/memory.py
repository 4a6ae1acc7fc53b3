"""The memory of critical gradients: the few largest of the past, with priorities that decay.

McRae, Parthasarathi, Assran and Chandar 2021 (2106.10708). Notation: g [P] the gradient of all parameters,
C the memory, at most `topc` of them. One step, in this order:

    a = sum:  g + kappa mean(C)      mean:  (g + kappa sum(C)) / (|C| + 1)      mid:  (g + kappa mean(C)) / 2
    if |C| < topc: remember g with priority |g|;  else if |g| > the lowest priority: g takes its place
    all priorities are multiplied by `decay`
    the optimiser steps with a; while C is empty, a = g

The memory costs topc models. Three choices of ours. By default |g| is the norm over all parameters of all groups, so
that the memory holds whole gradients (`whole_model`; else each parameter keeps its own largest ones, as the authors'
SGD_C does; their Adam_C compares whole gradients too, by the sum of the norms of the parameters). Weight decay is added
to a, not remembered: it belongs to today's weights. A gradient that is not finite is never remembered. A spike is
remembered longest: clip gradients before the step where there may be any.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Aggregation = Literal["sum", "mean", "mid"]
Keep = Literal["largest", "newest"]
State = dict[str, Any]
Group = dict[str, Any]


def options(
    topc: int, decay: float, kappa: float, aggregation: Aggregation, keep: Keep, whole_model: bool
) -> dict[str, Any]:
    """The options of the memory, for each group of parameters; invalid values are refused, as torch's optimizers do."""
    if topc < 0:
        raise ValueError(f"topc = {topc}: 0 or more gradients can be remembered")
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"decay = {decay}: between 0 and 1")
    if kappa < 0.0:
        raise ValueError(f"kappa = {kappa}: 0 or more")
    if aggregation not in get_args(Aggregation):
        raise ValueError(f"aggregation = {aggregation!r}: one of {', '.join(get_args(Aggregation))}")
    if keep not in get_args(Keep):
        raise ValueError(f"keep = {keep!r}: one of {', '.join(get_args(Keep))}")
    return {
        "topc": topc,
        "decay": decay,
        "kappa": kappa,
        "aggregation": aggregation,
        "keep": keep,
        "whole_model": whole_model,
    }


@torch.no_grad()
def recall_and_remember(groups: list[Group], state: dict[Tensor, State]) -> dict[Tensor, Tensor]:
    """The aggregated gradient of each parameter that has a gradient; the memory in `state` then holds the new one.

    Of each parameter [shape], `state` keeps `remembered` [topc, *shape] and `priorities`, one for each row in use.
    """
    used = [(group, p) for group in groups for p in group["params"] if p.grad is not None]
    norms = torch.stack([p.grad.float().norm() for _, p in used]).tolist() if used else []
    whole = math.sqrt(sum(norm * norm for norm in norms))
    aggregated: dict[Tensor, Tensor] = {}
    for (group, p), norm in zip(used, norms, strict=True):
        if p.grad.is_sparse:
            raise ValueError("gradients to be remembered must be dense")
        own = state[p]
        if group["topc"] and "remembered" not in own:
            own["remembered"], own["priorities"] = p.grad.new_zeros((group["topc"], *p.shape)), []
        aggregated[p] = _aggregate(p.grad, own, group["kappa"], group["aggregation"])
        if group["topc"]:
            _remember(p.grad, whole if group["whole_model"] else norm, own, group)
    return aggregated


def _aggregate(gradient: Tensor, own: State, kappa: float, aggregation: Aggregation) -> Tensor:
    count = len(own.get("priorities", ()))
    if not count:
        return gradient
    total: Tensor = own["remembered"][:count].sum(dim=0)
    if aggregation == "mean":
        return (gradient + kappa * total) / (count + 1)
    mixed = gradient + (kappa / count) * total
    return mixed if aggregation == "sum" else mixed / 2


def _remember(gradient: Tensor, norm: float, own: State, group: Group) -> None:
    priorities: list[float] = own["priorities"]
    if math.isfinite(norm):
        if group["keep"] == "newest":
            norm = 1.0 + max(priorities, default=0.0)  # a number that grows: the lowest is always the oldest
        row = len(priorities)
        if row < group["topc"]:
            priorities.append(norm)
        else:
            row = min(range(row), key=priorities.__getitem__)
            if norm <= priorities[row]:
                row = -1
        if row >= 0:
            priorities[row] = norm
            own["remembered"][row] = gradient
    if group["keep"] == "largest":
        own["priorities"] = [priority * group["decay"] for priority in priorities]

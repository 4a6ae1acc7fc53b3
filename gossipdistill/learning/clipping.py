"""The largest norm of a gradient: a fixed one, or one that follows the norms of this peer's own gradients.

A term of distillation keeps its size when the task's own gradient has vanished, because few examples are learned by
heart soon. At a rate at which the task alone trains well, the sum of both may drive a model to constant outputs. A
bound on the whole gradient prevents that. One that follows a peer's own norms does not depend on the scale of the loss
(AutoClip: Seetharaman, Wichern, Pardo and Le Roux 2020, 2007.14469, section 3; there it is over all steps, here over
the last ones, so that a gradient that grows is not held down for good by a flat start). Where outputs are class logits
the scale is known, a loss is in nats, and the bound is 1 at most: else a task whose gradients are all long, because its
inputs are, say, grey levels from 0 to 255, would have hardly any.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

Bound = float | Literal["auto"] | None
"""The most that the Euclidean norm of a gradient over all parameters may be. auto: see `Norms`. None: no bound."""
KEPT = 100
"""Steps whose norms are kept."""
SHARE = 0.1
"""The part of them that is no longer than the bound (AutoClip's own choice)."""
CLASSES_MAX = 1.0
"""The most that auto allows where outputs are class logits."""
_KEY = "gradient_norms"


@dataclass(slots=True)
class Norms:
    """Norms of this peer's last `KEPT` gradients before they were shortened. Those that are 0 or not finite say
    nothing, and are left out."""

    last: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def bound(self, norm: float) -> float:
        """Take in the norm of one more gradient; the most that it may be: the `SHARE` quantile of those known."""
        if not 0.0 < norm < math.inf:
            return math.inf
        self.last.append(norm)
        return sorted(self.last)[int(SHARE * (len(self.last) - 1))]

    def remember(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the norms [KEPT at most], the oldest first."""
        return {_KEY: torch.tensor(self.last, dtype=torch.float64)} if self.last else {}

    def recall(self, memory: Mapping[str, Tensor | float]) -> None:
        """The norms of a checkpoint, if it has some."""
        norms = memory.get(_KEY)
        if isinstance(norms, Tensor) and norms.ndim == 1:
            self.last = deque((norm for norm in norms.tolist() if 0.0 < norm < math.inf), maxlen=KEPT)


def clip(model: nn.Module, bound: Bound, norms: Norms, classes: bool = False) -> None:
    """Scale the gradient of `model` down to the bound if it is longer (Pascanu, Mikolov and Bengio 2013, algorithm 1).

    It comes before a strategy adjusts the gradient, as in a loop of the user's own, where `clip_grad_norm_` stands
    before the optimiser's step and a strategy's hook runs inside it. `classes`: whether the outputs are class logits.
    """
    if bound is None:
        return
    parts = _parts(model)
    norm = float(torch.nn.utils.get_total_norm(parts))
    most = min(norms.bound(norm), CLASSES_MAX if classes else math.inf) if bound == "auto" else bound
    factor = most / (norm + 1e-6)  # as torch's clip_grad_norm_ has it
    if factor < 1.0:
        for part in parts:
            part.mul_(factor)


def largest(bound: Bound, classes: bool) -> float | None:
    """The number above which no gradient is, if there is one. `classes`: as for `clip`."""
    if bound == "auto":
        return CLASSES_MAX if classes else None
    return bound


def _parts(model: nn.Module) -> list[Tensor]:
    """The entries of all gradients. Of sparse ones, those that are there: rows that occur twice are added first."""
    parts: list[Tensor] = []
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            parts.append(parameter.grad.values())
        elif parameter.grad is not None:
            parts.append(parameter.grad)
    return parts

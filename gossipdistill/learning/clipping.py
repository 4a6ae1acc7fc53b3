"""The largest norm of a gradient: a fixed one, or one that follows the norms of this peer's own gradients.

A term of distillation keeps its size when the task's own gradient has vanished, because few examples are learned by
heart soon. At a rate at which the task alone trains well, the sum of both may drive a model to constant outputs. A
bound on the whole gradient prevents that. One that follows a peer's own norms does not depend on the scale of the loss
(AutoClip: Seetharaman, Wichern, Pardo and Le Roux 2020, 2007.14469, section 3; there it is over all steps, here over
the last ones, so that a gradient that grows is not held down for good by a flat start). Where outputs are class logits
the scale is known: the bound is at most 1 for a mean cross-entropy, and as many times 1 as the task's loss is larger,
as with a sum over the batch. Otherwise a task whose gradients are all long, because its inputs are, say, grey levels
from 0 to 255, would have hardly any bound.
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
"""The Euclidean norm of a gradient over all parameters may have at most this value. auto: see `Norms`. None: no
bound."""
KEPT = 100
"""The norms of this number of steps are kept."""
SHARE = 0.1
"""This share of the norms is no longer than the bound (AutoClip's own choice)."""
CLASSES_MAX = 1.0
"""The bound of auto is at most this where outputs are class logits and the loss is their mean cross-entropy."""
_NORMS, _SCALE = "gradient_norms", "loss_scale"


@dataclass(slots=True)
class Norms:
    """Norms of this peer's last `KEPT` gradients before they were shortened. Those that are 0 or not finite are left
    out."""

    last: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    scale: float | None = None
    """The task's loss is this many times the mean cross-entropy, where outputs are class logits. None: that is not
    known yet, or they are no class logits."""

    @property
    def most(self) -> float:
        """The bound that holds whatever the norms are."""
        return math.inf if self.scale is None else CLASSES_MAX * self.scale

    def bound(self, norm: float) -> float:
        """Take in the norm of one more gradient. Returns its bound: the `SHARE` quantile of the known norms, and at
        most `most`."""
        if not 0.0 < norm < math.inf:
            return math.inf
        self.last.append(norm)
        return min(sorted(self.last)[int(SHARE * (len(self.last) - 1))], self.most)

    def remember(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the norms [KEPT at most], the oldest first, and the scale."""
        norms = {_NORMS: torch.tensor(self.last, dtype=torch.float64)} if self.last else {}
        return norms if self.scale is None else norms | {_SCALE: torch.tensor(self.scale, dtype=torch.float64)}

    def recall(self, memory: Mapping[str, Tensor | float]) -> None:
        """The norms of a checkpoint, if it has some."""
        norms, scale = memory.get(_NORMS), memory.get(_SCALE)
        if isinstance(norms, Tensor) and norms.ndim == 1:
            self.last = deque((norm for norm in norms.tolist() if 0.0 < norm < math.inf), maxlen=KEPT)
        if isinstance(scale, Tensor) and scale.ndim == 0 and 0.0 < float(scale) < math.inf:
            self.scale = float(scale)


def scale_of(loss: float, outputs: object, labels: Tensor) -> float:
    """The ratio of a task's `loss` of a batch to the mean cross-entropy of its class logits `outputs` [B, C] with
    `labels`: 1 for the mean, B for a sum. 1 where it cannot be computed."""
    if not isinstance(outputs, Tensor):
        return 1.0
    try:
        with torch.no_grad():
            scale = loss / float(nn.functional.cross_entropy(outputs.float(), labels))
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError):  # labels or outputs of another shape or type
        return 1.0
    return scale if 0.0 < scale < math.inf else 1.0


def clip(model: nn.Module, bound: Bound, norms: Norms) -> None:
    """Scale the gradient of `model` down to the bound if it is longer (Pascanu, Mikolov and Bengio 2013, algorithm 1).

    It comes before a strategy adjusts the gradient, as in a loop of the user's own, where `clip_grad_norm_` stands
    before the optimiser's step and a strategy's hook runs inside it.
    """
    if bound is None:
        return
    parts = _parts(model)
    norm = float(torch.nn.utils.get_total_norm(parts))
    most = norms.bound(norm) if bound == "auto" else bound
    factor = most / (norm + 1e-6)  # as in torch's clip_grad_norm_
    if factor < 1.0:
        for part in parts:
            part.mul_(factor)


def largest(bound: Bound, norms: Norms) -> float | None:
    """The upper bound of all gradient norms, if there is one."""
    if bound == "auto":
        return norms.most if norms.most < math.inf else None
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

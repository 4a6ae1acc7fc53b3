"""How large the weights are that come, beside mine: what is unusual is counted, and refused only where that is asked.

    r = |x_j| / |x_i|      Euclidean norms over all parameters; x_j what came (of push-sum mass its x / w), x_i mine

Peers that average stay close to one another, and models of one architecture that learn the same task apart are of one
size: in 156 runs of honest peers, 195,901 models in all, r was never outside [1 / NORM_RATIO_MAX, NORM_RATIO_MAX]
(experiments/unusual_norm). What was measured is digits and two convex tasks, and models of one run depend on one
another, so nothing is refused unless `exchange.refuse_unusual` says so. By its size only a coarse lie is found: noise
and constants always, a negative or a dissensus hardly ever; see learning/robust.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import PayloadRefusedError, unpack_model
from gossipdistill.messages import Arrival

NORM_RATIO_MAX = 4.0


def read_model(arrival: Arrival, learner: Learner) -> dict[str, Tensor]:
    """The arrays of a model that is like mine, as `unpack_model`, its size judged.

    Raises:
        PayloadRefusedError: as `unpack_model` and `judge_norm`.
    """
    arrays = unpack_model(arrival.payload, learner.model, learner.shared)
    judge_norm(arrival.sender, norm_of(arrays[name] for name in learner.shared.parameters), learner)
    return arrays


def judge_norm(sender: str, norm: float, learner: Learner, difference: bool = False) -> None:
    """Count one that is unusual, beside my own model as it is now. The `difference` of two models may be small.

    Raises:
        PayloadRefusedError: `norm`, where such are refused.
    """
    own = norm_of(learner.shared.vector(learner.model).values())
    least = 0.0 if difference else own / NORM_RATIO_MAX
    if own == 0.0 or not math.isfinite(own) or least <= norm <= own * NORM_RATIO_MAX:
        return
    problem = f"its weights have norm {norm:.4g}, mine {own:.4g}: more than {NORM_RATIO_MAX:g} times apart"
    learner.ledger.unusual_norm(sender, problem)
    if learner.refuse_unusual:
        raise PayloadRefusedError("norm", problem)


def norm_of(parts: Iterable[Tensor]) -> float:
    """The Euclidean norm of all of them together."""
    with torch.no_grad():
        # In float32 at least: the squares of a half-precision vector overflow.
        lengths = (torch.linalg.vector_norm(part.float() if part.element_size() < 4 else part) for part in parts)
        return math.hypot(*map(float, lengths))

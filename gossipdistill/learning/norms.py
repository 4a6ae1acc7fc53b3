"""The size of the weights that come, relative to mine: unusual sizes are counted, absurd ones are refused.

    r = |x_j| / |x_i|      Euclidean norms over all parameters; x_j what came (of push-sum mass its x / w), x_i mine

Peers that average stay close to one another, and models of one architecture that learn the same task apart are of one
size: in 156 runs of honest peers, 195,901 models in all, r was never outside [1 / NORM_RATIO_MAX, NORM_RATIO_MAX]
(experiments/unusual_norm). What was measured is digits and two convex tasks, and models of one run depend on one
another, so what lies outside is refused only where `exchange.refuse_unusual` says so.

Arrays that no training explains, or that could make a model infinite, are always refused:

- r above ABSURD_RATIO. Models may begin at zero: mine counts as at least 0.01 an entry (root mean square).
- an entry above ABSURD_ENTRY times my own largest one, which counts as 1 at least; of buffers, above ABSURD_BUFFER
  times (the variances of inputs that nobody has scaled are large).
- an entry above half of what the types of my model hold.

By its size only a coarse lie is found: noise and constants always, a negative or a dissensus hardly ever; see
learning/robust. A lie within these bounds still spoils an average.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from gossipdistill.learning.blocks import largest_of, peak
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.size import norm_of
from gossipdistill.learning.snapshot import PayloadRefusedError, model_arrays, unpack_model
from gossipdistill.messages import Arrival

NORM_RATIO_MAX = 4.0
ABSURD_RATIO = 100.0
ABSURD_ENTRY = 1000.0
ABSURD_BUFFER = 1e6
_LEAST_RMS = 0.01


def read_model(arrival: Arrival, learner: Learner) -> dict[str, Tensor]:
    """The arrays of a model that is like mine, as `unpack_model`, its size judged.

    Raises:
        PayloadRefusedError: as `unpack_model` and `judge_size`.
    """
    arrays = unpack_model(arrival.payload, learner.model, learner.shared)
    judge_size(arrival.sender, [arrays[name] for name in learner.shared.parameters], learner)
    _judge_buffers(arrays, learner)
    return arrays


def judge_size(
    sender: str, parts: Sequence[Tensor], learner: Learner, weight: float = 1.0, difference: bool = False
) -> None:
    """Refuse what is absurd, and count what is unusual, beside my own model as it is now.

    Args:
        parts: what came; of mass, `weight` times a model. The `difference` of two models may be small.

    Raises:
        PayloadRefusedError: `range` or `norm`.
    """
    own = learner.size()
    if not math.isfinite(own.norm):
        return
    norm, largest = norm_of(parts) / weight, max(map(peak, parts), default=0.0) / weight
    bound = min(ABSURD_ENTRY * max(1.0, own.largest), 0.5 * own.limit)
    if largest > bound:
        told = f"its largest weight is {largest:.4g}, mine {own.largest:.4g}; at most {bound:.4g} is taken"
        raise PayloadRefusedError("range", told)
    bound = ABSURD_RATIO * max(own.norm, _LEAST_RMS * math.sqrt(own.entries))
    if norm > bound:
        raise PayloadRefusedError("norm", f"its weights have norm {norm:.4g}, mine {own.norm:.4g}; at most {bound:.4g}")
    least = 0.0 if difference else own.norm / NORM_RATIO_MAX
    if own.norm == 0.0 or least <= norm <= own.norm * NORM_RATIO_MAX:
        return
    problem = f"its weights have norm {norm:.4g}, mine {own.norm:.4g}: more than {NORM_RATIO_MAX:g} times apart"
    learner.ledger.unusual_norm(sender, problem)
    if learner.refuse_unusual:
        raise PayloadRefusedError("norm", problem)


def _judge_buffers(arrays: Mapping[str, Tensor], learner: Learner) -> None:
    for name, own in model_arrays(learner.model, learner.shared).items():
        if name in learner.shared.parameters or not own.is_floating_point():
            continue
        bound = min(ABSURD_BUFFER * max(1.0, peak(own)), 0.5 * largest_of([own]))
        if peak(arrays[name]) > bound:
            told = f"{name[:80]} holds {peak(arrays[name]):.4g}; at most {bound:.4g} is taken"
            raise PayloadRefusedError("range", told)

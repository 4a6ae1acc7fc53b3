"""Examples that a peer does not train on, so that it can judge models by them."""

from __future__ import annotations

from dataclasses import replace

import torch

from gossipdistill.errors import NeedsError
from gossipdistill.learning.learner import Draws, Learner

_SEED = 15_485_863
"""This offset differs from those of all draws, whose seeds are small multiples of other primes away from the run's."""


def hold_out(learner: Learner, draws: Draws, share: float, accumulate: int = 1) -> Draws:
    """Move `share` of `learner.examples`, at least one, to `learner.held_out`: the same ones whenever this peer starts.

    Returns:
        `draws` over what is left: as many examples a step, or all there are, in `accumulate` equal batches.

    Raises:
        NeedsError: when nothing is left to train on.
    """
    assert learner.examples is not None
    x, y = learner.examples
    held = max(round(share * len(x)), 1)
    rows = len(x) - held
    if rows < accumulate:
        raise NeedsError(
            f"{learner.name} has {len(x)} examples: without the {held} that models are judged by, too few are left"
        )
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(_SEED + learner.seed + learner.place))
    aside, kept = (part.sort().values.to(x.device) for part in (order[:held], order[held:]))
    learner.examples, learner.held_out = (x[kept], y[kept]), (x[aside], y[aside])
    batch_size = min(draws.batch_size, rows - rows % accumulate)
    return replace(draws, rows=rows, batch_size=batch_size)

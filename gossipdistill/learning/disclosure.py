"""The part of a prediction that leaves this peer: less than the model's output, for peers that must reveal less
(docs/privacy.md).

The sender reduces it, before anything is encoded. A row stays a probability distribution, so the receiver need not know
of it. Notation: p [N, C] rows of probabilities, k the number of classes of a row that are revealed, c the least
probability that is revealed.

- *clip*: the nearest p' (Euclidean) with p' >= c and sum 1, which is c + max(p - c - t, 0) with one t for a row (Duchi,
  Shalev-Shwartz, Singer and Chandra 2008, figure 1). So no p' is above 1 - (C - 1) c either: of two classes each is
  within [c, 1 - c]. A row that is nowhere below c stays as it is.
- *top k*: the k largest of a row stay, the others share what is left evenly. Their order is not revealed, and a student
  does not learn that they are impossible. Of equal ones those of the lower numbers count as larger.

First the clip, then the choice: shares of what is left are not below c either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossipdistill.errors import ConfigError


def check_disclosure(classes: int, top_k: int | None, clip: float) -> None:
    """Refuse what would hide nothing, and what would leave nothing.

    Raises:
        ConfigError: naming the key.
    """
    # Of k = C - 1 the last one is known too, being what is left.
    if top_k is not None and top_k >= classes - 1:
        accepted = f"1 to {classes - 2}, or unset" if classes > 2 else "unset, and strategy.reveal_clip instead"
        raise ConfigError(
            f"of {classes} classes that hides none", key="strategy.reveal_top_k", value=top_k, accepted=accepted
        )
    if clip * classes >= 1.0:
        problem = f"of {classes} classes nothing is left to tell"
        accepted = f"0 or more, and below 1 / {classes}"
        raise ConfigError(problem, key="strategy.reveal_clip", value=clip, accepted=accepted)


def disclosed(probabilities: Tensor, top_k: int | None, clip: float) -> Tensor:
    """The revealed part of p [N, C], in float32: clipped at c = `clip` (0: not) and reduced to `top_k` (None: not)."""
    told = _clipped(probabilities, clip) if clip > 0.0 else probabilities
    return told if top_k is None else _largest(told, top_k)


def _clipped(p: Tensor, c: float) -> Tensor:
    classes = p.shape[1]
    falling = (p.double() - c).sort(dim=1, descending=True).values
    # t if the r largest of a row were all above c: what they have beyond what is to be had, over r.
    ranks = torch.arange(1, classes + 1, device=p.device, dtype=falling.dtype)
    t = (falling.cumsum(dim=1) - (1.0 - classes * c)) / ranks
    above = (falling > t).sum(dim=1, keepdim=True)
    return (c + (p.double() - c - t.gather(1, above - 1)).clamp_min(0.0)).float()


def _largest(p: Tensor, k: int) -> Tensor:
    values, places = p.sort(dim=1, descending=True, stable=True)
    others = p.shape[1] - k
    rest = values[:, k:].sum(dim=1, keepdim=True) / others
    return rest.expand_as(p).scatter(1, places[:, :k], values[:, :k])

"""The task `quadratic`: a problem whose answer is known, to see whether averaging finds it."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError
from gossipdistill.tasks.base import About, Task
from gossipdistill.tasks.shards import Shard, frozen_random

EXAMPLES_PER_PEER = 100
Rows = npt.NDArray[np.float64]
ABOUT = About(
    origin="drawn from the seed",
    licence="none needed",
    sizes=f"{EXAMPLES_PER_PEER} noisy observations of each peer's centre (task.examples_per_peer), no transfer set; "
    "validation is one row per peer",
)


class Point(nn.Module):
    """A point `at` [dim], starting at the origin: the output for every row is where the point is, [rows, dim]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(dim))

    def forward(self, rows: Tensor) -> Tensor:
        """`at`, once for each row of `rows` [rows, 1]; their values do not matter."""
        return self.at.expand(len(rows), -1)


def task(
    shard: Shard,
    dim: Annotated[int, "The number of coordinates."] = 10,
    noise: Annotated[float, "The standard deviation of an observation around its peer's centre."] = 0.1,
    spread: Annotated[float, "The standard deviation of the centres' coordinates."] = 1.0,
) -> Task:
    """Find the mean of all peers' centres, each peer seeing only its own; the answer is known.

    Peer i of n minimises f_i(x) = 0.5 |x - c_i|^2 over noisy observations of its centre c_i [dim], whose noise sums to
    zero, so that c_i is exactly where its own training loss is least. Together they minimise the mean of all f_i:

        F(x) = 0.5 |x - c|^2 + 0.5 mean_i |c_i - c|^2,   least at c = mean_i c_i

    F is the validation loss; at the optimum only its second term is left. The metric `distance_to_optimum` is
    |x - c|. A peer alone ends at |c_i - c|. With `task.shards = "same"` all centres are equal; `label_skew` is the
    same as `disjoint`, as there are no classes.
    """
    for key, value, least in (("dim", dim, 1), ("noise", noise, 0), ("spread", spread, 0)):
        if value < least:
            raise ConfigError("is too small", key=f"task.{key}", value=value, accepted=f"{least} or more")
    centres, rows, optimum = _centres(shard.count, dim, float(spread), shard.how == "same", shard.seed)
    mine = range(shard.count) if shard.pooled else (shard.index,)
    examples = shard.examples_per_peer or EXAMPLES_PER_PEER
    observed = _float32(np.concatenate([_observations(centres[i], examples, noise, shard.seed, i) for i in mine]))

    def distance_to_optimum(out: Tensor, _: Tensor) -> float:
        return float((out[0].detach().cpu() - optimum).norm())

    return Task(
        model=lambda: Point(dim),
        train=(torch.ones(len(observed), 1), observed),
        validation=(torch.ones(1, 1).expand(shard.count, 1), rows),
        loss=half_squared_distance,
        metrics={"distance_to_optimum": distance_to_optimum},
    )


def half_squared_distance(out: Tensor, y: Tensor) -> Tensor:
    """0.5 |out - y|^2, the mean over the rows of [rows, dim]."""
    return 0.5 * (out - y).square().sum(dim=1).mean()


@lru_cache(maxsize=2)
def _centres(count: int, dim: int, spread: float, same: bool, seed: int) -> tuple[Rows, Tensor, Tensor]:
    """Centres [count, dim], the same as float32, and their mean [dim]. Read only: the tasks of one process share them,
    else a thousand peers would hold a million rows."""
    # One draw for all: the first n centres are the same for every number of peers.
    centres = spread * frozen_random(seed).standard_normal((count, dim))
    if same:
        centres = np.repeat(centres[:1], count, axis=0)
    return centres, _float32(centres), _float32(centres.mean(axis=0))


def _observations(centre: Rows, examples: int, noise: float, seed: int, index: int) -> Rows:
    """Rows [examples, dim] around `centre` [dim], with exactly that mean."""
    deviations = frozen_random(seed, index).standard_normal((examples, len(centre)))
    rows: Rows = centre + noise * (deviations - deviations.mean(axis=0))
    return rows


def _float32(rows: Rows) -> Tensor:
    return torch.from_numpy(rows.astype(np.float32))

"""The task `logistic`: a convex problem with unlike shards, light enough for thousands of peers in one process."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError
from gossipdistill.tasks.base import About, Task, accuracy
from gossipdistill.tasks.shards import Shard, frozen_random

EXAMPLES_PER_PEER = 20
NEWTON_STEPS_MAX = 50
Rows = npt.NDArray[np.float64]
ABOUT = About(
    origin="drawn from the seed",
    licence="none needed",
    sizes=f"{EXAMPLES_PER_PEER} examples of each peer (task.examples_per_peer), no transfer set; validation is the "
    "union of all peers' examples",
)


class LogisticRegression(nn.Module):
    """Logits [rows, 2] of inputs [rows, dim]: 0 for class 0 and w.x + b for class 1, starting at w = 0, b = 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.zeros(dim + 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Cross-entropy of these logits is the logistic loss log(1 + exp(-s)) with s = +-(w.x + b)."""
        score = torch.addmv(self.at[-1:].expand(len(rows)), rows, self.at[:-1])
        return torch.stack((torch.zeros_like(score), score), dim=1)


class Examples(NamedTuple):
    """The examples of all peers together: inputs [peers x examples, dim], labels [peers x examples], and the least mean
    loss."""

    x: Tensor
    y: Tensor
    least_loss: float


def task(
    shard: Shard,
    dim: Annotated[int, "The number of inputs."] = 10,
    unlike: Annotated[float, "The standard deviation of the peers' input means. 0: all shards are alike."] = 1.0,
) -> Task:
    """Logistic regression in which each peer sees another part of the input space; the answer is known.

    Peer i draws inputs x ~ N(m_i, I) [dim] with m_i ~ N(0, unlike^2 I), and labels of class 1 with probability
    1 / (1 + exp(-v.x)), v ~ N(0, I): one truth v for all. The validation loss is the mean logistic loss F over the
    examples of all peers, which is convex; the metric `excess_loss` is F less its minimum, found by Newton's method. A
    peer alone ends where its own few examples draw it. With `task.shards = "same"` all have the first peer's examples;
    `label_skew` is the same as `disjoint`, as the inputs are skewed already.
    """
    if dim < 1:
        raise ConfigError("is too small", key="task.dim", value=dim, accepted="1 or more")
    if unlike < 0:
        raise ConfigError("is too small", key="task.unlike", value=unlike, accepted="0 or more")
    count = 1 if shard.how == "same" else shard.count
    each = shard.examples_per_peer or EXAMPLES_PER_PEER
    examples = _examples(count, each, dim, float(unlike), shard.seed)
    mine = slice(None) if shard.pooled else slice(*((shard.index % count + end) * each for end in (0, 1)))

    def excess_loss(out: Tensor, y: Tensor) -> float:
        return float(nn.functional.cross_entropy(out.detach().double(), y)) - examples.least_loss

    return Task(
        model=lambda: LogisticRegression(dim),
        train=(examples.x[mine], examples.y[mine]),
        validation=(examples.x, examples.y),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy, "excess_loss": excess_loss},
    )


@lru_cache(maxsize=2)
def _examples(count: int, each: int, dim: int, unlike: float, seed: int) -> Examples:
    """Drawn once in a process: its tasks share them. The first n peers are the same for every number of peers."""
    truth = frozen_random(seed).standard_normal(dim)
    drawn = frozen_random(seed, 1).standard_normal((count, each + 1, dim))
    x = (drawn[:, 1:] + unlike * drawn[:, :1]).reshape(count * each, dim).astype(np.float32).astype(np.float64)
    chance = frozen_random(seed, 2).random_sample((count, each)).reshape(-1)
    y = (chance < _sigmoid(x @ truth)).astype(np.int64)
    return Examples(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y), _least_loss(x, y))


def _least_loss(x: Rows, y: npt.NDArray[np.int64]) -> float:
    """min over (w, b) of the mean logistic loss, by Newton's method with halved steps; near 0 where a plane
    parts the classes, as the loss then falls for ever."""
    rows = np.column_stack([x, np.ones(len(x))])
    at: Rows = np.zeros(rows.shape[1])
    signs: Rows = np.where(y == 1, 1.0, -1.0)
    loss = _loss(rows, signs, at)
    for _ in range(NEWTON_STEPS_MAX):
        p = _sigmoid(rows @ at)
        gradient = rows.T @ (p - y) / len(rows)
        hessian = (rows * (p * (1 - p))[:, None]).T @ rows / len(rows) + 1e-12 * np.eye(len(at))
        step, length = np.linalg.solve(hessian, gradient), 1.0
        while length > 1e-6 and _loss(rows, signs, at - length * step) > loss:
            length /= 2
        at, before = at - length * step, loss
        loss = _loss(rows, signs, at)
        if before - loss < 1e-15:
            break
    return loss


def _loss(rows: Rows, signs: Rows, at: Rows) -> float:
    return float(np.logaddexp(0.0, -signs * (rows @ at)).mean())


def _sigmoid(score: Rows) -> Rows:
    value: Rows = np.exp(-np.logaddexp(0.0, -score))
    return value

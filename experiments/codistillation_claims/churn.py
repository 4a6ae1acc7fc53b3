"""How much the predictions of two runs differ that differ in their chance alone: initial weights and order of examples.

Anil et al. 2018 (1804.03235), section 3.4: a service that retrains its model does not want its answers to jump about.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def churn(p: Tensor, q: Tensor) -> tuple[float, float]:
    """Of the probabilities [rows, C] of two models: the share of rows with unlike likeliest classes, and the mean over
    rows and classes of |p - q|."""
    return float((p.argmax(1) != q.argmax(1)).float().mean()), float((p - q).abs().mean())


def copies(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[float, float]:
    """`churn` of models that are served singly: the mean over the peers of a run, each with the peer at its place in
    the other run. Peers of one run are not compared with one another."""
    pairs = [churn(p, q) for p, q in zip(first, second, strict=True)]
    return sum(flips for flips, _ in pairs) / len(pairs), sum(distance for _, distance in pairs) / len(pairs)


def ensembles(first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[float, float]:
    """`churn` of the mean of all peers' probabilities, which costs as many models to serve."""
    return churn(mean_of(first), mean_of(second))


def mean_of(tables: Sequence[Tensor]) -> Tensor:
    """The mean of probabilities [rows, C]."""
    return sum(tables[1:], start=tables[0]) / len(tables)

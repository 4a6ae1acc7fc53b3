"""Choosing a learning rate and a weight decay on a grid without trying all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Point = tuple[float, float]
RATES = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
DECAYS = (0.0, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
START: Point = (0.05, 3e-3)
START_BOUNDED: Point = (0.2, 1e-3)
"""For methods that bound the gradient by default: their steps are shorter at the same rate."""


def neighbours(point: Point, rates: Sequence[float], decays: Sequence[float]) -> list[Point]:
    """The points of the grid one place away from this one, in one of the two directions."""
    i, j = rates.index(point[0]), decays.index(point[1])
    places = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
    return [(rates[a], decays[b]) for a, b in places if 0 <= a < len(rates) and 0 <= b < len(decays)]


def climb(
    score: Callable[[Point], float],
    start: Point = START,
    rates: Sequence[float] = RATES,
    decays: Sequence[float] = DECAYS,
) -> Point:
    """From `start` to the best neighbour, again and again, until no neighbour is better: the best of all points that
    were tried, none of whose neighbours on the grid is better."""
    here, scores = start, {start: score(start)}
    while True:
        for point in neighbours(here, rates, decays):
            if point not in scores:
                scores[point] = score(point)
        best = max(scores, key=lambda point: scores[point])
        if scores[best] <= scores[here]:
            return here
        here = best

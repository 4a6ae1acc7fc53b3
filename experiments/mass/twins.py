"""Two other ways to do push-sum over the same kind of network, in plain NumPy, for comparison.

*naive*: increments (p x, p w) are sent and forgotten. *textbook*: running totals per out-link, of which the receiver
takes differences (robust ratio consensus; Spiridonoff, Olshevsky and Paschalidis 2020, 1811.03761), with the guard
against overtaken messages. Payloads are float32 in both, weights float64. The totals grow, and a total in float32
carries a rounding error in proportion to its size: the digits that *textbook* loses are those of float32 counters, not
of the algorithm. *textbook64* is the same with counters in float64, at twice the bytes.
"""

from __future__ import annotations

import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.common.lossy import DELAY_S, DUPLICATION, LOSS
from experiments.mass.averaging import WAKE_S, Vector, starts

Row = tuple[int, float, float, float]
"""(exchanges, largest error of an estimate, sum of the weights held, smallest weight)"""


class Push(ABC):
    """State of all peers, and one exchange of peer i with peer j: `send` gives a message, `absorb` takes it."""

    def __init__(self, count: int, seed: int) -> None:
        self.x, self.w = starts(count, seed), np.ones(count)
        self.truth: Vector = self.x.mean(axis=0)

    @abstractmethod
    def send(self, i: int, j: int, part: float = 0.5) -> Any:
        """What i gives away to j: this part of what it holds."""

    @abstractmethod
    def absorb(self, i: int, j: int, message: Any) -> None:
        """j takes what i has given away."""


class Naive(Push):
    """What is lost is lost, and what comes twice counts twice."""

    def send(self, i: int, j: int, part: float = 0.5) -> Any:
        x, w = (part * self.x[i]).astype(np.float32), part * self.w[i]
        self.x[i] -= x
        self.w[i] -= w
        return x, w

    def absorb(self, i: int, j: int, message: Any) -> None:
        self.x[j] += message[0]
        self.w[j] += message[1]


class Textbook(Push):
    """Totals sigma per link at the sender, rho at the receiver; the newest total makes up for all that were lost."""

    counter: type[np.floating[Any]] = np.float32
    """The type in which a total travels."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(count, seed)
        self.sigma: dict[tuple[int, int], tuple[int, Vector, float]] = {}
        self.rho: dict[tuple[int, int], tuple[int, Vector, float]] = {}

    def send(self, i: int, j: int, part: float = 0.5) -> Any:
        number, total, weight = self.sigma.get((i, j), (0, np.zeros(self.x.shape[1]), 0.0))
        share, w = part * self.x[i], part * self.w[i]
        self.x[i] -= share
        self.w[i] -= w
        self.sigma[i, j] = number + 1, total + share, weight + w
        return number + 1, self.sigma[i, j][1].astype(self.counter), weight + w

    def absorb(self, i: int, j: int, message: Any) -> None:
        number, total, weight = message
        seen, x, w = self.rho.get((i, j), (0, np.zeros(self.x.shape[1]), 0.0))
        if number > seen:
            self.x[j] += total.astype(np.float64) - x
            self.w[j] += weight - w
            self.rho[i, j] = number, total.astype(np.float64), weight


class Textbook64(Textbook):
    """Totals in float64."""

    counter = np.float64


def run(make: Callable[[int, int], Push], count: int, marks: Sequence[int], seed: int = 0) -> list[Row]:
    """Exchanges on the one-peer exponential graph under the storm; a row at each of `marks` exchanges."""
    push, chance = make(count, seed), random.Random(f"twin {seed}")
    hops = [2**k for k in range((count - 1).bit_length())]
    pace = [chance.uniform(*WAKE_S) for _ in range(count)]
    sent, exchanges, rows = [0] * count, 0, []
    heap: list[tuple[float, int, int, int, Any]] = [(chance.random() * pace[i], i, i, -1, None) for i in range(count)]
    heapq.heapify(heap)
    order = count
    with np.errstate(all="ignore"):
        while len(rows) < len(marks):
            now, _, i, j, message = heapq.heappop(heap)
            order += 1
            if j >= 0:
                push.absorb(i, j, message)
                continue
            heapq.heappush(heap, (now + pace[i] * chance.uniform(0.8, 1.2), order, i, -1, None))
            j = (i + hops[sent[i] % len(hops)]) % count
            sent[i] += 1
            exchanges += 1
            message = push.send(i, j)
            if chance.random() >= LOSS:
                for _ in range(1 + (chance.random() < DUPLICATION)):
                    order += 1
                    heapq.heappush(heap, (now + chance.expovariate(1.0 / DELAY_S), order, i, j, message))
            if exchanges == marks[len(rows)]:
                error = float(np.abs(push.x / push.w[:, None] - push.truth).max())
                rows.append((exchanges, error, float(push.w.sum()), float(push.w.min())))
    return rows

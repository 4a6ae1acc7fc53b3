"""Which peer trains on what: dealing one labelled pool to the peers.

Every peer deals for all of them and keeps its own part. So nothing is sent, and the result must be the same on every
machine: all chance comes from `frozen_random`, whose stream NumPy promises never to change between versions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossipdistill.errors import ConfigError, nearest
from gossipdistill.tasks.base import Deal, ShardKind

SHARD_KINDS: tuple[ShardKind, ...] = get_args(ShardKind)
Indices = npt.NDArray[np.int64]


def frozen_random(*seed: int) -> np.random.RandomState:
    """A generator made from non-negative whole numbers. Its stream is the same in every NumPy (their policy NEP 19
    freezes `RandomState`, and leaves `Generator` free to change)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


SKEW, CLASSES_PER_PEER = 0.94, 3
"""These are the defaults of `task.skew` and `task.classes_per_peer`."""


@dataclass(frozen=True)
class Shard:
    """This peer's part of the labelled examples, as the keys under `[task]` say.

    Args:
        index: place of this peer in the roster, from 0.
        count: number of shards.
        how: `disjoint` deals equal random parts, `same` gives all peers the same examples, `label_skew` deals
            disjoint parts that are mostly of a few main classes each.
        examples_per_peer: labelled examples of each peer; None leaves it to the task, else the whole pool is dealt.
        seed: the same on all peers.
        data_dir: folder with data sets (`--data-dir` or GOSSIPDISTILL_DATA), or None.
        pooled: deal the union of all shards instead, as for one machine that sees all labels.
        skew: fraction of a peer's examples that is of its main classes (`label_skew` only).
        classes_per_peer: number of main classes; at most one fewer than there are classes.
    """

    index: int
    count: int
    how: ShardKind = "disjoint"
    examples_per_peer: int | None = None
    seed: int = 0
    data_dir: Path | None = None
    pooled: bool = False
    skew: float = SKEW
    classes_per_peer: int = CLASSES_PER_PEER
    fewer: bool = False
    """Whether each peer may have fewer than `examples_per_peer`, where the pool is too small for all of them; otherwise
    that is refused."""
    deals: list[Deal] = field(default_factory=list, compare=False, repr=False)
    """These deals were made; titles and results show them."""

    def __post_init__(self) -> None:
        if self.how not in SHARD_KINDS:
            raise ConfigError(
                f"no such way to deal; {nearest(str(self.how), SHARD_KINDS)}",
                key="task.shards",
                value=self.how,
                accepted=", ".join(SHARD_KINDS),
            )
        bounds = (
            ("shard", f"{self.index + 1}/{self.count}", 0 <= self.index < self.count, "K/N with 1 <= K <= N"),
            ("seed", self.seed, self.seed >= 0, "0 or more"),
            ("task.skew", self.skew, 0.0 <= self.skew <= 1.0, "0.0 to 1.0"),
            ("task.classes_per_peer", self.classes_per_peer, self.classes_per_peer >= 1, "1 or more"),
            (
                "task.examples_per_peer",
                self.examples_per_peer,
                self.examples_per_peer is None or self.examples_per_peer >= 1,
                "1 or more",
            ),
        )
        for key, value, holds, accepted in bounds:
            if not holds:
                raise ConfigError("is out of range", key=key, value=value, accepted=accepted)

    def deal(self, labels: Tensor, default: int | None = None) -> Tensor:
        """The indices into `labels` of this peer's examples [examples], ascending.

        Args:
            labels: labels of the pool [pool] or [pool, ...]; the same, in the same order, on every peer.
            default: examples per peer where the run names no number; fewer if the pool is too small for it. Unset: the
                whole pool, divided.
        """
        share = self._share(len(labels), default)
        if self.how == "label_skew":
            numbers = class_numbers(labels).tobytes()
            parts = _deal_skewed_once(numbers, self.count, share, self.skew, self.classes_per_peer, self.seed)
        else:
            order = frozen_random(self.seed).permutation(len(labels)).astype(np.int64)
            hands = self.count if self.how == "disjoint" else 1
            parts = [order[hand * share : (hand + 1) * share] for hand in range(hands)]
        mine = np.concatenate(parts) if self.pooled else parts[self.index % len(parts)]
        return torch.from_numpy(np.sort(mine))

    def _share(self, pool: int, default: int | None) -> int:
        """Examples of each peer out of a pool of this size."""
        hands = 1 if self.how == "same" else self.count
        largest = pool // hands
        if largest == 0:
            raise ConfigError(
                f"a pool of {pool} examples is too small for {hands} shards of their own",
                key="task.shards",
                value=self.how,
                accepted=f"at most {pool} peers, or same",
            )
        each = self.wanted(largest, f"{hands} x {self.examples_per_peer} examples are more than the pool of {pool}")
        each = each or min(largest, default or largest)
        self.deals.append(Deal(pool, each, self.examples_per_peer))
        return each

    def wanted(self, largest: int, problem: str) -> int | None:
        """`examples_per_peer`, as far as `largest` allows; a ConfigError with this problem where it does not. None
        where the run names no number."""
        if self.examples_per_peer is None:
            return None
        if self.examples_per_peer > largest and not self.fewer:
            raise ConfigError(
                problem,
                key="task.examples_per_peer",
                value=self.examples_per_peer,
                accepted=f"1 to {largest}",
            )
        return min(self.examples_per_peer, largest)


def class_numbers(labels: Tensor) -> Indices:
    """The labels as class numbers [pool], refused unless they are whole numbers from 0 on."""
    if labels.ndim != 1 or labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise ConfigError(
            f"regression labels cannot be skewed: label_skew needs class numbers [examples], "
            f"these labels are {str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}",
            key="task.shards",
            value="label_skew",
            accepted="disjoint, same",
        )
    numbers = labels.cpu().to(torch.int64).numpy()
    if numbers.size and numbers.min() < 0:
        raise ConfigError(f"class numbers start at 0, found {numbers.min()}", key="task.shards", value="label_skew")
    return numbers


def main_classes(index: int, count: int, classes: int, classes_per_peer: int) -> list[int]:
    """The classes that most examples of peer `index` are of: neighbours on a circle, spread evenly over the peers."""
    first = index * classes // count
    return [(first + offset) % classes for offset in range(max(1, min(classes_per_peer, classes - 1)))]


def wanted_per_class(index: int, count: int, classes: int, share: int, skew: float, classes_per_peer: int) -> Indices:
    """The number of examples of each class [classes] that peer `index` should get: `skew` of its share spread evenly
    over its main classes, the rest evenly over the others."""
    main = main_classes(index, count, classes, classes_per_peer)
    others = [label for label in range(classes) if label not in main]
    from_main = round(skew * share) if others else share
    wanted = np.zeros(classes, dtype=np.int64)
    for members, total in ((main, from_main), (others, share - from_main)):
        for place, label in enumerate(members):
            wanted[label] = total // len(members) + (place < total % len(members))
    return wanted


@lru_cache(maxsize=4)
def _deal_skewed_once(
    labels: bytes, count: int, share: int, skew: float, classes_per_peer: int, seed: int
) -> list[Indices]:
    """`deal_skewed`, remembered: a simulation of a thousand peers asks a thousand times for one and the same deal."""
    return deal_skewed(np.frombuffer(labels, dtype=np.int64), count, share, skew, classes_per_peer, seed)


def deal_skewed(
    labels: Indices, count: int, share: int, skew: float, classes_per_peer: int, seed: int
) -> list[Indices]:
    """Disjoint shards of `share` examples each, skewed by label: one array of indices [share] per peer.

    A class that is wanted more often than there are examples of it is shared out in proportion to the demand. What a
    peer then lacks is filled with what is left: with its own main classes first, with any other afterwards.
    """
    order = frozen_random(seed).permutation(len(labels)).astype(np.int64)
    classes = int(labels.max()) + 1
    wanted = np.stack([wanted_per_class(i, count, classes, share, skew, classes_per_peer) for i in range(count)])
    parts: list[list[Indices]] = [[] for _ in range(count)]
    left_over = np.zeros(len(labels), dtype=bool)
    for label in range(classes):
        stack = order[labels[order] == label]
        demand = wanted[:, label]
        granted = demand if demand.sum() <= len(stack) else demand * len(stack) // demand.sum()
        ends = np.cumsum(granted)
        for peer, end in enumerate(ends):
            parts[peer].append(stack[end - granted[peer] : end])
        left_over[stack[int(ends[-1]) :]] = True
    for peer, part in enumerate(parts):
        missing = share - sum(len(piece) for piece in part)
        if missing:
            rest = order[left_over[order]]
            own = np.isin(labels[rest], main_classes(peer, count, classes, classes_per_peer))
            filling = np.concatenate([rest[own], rest[~own]])[:missing]
            left_over[filling] = False
            part.append(filling)
    return [np.concatenate(part) for part in parts]

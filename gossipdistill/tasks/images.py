"""Data sets of pictures: their split, the peers' parts, and from bytes to tensors, alike on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError
from gossipdistill.tasks.base import Task, accuracy
from gossipdistill.tasks.shards import Shard, frozen_random

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """A data set, parted once and for all; what all peers of one process share, read only."""

    images: Bytes
    """These are all training pictures [n, ...], as bytes: only a peer's own ones become floats."""
    floats: Callable[[Bytes], Tensor]
    """It turns bytes [rows, ...] into inputs [rows, planes, side, side]."""
    pool: npt.NDArray[np.int64]
    """The numbers [n - transfer] of the pictures that are dealt; the others are set aside."""
    labels: Tensor
    """These are the labels of the pool [n - transfer]."""
    transfer: Tensor
    """These are the inputs [transfer, planes, side, side] of the pictures that are set aside, without their labels."""
    validation: tuple[Tensor, Tensor]
    """These are inputs and labels of the publisher's test set."""

    @classmethod
    def parted(
        cls,
        training: tuple[Bytes, Bytes],
        test: tuple[Bytes, Bytes],
        floats: Callable[[Bytes], Tensor],
        transfer: int,
        seed: int,
    ) -> Pictures:
        """Part the training pictures by one permutation. Each set is (pictures [n, ...], labels [n])."""
        images, labels = training
        order = frozen_random(seed).permutation(len(labels)).astype(np.int64)
        pool, aside = order[:-transfer], order[-transfer:]
        validation = (floats(test[0]), class_labels(test[1]))
        return cls(images, floats, pool, class_labels(labels[pool]), floats(images[aside]), validation)

    def task(
        self,
        shard: Shard,
        model: Callable[[], nn.Module],
        classes: Sequence[str],
        examples_per_peer: int,
        transfer_examples: int,
    ) -> Task:
        """The classification task of one peer, with this number of labelled pictures unless the run says otherwise."""
        mine = shard.deal(self.labels, default=examples_per_peer)
        return Task(
            model=model,
            train=(self.floats(self.images[self.pool[mine.numpy()]]), self.labels[mine]),
            transfer=self.transfer[:transfer_examples] if transfer_examples else None,
            validation=self.validation,
            loss=nn.functional.cross_entropy,
            metrics={"accuracy": accuracy},
            classes=tuple(classes),
        )


def standardised(images: Bytes, white: int, mean: float, deviation: float) -> Tensor:
    """Grey images [n, side, side] of levels 0 to `white` as float32 [n, 1, side, side], minus mean over deviation.

    Args:
        white: the highest level.
        mean: mean of level / white over the data set.
        deviation: standard deviation of level / white over the data set.
    """
    # Each level is computed once, in float64 by NumPy: no processor's fused or vectorised arithmetic can then make
    # the bytes, and so the fingerprint of the transfer set, differ between two machines.
    levels = ((np.arange(white + 1) / white - mean) / deviation).astype(np.float32)
    return torch.from_numpy(levels[images]).unsqueeze(1)


def class_labels(labels: Bytes) -> Tensor:
    """Labels [n] as int64, the type that cross entropy takes."""
    return torch.from_numpy(labels.astype(np.int64))


def check_transfer(examples: int, largest: int) -> None:
    """Refuse a transfer set of a size that is not there."""
    if not 0 <= examples <= largest:
        raise ConfigError(
            f"{largest} unlabelled examples are set aside for transfer",
            key="task.transfer_examples",
            value=examples,
            accepted=f"0 to {largest}",
        )

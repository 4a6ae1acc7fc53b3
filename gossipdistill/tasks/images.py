"""From bytes of grey images to tensors, alike on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossipdistill.errors import ConfigError

Bytes = npt.NDArray[np.uint8]


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

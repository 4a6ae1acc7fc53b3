"""The data of the bed, each parted once and for all: what is dealt, what is exchanged on, what settings are chosen by,
and what is looked at once, at the end.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gossipdistill.errors import DataMissingError
from gossipdistill.tasks import Shard, Task, load_task
from gossipdistill.tasks.shards import frozen_random

TRANSFER, VALIDATION, TEST = 1_000, 2_000, 2_000
"""Rows of each part, where the data set has so many."""
LETTERS = " abcdefghijklmnopqrstuvwxyz"
CONTEXT = 8
"""Letters that are seen before the one that is to be said."""
ADULT_POOL, FASHION_POOL, DIGITS_POOL, CIFAR_POOL = 30_561, 58_000, 800, 48_000
"""Labelled examples of the ready-made tasks."""
STRIP, STRIPS, TEST_STRIPS = 500, 14, 4
"""CIFAR-10 as strips of so many pictures; so many strips are read of each part."""
_SEED = 20_130


class Data(NamedTuple):
    """Inputs and labels of each part; `transfer` has no labels."""

    pool: tuple[Tensor, Tensor]
    transfer: Tensor
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: tuple[str, ...]


def folder() -> Path | None:
    """Where data sets lie; None where the environment does not say."""
    return Path(os.environ["GOSSIPDISTILL_DATA"]) if "GOSSIPDISTILL_DATA" in os.environ else None


@lru_cache(maxsize=1)
def adult() -> Data:
    """The census records of the task `tabular`."""
    return _of_ready_made("tabular", ADULT_POOL)


@lru_cache(maxsize=1)
def fashion() -> Data:
    """The pictures of clothes of the task `fashion_mnist`."""
    return _of_ready_made("fashion_mnist", FASHION_POOL)


@lru_cache(maxsize=1)
def digits() -> Data:
    """The task `digits`, with grey levels 0 to 16 as they come, which nobody has scaled; of its 397 validation rows 150
    are to choose by, the others for the end."""
    task = _whole("digits", DIGITS_POOL)
    assert task.transfer is not None
    (pool, y), (held_out, labels), chosen = task.train, task.validation, 150
    levels = [((x * 0.3760 + 0.3053) * 16).round() for x in (pool, task.transfer, held_out)]
    validation, test = (levels[2][:chosen], labels[:chosen]), (levels[2][chosen:], labels[chosen:])
    return Data((levels[0], y), levels[1], validation, test, _names(task))


@lru_cache(maxsize=1)
def cifar10() -> Data:
    """CIFAR-10, from lossless strips of 500 pictures where the data folder has them, else as the task `cifar10` has it.
    Inputs [rows, 3, 32, 32], standardised by colour."""
    place = (folder() or Path()) / "cifar10"
    if not (place / "train_labels.npy").is_file():
        return _of_ready_made("cifar10", CIFAR_POOL)
    from PIL import Image  # with matplotlib; only here

    def part(name: str, strips: int) -> tuple[Tensor, Tensor]:
        pictures = [np.asarray(Image.open(place / f"{name}_{strip:03d}.webp")) for strip in range(strips)]
        x = np.concatenate(pictures).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
        mean, deviation = (np.array(v).reshape(3, 1, 1) for v in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
        labels = np.load(place / f"{name}_labels.npy", allow_pickle=False)[: STRIP * strips]
        return torch.from_numpy(((x / 255 - mean) / deviation).astype(np.float32)), torch.from_numpy(labels).long()

    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    return _parted(*part("train", STRIPS), part("test", TEST_STRIPS), names)


@lru_cache(maxsize=1)
def synthetic() -> Data:
    """Points [rows, 20] of a normal distribution, and labels of 6 classes that a small network with random weights
    draws by its own probabilities: no student can be right always."""
    draw, inputs, inner, classes = frozen_random(_SEED), 20, 32, 6
    first, second = draw.normal(size=(inputs, inner)) / inputs**0.5, draw.normal(size=(inner, classes)) / inner**0.5
    x = draw.normal(size=(4_000 + TRANSFER + VALIDATION + TEST, inputs))
    logits = 12.0 * np.tanh(2.0 * x @ first) @ second
    y = (logits + draw.gumbel(size=logits.shape)).argmax(1)
    rows, labels = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.int64))
    names = tuple(f"class {number}" for number in range(classes))
    return _parted(rows[:-TEST], labels[:-TEST], (rows[-TEST:], labels[-TEST:]), names)


@lru_cache(maxsize=1)
def text() -> Data:
    """Which letter comes next in Tiny Shakespeare? Inputs [rows, 8] are numbers of letters, all else being a space; a
    row begins at every 16th letter. The last tenth of the text is the test part."""
    path = (folder() or Path()) / "tinyshakespeare" / "input.txt"
    if not path.is_file():
        raise DataMissingError(f"{path}: is missing; set GOSSIPDISTILL_DATA to a folder with tinyshakespeare/input.txt")
    words = " ".join("".join(c if c in LETTERS else " " for c in path.read_text("utf-8").lower()).split())
    numbers = torch.tensor([LETTERS.index(letter) for letter in words])
    windows = numbers.unfold(0, CONTEXT + 1, 2 * CONTEXT)
    x, y = windows[:, :-1].contiguous(), windows[:, -1].contiguous()
    end = len(x) * 9 // 10
    return _parted(x[:end], y[:end], (x[end:], y[end:]), tuple(LETTERS))


def _of_ready_made(name: str, pool: int) -> Data:
    task = _whole(name, pool)
    return _parted(*task.train, task.validation, _names(task))


def _whole(name: str, pool: int) -> Task:
    """A ready-made task with all its labelled examples."""
    return load_task(name, Shard(0, 1, examples_per_peer=pool, data_dir=folder()), {})


def _names(task: Task) -> tuple[str, ...]:
    assert task.classes is not None
    return task.classes


def _parted(x: Tensor, y: Tensor, test: tuple[Tensor, Tensor], names: tuple[str, ...]) -> Data:
    """Training rows by one permutation: transfer, validation, and the pool. Of the test rows, a random part."""
    order = torch.from_numpy(frozen_random(_SEED).permutation(len(y)).astype(np.int64))
    aside, chosen, pool = order[:TRANSFER], order[TRANSFER : TRANSFER + VALIDATION], order[TRANSFER + VALIDATION :]
    last = torch.from_numpy(frozen_random(_SEED).permutation(len(test[1]))[:TEST].astype(np.int64))
    return Data((x[pool], y[pool]), x[aside], (x[chosen], y[chosen]), (test[0][last], test[1][last]), names)


class NextLetter(nn.Module):
    """Letters [rows, 8] to logits [rows, 27]: each letter's own 16 numbers, and one hidden layer. 10,443 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), 16)
        self.layers = nn.Sequential(nn.Linear(16 * CONTEXT, 64), nn.ReLU(), nn.Linear(64, len(LETTERS)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next letter."""
        out: Tensor = self.layers(self.letters(x).flatten(1))
        return out

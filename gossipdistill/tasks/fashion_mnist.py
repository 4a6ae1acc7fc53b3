"""The task `fashion_mnist`: 70,000 pictures of clothes; found in the data folder or downloaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gossipdistill.tasks.base import About, Task
from gossipdistill.tasks.fetch import locate
from gossipdistill.tasks.idx import read_idx
from gossipdistill.tasks.images import Pictures, check_transfer, standardised
from gossipdistill.tasks.models import image_model
from gossipdistill.tasks.shards import Shard


class IdxFile(NamedTuple):
    """One file of the data set: its name, what is in it, and the digest of its uncompressed content."""

    name: str
    shape: tuple[int, ...]
    sha256: str


FOLDER = "fashion-mnist"
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
TRAIN_COUNT, TEST_COUNT = 60_000, 10_000
FILES = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        (TRAIN_COUNT, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        (TRAIN_COUNT,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        (TEST_COUNT, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        (TEST_COUNT,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)
TRANSFER = 2_000
"""This number of training pictures is set aside, without labels, to exchange predictions on; the others are dealt."""
EXAMPLES_PER_PEER = 500
SPLIT_SEED = 2017
"""The permutation that separates pool and transfer set has this seed, not that of the run, so that runs can be
compared."""
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
ABOUT = About(
    origin="Fashion-MNIST, Zalando Research 2017, github.com/zalandoresearch/fashion-mnist",
    licence="MIT",
    sizes=f"{TRAIN_COUNT - TRANSFER:,} labelled examples to deal, {TRANSFER:,} unlabelled for transfer, "
    f"{TEST_COUNT:,} for validation (the publisher's test set); 28 x 28 pixels, 256 grey levels, 10 classes",
    folder=FOLDER,
    url=URL,
)


def task(
    shard: Shard,
    model: Annotated[str, "The model: mlp (118,282 parameters) or cnn (103,018 parameters)."] = "mlp",
    hidden: Annotated[tuple[int, ...] | None, "The widths of the hidden layers. None: the model's own."] = None,
    transfer_examples: Annotated[
        int, "The number of unlabelled pictures on which predictions are exchanged."
    ] = TRANSFER,
) -> Task:
    """Pictures of clothes of 28 x 28 pixels; from the data folder, or downloaded (30 MB).

    Inputs [rows, 1, 28, 28], standardised; outputs are logits [rows, 10]. Each peer has 500 labelled pictures unless
    `task.examples_per_peer` says otherwise.
    """
    check_transfer(transfer_examples, TRANSFER)
    network = image_model(model, 28, len(CLASSES), hidden)
    return read(shard.data_dir).task(shard, network, CLASSES, EXAMPLES_PER_PEER, transfer_examples)


@lru_cache(maxsize=1)
def read(data_dir: Path | None) -> Pictures:
    """All images and labels; they are kept for the other peers of this process."""
    paths = locate(FOLDER, [file.name for file in FILES], URL, data_dir)
    images, labels, test_images, test_labels = (
        read_idx(path, file.shape, file.sha256) for path, file in zip(paths, FILES, strict=True)
    )
    return Pictures.parted((images, labels), (test_images, test_labels), _floats, TRANSFER, SPLIT_SEED)


def _floats(images: npt.NDArray[np.uint8]) -> Tensor:
    return standardised(images, white=255, mean=0.2860, deviation=0.3530)

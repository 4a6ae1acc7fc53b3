"""The task `cifar10`: 60,000 small colour pictures of ten kinds of things; found in the data folder or downloaded."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossipdistill.errors import DataMissingError
from gossipdistill.printable import printable
from gossipdistill.tasks.base import About, Task
from gossipdistill.tasks.content import check_digest, replace_it
from gossipdistill.tasks.fetch import locate
from gossipdistill.tasks.images import Pictures, check_transfer
from gossipdistill.tasks.models import image_model
from gossipdistill.tasks.shards import Shard

FOLDER = "cifar10"
URL = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = "cifar-10-binary.tar.gz"
MEMBERS = {
    "cifar-10-batches-bin/data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "cifar-10-batches-bin/data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "cifar-10-batches-bin/data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "cifar-10-batches-bin/data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "cifar-10-batches-bin/data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "cifar-10-batches-bin/test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""This maps a member of the archive to its SHA-256; the last member is the publisher's test set. The archive is read
without being unpacked. The publisher's other archive, which is pickled, is never read."""
SIDE, PLANES = 32, 3
RECORD_BYTES = 1 + PLANES * SIDE * SIDE
"""One record is the label, then the red, green and blue planes, row by row."""
_MEMBER_BYTES_MAX = 64 * 1024**2
"""A member has at most this size (bytes), twice that of the largest file of the archive; one may claim to hold far
more."""
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError, struct.error)
"""Reading a damaged archive raises one of these."""
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""These are the mean and the standard deviation of red, green and blue over the training pictures, white being 1."""
TRANSFER = 2_000
"""This number of training pictures is set aside, without labels, to exchange predictions on; the others are dealt."""
EXAMPLES_PER_PEER = 1_000
SPLIT_SEED = 2009
"""The permutation that separates pool and transfer set has this seed, not that of the run, so that runs can be
compared."""
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ABOUT = About(
    origin="CIFAR-10, A. Krizhevsky 2009, www.cs.toronto.edu/~kriz/cifar.html (binary version)",
    licence="none stated by its makers; for research",
    sizes="48,000 labelled examples to deal, 2,000 unlabelled for transfer, 10,000 for validation (the publisher's "
    "test set); 32 x 32 pixels, three colours of 256 levels, 10 classes",
    folder=FOLDER,
    url=URL,
)


def task(
    shard: Shard,
    model: Annotated[str, "The model: mlp (411,146 parameters) or cnn (409,402 parameters)."] = "cnn",
    hidden: Annotated[tuple[int, ...] | None, "The widths of the hidden layers. None: the model's own."] = None,
    transfer_examples: Annotated[
        int, "The number of unlabelled pictures on which predictions are exchanged."
    ] = TRANSFER,
) -> Task:
    """Colour pictures of 32 x 32 pixels; from the data folder, or downloaded (170 MB).

    Inputs [rows, 3, 32, 32], standardised by colour; outputs are logits [rows, 10]. Each peer has 1,000 labelled
    pictures unless `task.examples_per_peer` says otherwise.
    """
    check_transfer(transfer_examples, TRANSFER)
    network = image_model(model, SIDE, len(CLASSES), hidden, PLANES)
    return read(shard.data_dir).task(shard, network, CLASSES, EXAMPLES_PER_PEER, transfer_examples)


@lru_cache(maxsize=1)
def read(data_dir: Path | None) -> Pictures:
    """All images and labels; they are kept for the other peers of this process."""
    (path,) = locate(FOLDER, [ARCHIVE], URL, data_dir)
    *batches, test = (_records(content, path) for content in _members(path))
    return Pictures.parted(_parts(np.concatenate(batches)), _parts(test), _floats, TRANSFER, SPLIT_SEED)


def _members(path: Path) -> list[bytes]:
    """The contents of the archive's six files, checked; nothing is unpacked to disk."""
    found = []
    try:
        with tarfile.open(path) as archive:
            for name, sha256 in MEMBERS.items():
                entry = archive.getmember(name)
                member = archive.extractfile(entry) if entry.isreg() else None  # a link may lead to itself
                if member is None:
                    raise KeyError(name)
                content = member.read(_MEMBER_BYTES_MAX)
                check_digest(content, sha256, path, name)
                found.append(content)
    except KeyError:
        raise DataMissingError(f"{path}: holds no file {name!r}; {replace_it(path)}") from None
    except _DAMAGED as error:
        reason = printable(" ".join(str(error).split())[:160])
        raise DataMissingError(f"{path}: damaged or cut off ({reason}); {replace_it(path)}") from None
    return found


def _records(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    if not content or len(content) % RECORD_BYTES:
        problem = f"{len(content)} bytes are no whole records of {RECORD_BYTES}"
        raise DataMissingError(f"{path}: {problem}; {replace_it(path)}")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, RECORD_BYTES)


def _parts(records: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Pictures [n, 3, 32, 32] and labels [n]."""
    return records[:, 1:].reshape(-1, PLANES, SIDE, SIDE), records[:, 0]


def _floats(images: npt.NDArray[np.uint8]) -> Tensor:
    """Bytes [n, 3, 32, 32] as float32, each colour minus its mean over its deviation."""
    # From a table of the 256 levels, for the reason that images.standardised gives.
    levels = np.arange(256) / 255
    floats = np.empty(images.shape, dtype=np.float32)
    for plane, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True)):
        floats[:, plane] = ((levels - mean) / deviation).astype(np.float32)[images[:, plane]]
    return torch.from_numpy(floats)

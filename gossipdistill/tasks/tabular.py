"""The task `tabular`: who earns more than $50,000? 48,842 records of a census, numbers and categories mixed."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError, DataMissingError
from gossipdistill.tasks.base import About, Task, accuracy
from gossipdistill.tasks.content import check_digest, read_whole, replace_it
from gossipdistill.tasks.fetch import locate
from gossipdistill.tasks.images import check_transfer
from gossipdistill.tasks.models import mlp
from gossipdistill.tasks.shards import Shard, frozen_random

FOLDER = "adult"
URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/"
FILES = {
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}
"""This maps the name of a file to the SHA-256 of its uncompressed content."""
NUMERIC = (0, 2, 4, 10, 11, 12)
"""These columns hold numbers; all others but the last, which is the label, hold categories."""
HEAVY_TAILED = (2, 10, 11)
"""These are sampling weight, gains and losses of capital: their logarithm (of 1 + x) is used."""
COLUMNS = 15
_BYTES_MAX = 64 * 1024**2
"""A file has at most this size (bytes); the publisher's have 4 MB at most."""
TRANSFER = 2_000
"""This number of training records is set aside, without labels, to exchange predictions on; the others are dealt."""
EXAMPLES_PER_PEER = 500
SPLIT_SEED = 1996
"""The permutation that separates pool and transfer set has this seed, not that of the run, so that runs can be
compared."""
CLASSES = ("<=50K", ">50K")
ABOUT = About(
    origin="Adult, B. Becker and R. Kohavi 1996, UCI Machine Learning Repository, doi.org/10.24432/C5XW20",
    licence="CC BY 4.0",
    sizes="30,561 labelled records to deal, 2,000 unlabelled for transfer, 16,281 for validation (the publisher's test "
    "file); 6 numbers and 8 categories, 24 % earn more than $50,000",
    folder=FOLDER,
    url=URL,
)


def task(
    shard: Shard,
    hidden: Annotated[tuple[int, ...], "The widths of the hidden layers. Empty: logistic regression."] = (64, 64),
    transfer_examples: Annotated[int, "The number of unlabelled records to exchange predictions on."] = TRANSFER,
) -> Task:
    """Census records, numbers and categories mixed; from the data folder, or downloaded (6 MB).

    Inputs [rows, 108]: numbers standardised, one entry for each category (unknown is one of its own); outputs are
    logits [rows, 2]. Each peer has 500 labelled records unless `task.examples_per_peer` says otherwise.
    """
    check_transfer(transfer_examples, TRANSFER)
    if min(hidden, default=1) < 1:
        raise ConfigError("a layer needs a width of at least 1", key="task.hidden", value=hidden)
    data = read(shard.data_dir)
    mine = shard.deal(data.labels, default=EXAMPLES_PER_PEER)
    width = data.inputs.shape[1]
    return Task(
        model=lambda: mlp(width, len(CLASSES), hidden),
        train=(data.inputs[mine], data.labels[mine]),
        transfer=data.transfer[:transfer_examples] if transfer_examples else None,
        validation=data.validation,
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
        classes=CLASSES,
    )


class _Data(NamedTuple):
    """The data that all peers of one process share; read only."""

    inputs: Tensor
    """These are the inputs of the pool [30561, entries]."""
    labels: Tensor
    transfer: Tensor
    """These are the inputs of the transfer set [2000, entries]."""
    validation: tuple[Tensor, Tensor]


Records = list[list[str]]


@lru_cache(maxsize=1)
def read(data_dir: Path | None) -> _Data:
    """All records; they are kept for the other peers of this process."""
    paths = locate(FOLDER, list(FILES), URL, data_dir)
    training, test = (read_records(path, digest) for path, digest in zip(paths, FILES.values(), strict=True))
    x, test_x = _encoded(training, test)
    y, test_y = (torch.tensor([record[-1].startswith(">") for record in part]).long() for part in (training, test))
    order = torch.from_numpy(frozen_random(SPLIT_SEED).permutation(len(y)).astype(np.int64))
    pool, aside = order[:-TRANSFER], order[-TRANSFER:]
    return _Data(x[pool], y[pool], x[aside], (test_x, test_y))


def read_records(path: Path, sha256: str) -> Records:
    """The fields of each record of a file; comments (beginning with |) and empty lines are passed over.

    Raises:
        DataMissingError: when the file has another digest, or a record another number of fields.
    """
    content = read_whole(path, _BYTES_MAX)
    check_digest(content, sha256, path)
    lines = content.decode("ascii", errors="replace").splitlines()
    records = [[entry.strip() for entry in line.split(",")] for line in lines if line.strip() and line[0] != "|"]
    for number, record in enumerate(records, start=1):
        if len(record) != COLUMNS:
            problem = f"record {number} has {len(record)} fields, expected {COLUMNS}"
            raise DataMissingError(f"{path}: {problem}; {replace_it(path)}")
    return records


def _encoded(training: Records, test: Records) -> tuple[Tensor, Tensor]:
    """Both parts as float32 [records, entries]; all constants and categories come from the training part."""
    columns: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
    for column in range(COLUMNS - 1):
        known, new = ([record[column] for record in part] for part in (training, test))
        if column in NUMERIC:
            logarithm = column in HEAVY_TAILED
            columns.append(_standardised(_numbers(known, logarithm), _numbers(new, logarithm)))
        else:
            categories = np.array(sorted(set(known)))
            one, other = (np.array(words)[:, None] == categories for words in (known, new))
            columns.append((one.astype(np.float32), other.astype(np.float32)))
    first, second = (torch.from_numpy(np.concatenate(part, axis=1)) for part in zip(*columns, strict=True))
    return first, second


def _numbers(words: list[str], logarithm: bool) -> list[float]:
    # Three decimals of a logarithm are the same on every machine, its last bit need not be.
    values = [float(word) for word in words]
    return [round(math.log1p(value), 3) for value in values] if logarithm else values


def _standardised(known: list[float], new: list[float]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    # math.fsum is exact, so mean and deviation do not depend on the order of summation, or on the processor.
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / len(known)) or 1.0
    one, other = (((np.array(part) - mean) / deviation).astype(np.float32)[:, None] for part in (known, new))
    return one, other

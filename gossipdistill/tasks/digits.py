"""The task `digits`: 1,797 small handwritten digits that come with the package."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
from torch import Tensor, nn

from gossipdistill.errors import DataMissingError
from gossipdistill.printable import printable
from gossipdistill.tasks.base import About, Task, accuracy
from gossipdistill.tasks.images import check_transfer, class_labels, standardised
from gossipdistill.tasks.models import image_model
from gossipdistill.tasks.shards import Shard, frozen_random

FILE = Path(__file__).with_name("data") / "digits.npz"
POOL, TRANSFER = 800, 600
"""These are the numbers of labelled examples to deal, and of unlabelled ones to exchange predictions on; the other 397
are for validation."""
EXAMPLES_PER_PEER = 100
SPLIT_SEED = 1998
"""The permutation that separates pool, transfer set and validation set has this seed, not that of the run, so that runs
can be compared."""
CLASSES = tuple("0123456789")
ABOUT = About(
    origin="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak 1998, UCI Machine Learning "
    "Repository, doi.org/10.24432/C50P49: its test part, as scikit-learn distributes it",
    licence="CC BY 4.0",
    sizes=f"{POOL} labelled examples to deal, {TRANSFER} unlabelled for transfer, 397 for validation; "
    "8 x 8 pixels, 17 grey levels, 10 classes",
)


def task(
    shard: Shard,
    model: Annotated[str, "The model: mlp (8,970 parameters) or cnn (9,050 parameters)."] = "mlp",
    hidden: Annotated[tuple[int, ...] | None, "The widths of the hidden layers. None: the model's own."] = None,
    transfer_examples: Annotated[int, "The number of unlabelled digits on which predictions are exchanged."] = TRANSFER,
) -> Task:
    """Handwritten digits of 8 x 8 pixels; comes with the package.

    Inputs [rows, 1, 8, 8], standardised; outputs are logits [rows, 10]. Each peer has 100 labelled digits unless
    `task.examples_per_peer` says otherwise.
    """
    check_transfer(transfer_examples, TRANSFER)
    x, y = _split()
    mine = shard.deal(y[:POOL], default=EXAMPLES_PER_PEER)
    return Task(
        model=image_model(model, 8, len(CLASSES), hidden),
        train=(x[mine], y[mine]),
        transfer=x[POOL : POOL + transfer_examples] if transfer_examples else None,
        validation=(x[POOL + TRANSFER :], y[POOL + TRANSFER :]),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
        classes=CLASSES,
    )


@lru_cache(maxsize=1)
def _split() -> tuple[Tensor, Tensor]:
    """All digits [1797, 1, 8, 8] and labels [1797]: the pool, then transfer, then validation. Read only: the tasks of
    one process share it."""
    try:
        with np.load(FILE, allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
    except Exception as error:  # a zip file, arrays in it: either has many ways to be damaged
        reason = printable(f"{type(error).__name__}: {error}")
        raise DataMissingError(f"{FILE}: is damaged ({reason}); please reinstall gossipdistill") from None
    order = frozen_random(SPLIT_SEED).permutation(len(labels))
    return standardised(images[order], white=16, mean=0.3053, deviation=0.3760), class_labels(labels[order])

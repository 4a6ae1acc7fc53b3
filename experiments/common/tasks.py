"""Tasks in which the union of what all peers see is one pool, whatever their number: `task.name` is
`experiments.common.tasks:adult`, `:fashion` or `:cifar`.

Each seed draws a pool of its own, which is dealt to the peers: `disjoint` divides it among them, `same` gives all of it
to everybody. The validation data are held out of the training part with `part = "validation"`, to choose settings by,
and are the publisher's test part with `part = "test"`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

from torch import Tensor, nn

from experiments.common import data
from gossipdistill.tasks import Shard, Task, accuracy, load_task
from gossipdistill.tasks.models import cnn, mlp

Part = Literal["validation", "test"]
PoolOption = Annotated[int, "The number of labelled examples of all peers together."]
SeedOption = Annotated[int | None, "What draws and deals the pool. None: the run's seed."]
TransferOption = Annotated[int, "The number of unlabelled inputs on which predictions are exchanged."]
HiddenOption = Annotated[tuple[int, ...], "The widths of the hidden layers."]
CHANNELS = (8, 16)
"""Of the two convolutions."""


@dataclass(frozen=True)
class Dealt:
    """The options that all these tasks share."""

    part: Part
    pool: int
    data_seed: int | None
    transfer: int

    def task(self, shard: Shard, found: data.Data, test: tuple[Tensor, Tensor], model: Callable[[], nn.Module]) -> Task:
        """The task of one peer."""
        each = self.pool if shard.how == "same" else self.pool // shard.count
        seed = shard.seed if self.data_seed is None else self.data_seed
        x, y = found.pool
        mine = replace(shard, examples_per_peer=each, seed=seed).deal(y)
        return Task(
            model=model,
            train=(x[mine], y[mine]),
            transfer=found.transfer[: self.transfer] if self.transfer else None,
            validation=found.validation if self.part == "validation" else test,
            loss=nn.functional.cross_entropy,
            metrics={"accuracy": accuracy},
            classes=found.classes,
        )


def adult(
    shard: Shard,
    part: Part = "validation",
    pool: PoolOption = 2_000,
    data_seed: SeedOption = None,
    transfer_examples: TransferOption = 500,
    hidden: HiddenOption = (32, 32),
) -> Task:
    """Records of a census [rows, 108], two classes; 4,610 parameters."""
    dealt = Dealt(part, pool, data_seed, transfer_examples)
    return dealt.task(shard, data.adult(), _test_part("tabular"), lambda: mlp(108, 2, hidden))


def fashion(
    shard: Shard,
    part: Part = "validation",
    pool: PoolOption = 2_000,
    data_seed: SeedOption = None,
    transfer_examples: TransferOption = 500,
    hidden: HiddenOption = (32, 32),
) -> Task:
    """Grey pictures [rows, 1, 28, 28], ten classes; 26,506 parameters."""
    dealt = Dealt(part, pool, data_seed, transfer_examples)
    return dealt.task(shard, data.fashion(), _test_part("fashion_mnist"), lambda: mlp(784, 10, hidden))


def cifar(
    shard: Shard,
    part: Part = "validation",
    pool: PoolOption = 2_000,
    data_seed: SeedOption = None,
    transfer_examples: TransferOption = 500,
    side: Annotated[int, "Pixels a side: 32, or 16 or 8, which are means of several."] = 16,
) -> Task:
    """Colour pictures [rows, 3, side, side], ten classes; 3,962 parameters with 16 pixels a side."""
    dealt, found = Dealt(part, pool, data_seed, transfer_examples), _cifar(side)
    return dealt.task(shard, found, found.test, lambda: cnn(side, 10, (), CHANNELS, planes=3))


@lru_cache(maxsize=2)
def _test_part(name: str) -> tuple[Tensor, Tensor]:
    """All of the publisher's test part, of a ready-made task."""
    return load_task(name, Shard(0, 1, examples_per_peer=1, data_dir=data.folder()), {}).validation


@lru_cache(maxsize=1)
def _cifar(side: int) -> data.Data:
    """The pictures in smaller."""
    found = data.cifar10()

    def smaller(x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(x, 32 // side)

    return found._replace(
        pool=(smaller(found.pool[0]), found.pool[1]),
        transfer=smaller(found.transfer),
        validation=(smaller(found.validation[0]), found.validation[1]),
        test=(smaller(found.test[0]), found.test[1]),
    )

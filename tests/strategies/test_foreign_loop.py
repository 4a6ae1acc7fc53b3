"""The gossip half in a training loop that is not ours: no task, no batches and no gradient rules of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import STRATEGIES, Strategy
from gossipdistill.topology import load_topology
from gossipdistill.training.gossip import Gossip
from gossipdistill.training.worker import Worker

from .world import CLASSES, NAMES, World, make_strategy, make_task, make_worker

OURS_ALONE = ("all_reduce", "concurrent_adversarial", "leader_sgd", "isolated", "self_distillation")
"""These ask for more of a loop than a batch at a time, or exchange nothing."""


class ForeignLoop:
    """What somebody has already: a model, an optimizer, batches, a loss. Four lines of it are for the gossip half."""

    def __init__(self, name: str, strategy: Strategy, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        torch.manual_seed(1000 * strategy.start_of(name, NAMES.index(name), len(NAMES)))
        self.model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.batches, transfer = batches, make_task(0).transfer
        self.learner = Learner(
            name,
            NAMES.index(name),
            NAMES,
            self.model,
            self.optimizer,
            torch.device("cpu"),
            0,
            transfer=transfer,
            transfer_draws=Draws(100, 32, NAMES.index(name)),
            classes=CLASSES,
            count=len(NAMES),
        )
        self.gossip = Gossip.of(
            self.learner, strategy, load_topology("complete", NAMES), Mailbox(), Cadence(1, 0.0), strict=True
        )

    def step(self, now: float) -> None:
        self.gossip.begin_step(now)
        x, y = next(self.batches)
        self.optimizer.zero_grad()
        outputs = self.model(x)
        loss = nn.functional.cross_entropy(outputs, y)
        self.learner.x, self.learner.y, self.learner.outputs = x, y, outputs
        self.learner.task_loss = loss.item()
        term = self.gossip.loss()
        if term.value is not None:
            loss = term.task_share * loss + term.value
        loss.backward()
        self.gossip.adjust()
        if not self.gossip.strategy.owns_step:
            self.optimizer.step()
        self.gossip.end_step(now)


def batches_of(worker: Worker) -> Iterator[tuple[Tensor, Tensor]]:
    assert worker.learner.examples is not None
    x, y = worker.learner.examples
    for step in range(1000):
        rows = worker.draws.at(step)
        yield x[rows], y[rows]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in OURS_ALONE])
def test_a_loop_of_the_users_own_comes_to_the_same_weights(strategy: str) -> None:
    ours = World({name: make_worker(name, make_strategy(strategy)) for name in NAMES})
    loops = {name: ForeignLoop(name, make_strategy(strategy), batches_of(ours.workers[name])) for name in NAMES}
    theirs = World(cast(dict[str, Worker], loops))
    for step in range(12):
        ours.step(0.1 * step)
        theirs.step(0.1 * step)
    exchanges = [loop.learner.ledger.exchanges for loop in loops.values()]
    assert exchanges == [worker.learner.ledger.exchanges for worker in ours.workers.values()]
    assert min(exchanges) > 0
    for name, loop in loops.items():
        for mine, own in zip(loop.model.parameters(), ours.workers[name].learner.model.parameters(), strict=True):
            torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-6)

"""Two peers with bfloat16 parameters that only average come together at the mean of what they began with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.common.quadratic import PLAIN
from gossipdistill.assembly.worker import Given, build_worker
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import STRATEGIES, Delivery
from gossipdistill.tasks import Task
from gossipdistill.training.worker import Worker

from .world import World, make_strategy

ENTRIES = 2000
AVERAGING = ("gossip_averaging", "sgp", "osgp", "async_gradient_push", "adpsgd", "dpsgd", "dmsgd")


class Constants(nn.Module):
    """A vector, and a loss that no gradient comes of."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.full((ENTRIES,), value, dtype=torch.bfloat16))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * 0.0 * self.x.float().sum()


def worker(name: str, place: int, value: float) -> Worker:
    strategy, names = make_strategy(name), ("ada", "bo")
    x = torch.ones(2, 1)
    task = Task(model=lambda: Constants(value), train=(x, x), validation=(x, x), loss=lambda out, y: out.sum())
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    given = Given(strategy, None, task, model, optimizer)
    return build_worker(WorkerSpec.in_process(names[place], names, PLAIN), Mailbox(), given, strict=True)


@pytest.mark.parametrize("name", AVERAGING)
def test_peers_that_are_a_few_numbers_apart_meet_at_the_mean(name: str) -> None:
    ulp = 2.0**-7
    world = World({peer: worker(name, place, 1.0 + 3 * ulp * place) for place, peer in enumerate(("ada", "bo"))})
    for step in range(60):
        world.step(0.1 * step)
    points = [one.learner.model.x.detach().float() for one in world.workers.values()]
    mean = torch.stack(points).mean(dim=0)
    assert float((points[0] - points[1]).abs().max()) <= 2 * ulp
    # Mass is exact, and each model the number next to it; what is mixed in place is as near as the mean of its entries.
    within = 0.6 if STRATEGIES[name].delivery is Delivery.MASS else 0.1
    assert float(mean.mean()) == pytest.approx(1.0 + 1.5 * ulp, abs=within * ulp)

"""Constants that are not finite: weights are exchanged all the same, and a warning names what each peer keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.strategies.world import NAMES, World, make_strategy, make_worker

WEIGHTS = (
    "gossip_averaging",
    "codistill_checkpoints",
    "codistill_groups",
    "leader_sgd",
    "sgp",
    "osgp",
    "adpsgd",
    "async_gradient_push",
    "dpsgd",
    "dmsgd",
    "decentlam",
    "concurrent_adversarial",
)


class Masked(nn.Module):
    def __init__(self, net: nn.Module, place: int) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mask", torch.triu(torch.full((3, 3), -math.inf), 1) + place)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits


def masked_world(strategy: str) -> World:
    workers = {name: make_worker(name, make_strategy(strategy)) for name in NAMES}
    for place, worker in enumerate(workers.values()):
        worker.learner.model = Masked(worker.learner.model, place)
        worker.gossip.state = worker.gossip.strategy.init(worker.learner)
    return World(workers)


@pytest.mark.parametrize("strategy", WEIGHTS)
def test_a_constant_that_is_not_finite_stops_nobody(strategy: str) -> None:
    world = masked_world(strategy)
    for step in range(8):
        world.step(0.1 * step)
    for place, worker in enumerate(world.workers.values()):
        ledger = worker.learner.ledger
        assert ledger.exchanges > 0
        assert not ledger.quarantined
        assert ledger.warnings == [
            "not shared, so each peer keeps its own: mask (it is not finite before the first step)"
        ]
        assert float(worker.learner.model.mask[1, 0]) == place  # type: ignore[index]


@pytest.mark.parametrize("strategy", [name for name in WEIGHTS if name != "concurrent_adversarial"])
def test_weights_that_diverge_are_not_published_and_the_warning_names_them(strategy: str) -> None:
    world = masked_world(strategy)
    world.step(0.0)
    ada = world.workers["ada"]
    with torch.no_grad():
        ada.learner.model.net[2].bias[1] = math.nan  # type: ignore[index]
    world.step(5.0)  # so late that whoever has not answered is asked again
    before = sum(sender == "ada" for sender, _ in world.posted)
    world.step(10.0)
    assert sum(sender == "ada" for sender, _ in world.posted) == before
    assert any("net.2.bias" in warning or "net.0" in warning for warning in ada.learner.ledger.warnings)

"""Claims about memories of critical gradients that a small machine can show."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossipdistill.learning.learner import Draws
from gossipdistill.optimizers import SGD_C
from gossipdistill.tasks import Shard, load_task

TARGET = 0.4


def steps_to_target(seed: int, **options: object) -> int:
    """Steps of batches of 8 until softmax regression on 800 digits has a loss of at most `TARGET`."""
    x, y = load_task("digits", Shard(0, 1, examples_per_peer=800), {"hidden": ()}).train
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = SGD_C(model.parameters(), lr=0.02, **options)  # type: ignore[arg-type]
    draws = Draws(len(x), 8, seed)
    for step in range(1000):
        optimizer.zero_grad()
        rows = draws.at(step)
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        with torch.no_grad():
            if nn.functional.cross_entropy(model(x), y).item() <= TARGET:
                return step + 1
    raise AssertionError(f"seed {seed}: not below {TARGET} in 1,000 steps")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_memory_saves_steps_at_the_same_rate(seed: int) -> None:
    """McRae et al. 2021 (2106.10708): fewer steps to a loss than SGD. The sum of two gradients makes a step about twice
    as long, so about half as many are needed, whichever gradients are remembered."""
    plain = steps_to_target(seed, topc=0)
    for remembered in ({}, {"keep": "newest"}):
        assert 0.4 * plain < steps_to_target(seed, **remembered) < 0.6 * plain

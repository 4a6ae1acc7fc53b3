"""Claims about push-sum and its relatives that a small machine can show. Each test names its paper and section."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gossipdistill.topology import load_topology, uniform_column

from .test_papers import LR, MOMENTUM, ONE_WAY, peers, points, world_of
from .world import DIMENSIONS, centres


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_osgp_equals_its_textbook_form(momentum: float, tmp_path: Path) -> None:
    """Assran et al. 2019 (1811.10792), algorithm 2 with tau = 1: shares travel while the gradient at z is computed, and
    are there for the next one:

    u <- m u + (x / w - c);   x <- P x - lr u;   w <- P w
    """
    topology = tmp_path / "one-way.toml"
    topology.write_text(ONE_WAY)
    world = world_of("osgp", 5, topology, LR, momentum)
    mixing = uniform_column(load_topology(str(topology), peers(5)), 0)
    goal, x, w, u = centres(5), np.zeros((5, DIMENSIONS)), np.ones(5), np.zeros((5, DIMENSIONS))
    for step in range(60):
        u = momentum * u + (x / w[:, None] - goal)
        x, w = mixing @ x - LR * u, mixing @ w
        world.step(float(step))
    for worker in world.workers.values():
        worker.finish(60.0)
    assert w.min() < 0.7, "the weights should have moved away from 1"
    np.testing.assert_allclose(points(world), x / w[:, None], atol=1e-6, rtol=0)

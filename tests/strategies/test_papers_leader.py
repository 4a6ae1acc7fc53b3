"""Claims about Leader SGD. Each test names its paper and section."""

from __future__ import annotations

import numpy as np
import torch

from .test_papers import points, world_of
from .world import DIMENSIONS, World, learn_from, place_at


def scattered(lr: float = 0.0) -> World:
    """Four peers with one goal, the origin, at distances 1 to 4 from it."""
    world = world_of("leader_sgd", 4, "complete", lr)
    for place, worker in enumerate(world.workers.values()):
        learn_from(worker, y=torch.zeros_like(worker.task.train[1]))
        place_at(worker, np.full(DIMENSIONS, 1.0 + place))
    return world


def leaders(world: World) -> list[str | None]:
    return [worker._state.leader and worker._state.leader[0] for worker in world.workers.values()]


def test_all_follow_the_best_and_the_leader_stays_where_it_is() -> None:
    """Teng et al. 2019 (1905.10395), section 3: the pull of the leader vanishes at the leader itself, so that the
    stationary points of training stay what they were."""
    world = scattered()
    for step in range(3):
        world.step(0.1 * step)
    assert leaders(world) == [None, "p0", "p0", "p0"]
    at = points(world)[:, 0]
    assert at[0] == 1.0
    np.testing.assert_allclose(at[1:], 1.0 + 0.9**2 * np.array([1.0, 2.0, 3.0]), rtol=0.01)


def test_one_who_sends_a_bad_model_leads_nobody_whatever_it_claims() -> None:
    """Section 3 names the leader by its reported loss; here each receiver tries the model on its own probe."""
    world = scattered()
    liar = world.workers["p0"]
    place_at(liar, np.full(DIMENSIONS, 100.0))
    learn_from(liar, y=torch.full_like(liar.task.train[1], 100.0))  # its own loss is 0
    for step in range(3):
        world.step(0.1 * step)
    assert leaders(world) == [None, None, "p1", "p1"]


def test_leadership_passes_to_who_becomes_better_and_ends_with_the_horizon() -> None:
    world = scattered()
    for step in range(3):
        world.step(0.1 * step)
    place_at(world.workers["p3"], np.zeros(DIMENSIONS))
    for step in range(3, 6):
        world.step(0.1 * step)
    assert leaders(world) == ["p3", "p3", "p3", None]
    alone = world.workers["p1"]
    alone.step(0.6 + alone.strategy.exchange.horizon_s(alone.learner, "p3") + 1.0)
    assert alone._state.leader is None

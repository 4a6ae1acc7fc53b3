"""Claims about pairwise averaging. Each test names its paper and section."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.pair_average.run import conserved

from .test_papers import peers, points, world_of
from .world import centres, place_at


def test_the_mean_of_all_parameters_is_conserved_under_loss_while_peers_train() -> None:
    """Lian et al. 2018 (1710.06952), section 3: averaging of a pair must leave the mean alone, here without locks.

    experiments/pair_average does the same for 100,000 exchanges.
    """
    outcome = conserved(1000)
    assert outcome["mean_off"] < 1e-6, outcome
    assert outcome["messages_lost"] > 500, outcome


@pytest.mark.parametrize("topology", ["complete", "ring", "one_peer_exponential"])
def test_all_find_the_mean(topology: str) -> None:
    """Lian et al. 2018 (1710.06952), section 3, with no bipartite restriction: a ring of five has an odd cycle."""
    world = world_of("adpsgd", 5, topology)
    start = centres(5)
    for worker, point in zip(world.workers.values(), start, strict=True):
        place_at(worker, point)
    for step in range(120):
        world.step(0.1 * step)
    assert peers(5) == tuple(world.workers)
    np.testing.assert_allclose(points(world), np.tile(start.mean(axis=0), (5, 1)), atol=1e-5)


def test_two_who_ask_each_other_at_once_meet_in_the_middle_and_do_not_change_places() -> None:
    world = world_of("adpsgd", 2, "complete")
    start = centres(2)
    for worker, point in zip(world.workers.values(), start, strict=True):
        place_at(worker, point)
    for step in range(3):
        world.step(0.1 * step)
    np.testing.assert_allclose(points(world), np.tile(start.mean(axis=0), (2, 1)), atol=1e-6)

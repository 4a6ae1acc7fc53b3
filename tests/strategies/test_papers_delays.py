"""Claims about steps that follow the delay. Each test names its paper and section."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.delays import Delays
from gossipdistill.strategies import STRATEGIES
from gossipdistill.strategies.base import AsynchronousOptions
from gossipdistill.training.ending import finish

from .test_papers import peers, points
from .world import World, make_quadratic, make_strategy

ASYNCHRONOUS = [name for name, kind in STRATEGIES.items() if issubclass(kind.options_type, AsynchronousOptions)]


def factors(heard: set[int], steps: int) -> list[float]:
    """eta_k / eta of `steps` steps, of which those in `heard` come right after something new."""
    delays, exchanges, found = Delays(), 0, []
    for step in range(steps):
        exchanges += step in heard
        found.append(delays.factor(exchanges, step, 0.1 * step, 0.0, 0))
    return found


@pytest.mark.parametrize("period", [1, 3, 10, 50])
def test_a_steady_delay_costs_nothing_however_long(period: int) -> None:
    """Koloskova et al. 2022 (2206.08307), section 3: what counts is the delay beside the average one, not its bound."""
    assert set(factors(set(range(0, 1000, period)), 1000)) == {1.0}


def test_the_step_falls_like_one_over_the_delay_and_is_whole_again_at_the_next_word() -> None:
    """Assran et al. 2020 (2006.13838): with delay tau a step of O(1 / (L (1 + tau))) is what converges."""
    found = factors(set(range(400)) | {500}, 520)
    assert set(found[:400]) == {1.0}
    assert found[500] == 1.0
    for step in (420, 450, 499):
        delay = step - 399
        mean = delay * (delay + 1) / 2 / (step + 1)
        assert found[step] == pytest.approx(2 * (1 + mean) / (1 + delay), rel=1e-12)
    total = sum(found[400:500])
    assert total < 20, "of a hundred steps in silence, with a usual delay of none, so many steps' length is left"


@pytest.mark.parametrize("name", sorted(set(ASYNCHRONOUS) - {"leader_sgd"}))
def test_a_silence_drives_peers_with_unlike_data_less_far_apart(name: str) -> None:
    """Assran et al. 2020 (2006.13838): what delays do harm by is what was done on old news. Four quadratics with minima
    of their own; after 60 steps of exchange at each of them, nothing arrives for 40."""
    apart = {}
    for adaptive in (False, True):
        names = peers(4)
        world = World(
            {
                peer: make_quadratic(peer, make_strategy(name, delay_adaptive=adaptive), names, "complete", lr=0.002)
                for peer in names
            }
        )
        for step in range(60):
            world.step(0.1 * step)
        for worker in world.workers.values():
            finish(worker.gossip, 6.0)
            worker.gossip.endpoint.cadence = Cadence(1, 0.0, _next_s=math.inf)
        together = np.linalg.norm(points(world) - points(world).mean(axis=0))
        for step in range(60, 100):
            for worker in world.workers.values():
                worker.step(0.1 * step)
        apart[adaptive] = np.linalg.norm(points(world) - points(world).mean(axis=0)) - together
    assert 0.0 < apart[True] < 0.6 * apart[False], apart

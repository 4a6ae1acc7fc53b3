"""Claims of papers that a small machine can show. Each test names its paper and section."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gossipdistill.learning.mass import Mass
from gossipdistill.topology import load_topology, metropolis, uniform_column
from gossipdistill.training.ending import finish

from .world import DIMENSIONS, World, centres, make_quadratic, make_strategy, place_at, point_of

Rows = NDArray[np.float64]
LR, MOMENTUM = 0.1, 0.9

ONE_WAY = """kind = "edges"
edges = [["p0", "p1"], ["p1", "p2"], ["p2", "p3"], ["p3", "p4"], ["p4", "p0"], ["p0", "p2"], ["p0", "p3"], ["p3", "p1"]]
"""
"""Strongly connected, with between one and three receivers each, so that push-sum weights move away from 1."""

KITE = """kind = "edges"
both_ways = true
edges = [["p0", "p1"], ["p1", "p2"], ["p1", "p3"], ["p3", "p4"], ["p2", "p3"]]
"""


UNBOUNDED = math.inf
"""The textbook has no bound on how far a step may move z where the weight is small."""


def peers(count: int) -> tuple[str, ...]:
    return tuple(f"p{place}" for place in range(count))


def world_of(
    strategy: str, count: int, topology: Path | str, lr: float = 0.0, momentum: float = 0.0, **options: object
) -> World:
    names = peers(count)
    return World(
        {n: make_quadratic(n, make_strategy(strategy, **options), names, topology, lr, momentum) for n in names}
    )


def points(world: World) -> Rows:
    return np.stack([point_of(worker) for worker in world.workers.values()])


def averaged_after(count: int, rounds: int) -> tuple[float, float]:
    """(largest distance to the mean, largest push-sum weight off 1) after so many exchanges without training."""
    world = world_of("sgp", count, "one_peer_exponential")
    start = centres(count)
    for worker, point in zip(world.workers.values(), start, strict=True):
        place_at(worker, point)
    for number in range(rounds):
        world.step(float(number))
    weights = []
    for worker in world.workers.values():
        finish(worker.gossip, float(rounds))
        assert isinstance(worker.gossip.state, Mass)
        weights.append(worker.gossip.state.weight)
    return float(np.abs(points(world) - start.mean(axis=0)).max()), max(abs(weight - 1.0) for weight in weights)


@pytest.mark.parametrize("count", [2, 4, 8, 16, 32])
def test_sgp_averages_exactly_in_log2_n_exchanges_on_the_one_peer_exponential_graph(count: int) -> None:
    """For n a power of two: Assran et al. 2019 (1811.10792) and Ying et al. 2021 (2110.13363, section 4)."""
    rounds = count.bit_length() - 1
    error, off = averaged_after(count, rounds)
    assert error < 1e-6
    assert off == 0.0
    if rounds > 1:
        assert averaged_after(count, rounds - 1)[0] > 1e-2


def test_sgp_does_not_average_exactly_among_six() -> None:
    """The same for n = 6: three exchanges leave an operator norm of 0.217 (Ying et al. 2021, 2110.13363, section 4)."""
    assert averaged_after(6, 3)[0] > 1e-2
    assert averaged_after(6, 60)[0] < 1e-6


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_sgp_equals_its_textbook_form(momentum: float, tmp_path: Path) -> None:
    """Assran et al. 2019 (1811.10792), algorithm 1, with the momentum of their experiments (not of Nesterov's form):

    u <- m u + (z - c);   x <- x - lr u;   X <- P X,  w <- P w;   z <- x / w
    """
    topology = tmp_path / "one-way.toml"
    topology.write_text(ONE_WAY)
    world = world_of("sgp", 5, topology, LR, momentum, stretch_max=UNBOUNDED)
    mixing = uniform_column(load_topology(str(topology), peers(5)), 0)
    goal, x, w, u = centres(5), np.zeros((5, DIMENSIONS)), np.ones(5), np.zeros((5, DIMENSIONS))
    for step in range(60):
        u = momentum * u + (x / w[:, None] - goal)
        x = x - LR * u
        x, w = mixing @ x, mixing @ w
        world.step(float(step))
    for worker in world.workers.values():
        finish(worker.gossip, 60.0)
    assert w.min() < 0.7, "the weights should have moved away from 1"
    np.testing.assert_allclose(points(world), x / w[:, None], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("momentum", "lr"), [(0.0, LR), (MOMENTUM, 0.01)])
def test_dpsgd_equals_the_matrix_recursion_on_a_ring_of_eight(momentum: float, lr: float) -> None:
    """Lian et al. 2017 (1705.09056), algorithm 1: X of k + 1 = W X - gamma G(X), W = 1/3 for me and both neighbours."""
    world = world_of("dpsgd", 8, "ring", lr, momentum)
    mixing = metropolis(load_topology("ring", peers(8)), 0)
    assert mixing[0, 0] == pytest.approx(1 / 3)
    goal, x, u = centres(8), np.zeros((8, DIMENSIONS)), np.zeros((8, DIMENSIONS))
    for step in range(60):
        assert not any(worker.gossip.awaited(float(step)) for worker in world.workers.values())
        world.step(float(step))
        # The first step of a process mixes nothing: all begin with the same model.
        u = momentum * u + (x - goal)
        x = (mixing @ x if step else x) - lr * u
    np.testing.assert_allclose(points(world), x, atol=1e-6, rtol=0)


def test_dpsgd_keeps_the_mean_where_degrees_differ(tmp_path: Path) -> None:
    """Metropolis weights from the degrees in the messages are doubly stochastic on any undirected graph (Xiao, Boyd and
    Kim 2007, section 1), and find the mean."""
    topology = tmp_path / "kite.toml"
    topology.write_text(KITE)
    world = world_of("dpsgd", 5, topology)
    start = centres(5)
    for worker, point in zip(world.workers.values(), start, strict=True):
        place_at(worker, point)
    mixing, expected = metropolis(load_topology(str(topology), peers(5)), 0), start
    for step in range(80):
        world.step(float(step))
        expected = mixing @ expected if step else expected
        np.testing.assert_allclose(points(world), expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(points(world).mean(axis=0), start.mean(axis=0), atol=1e-6, rtol=0)
    np.testing.assert_allclose(points(world), np.broadcast_to(start.mean(axis=0), (5, DIMENSIONS)), atol=1e-3)

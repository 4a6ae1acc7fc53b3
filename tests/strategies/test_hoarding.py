"""Push-sum finds the mean of what all peers want, and nobody hoards the weight: at the defaults, in small worlds.

Cause and cure: a peer that is ten times slower comes to hold nearly all weight if it publishes every ten of its own
steps; 1 / w is then too large a learning rate for the others. Whoever holds more than `PRESSING_WEIGHT` publishes at
its next step.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import experiments.mass
from gossipdistill.learning import mass, reciprocity
from gossipdistill.roster import load_roster

from .test_papers import UNBOUNDED, peers, points
from .world import DIMENSIONS, World, learn_from, make_quadratic, make_strategy

STRATEGIES = ("sgp", "osgp", "async_gradient_push")
GRAPHS = Path(experiments.mass.__path__[0]) / "graphs"


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_default_finds_the_true_mean_on_an_irregular_graph(name: str) -> None:
    """Peer i is drawn to the i-th unit vector; the mean over peers is 1/n in each coordinate. While the step itself was
    bounded, this ended 0.04 (sgp) and 0.2 (osgp) away, with more for those who hold more weight."""
    names = load_roster(str(DIMENSIONS)).names
    graph = GRAPHS / "one-way-5.toml"
    world = World({peer: make_quadratic(peer, make_strategy(name), names, graph, lr=0.01) for peer in names})
    for place, worker in enumerate(world.workers.values()):
        learn_from(worker, y=torch.eye(DIMENSIONS)[place].expand(2, -1))
    for step in range(500):
        world.step(0.1 * step)
    shares = points(world).mean(axis=0)
    assert float(np.linalg.norm(shares - 1 / DIMENSIONS)) < 0.01, shares


class Beside(NamedTuple):
    """What was seen beside a straggler: the greatest weight that anybody was left with after a step of its own, and the
    farthest that a coordinate of a model was from the origin."""

    kept: float
    farthest: float


def beside(name: str, slower: int, ticks: int, lr: float, **options: Any) -> Beside:
    """Three peers and a slower one at the strategy's own period, everybody linked with everybody, momentum 0.9."""
    names, kept, farthest = peers(4), 0.0, 0.0
    world = World(
        {
            peer: make_quadratic(peer, make_strategy(name, every_steps=10, **options), names, "complete", lr, 0.9)
            for peer in names
        }
    )
    for tick in range(ticks):
        for place, peer in enumerate(names):
            if place < 3 or tick % slower == 0:
                world.workers[peer].step(0.02 * tick)
                kept = max(kept, world.workers[peer].gossip.held_weight())
                world.carry(peer, 0.02 * tick)
        farthest = max(farthest, float(np.abs(points(world)).max()))
        if not farthest < 1e6:
            return Beside(kept, math.inf)
    return Beside(kept, farthest)


@pytest.mark.parametrize("slower", [10, 30])
@pytest.mark.parametrize("name", STRATEGIES)
def test_beside_a_straggler_nobody_hoards_the_weight(name: str, slower: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the trigger off, the straggler is seen with 3.9 of 4."""
    assert beside(name, slower, 15 * slower, 0.05).kept <= mass.PRESSING_WEIGHT
    monkeypatch.setattr(mass, "PRESSING_WEIGHT", math.inf)
    assert beside(name, slower, 15 * slower, 0.05).kept > 3.0


@pytest.mark.parametrize("slower", [10, 30])
@pytest.mark.parametrize("name", ["sgp", "osgp"])
def test_beside_a_straggler_even_the_unbounded_textbook_rule_is_stable(
    name: str, slower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rate 0.2, momentum 0.9. With the trigger off, this is beyond a million after 80 steps, if the last quarter of the
    weight is given away too (learning/reciprocity.py). `async_gradient_push` has a bound of its own."""
    monkeypatch.setattr(reciprocity, "DRY_WEIGHT", 0.0)
    assert beside(name, slower, 300, 0.2, stretch_max=UNBOUNDED).farthest < 10.0
    monkeypatch.setattr(mass, "PRESSING_WEIGHT", math.inf)
    assert beside(name, slower, 300, 0.2, stretch_max=UNBOUNDED).farthest > 1e6

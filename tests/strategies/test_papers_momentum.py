"""Claims about momentum in decentralised SGD. Each test names its paper and section."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.momentum_bias.recursions import FORMS
from gossipdistill.errors import NeedsError
from gossipdistill.topology import load_topology, metropolis

from .test_papers import peers, points
from .world import DIMENSIONS, World, centres, make_quadratic, make_strategy, make_worker, place_at

Rows = NDArray[np.float64]
COUNT = 8
OPTIONS = {
    "adapt_then_combine": ("dmsgd", {"order": "adapt_then_combine"}),
    "adapt_while_combining": ("dmsgd", {"order": "adapt_while_combining"}),
    "decentlam": ("decentlam", {}),
}


def ring(form: str, lr: float, momentum: float) -> World:
    name, options = OPTIONS[form]
    names = peers(COUNT)
    return World(
        {peer: make_quadratic(peer, make_strategy(name, **options), names, "ring", lr, momentum) for peer in names}
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS)
def test_each_equals_its_textbook_form_on_a_ring_of_eight(form: str, momentum: float) -> None:
    """Yuan et al. 2021 (2104.11981), section 3 and algorithm 2, on unlike quadratics."""
    lr = 0.02
    world = ring(form, lr, momentum)
    mixing = metropolis(load_topology("ring", peers(COUNT)), 0)
    goal, x, m = centres(COUNT), np.zeros((COUNT, DIMENSIONS)), np.zeros((COUNT, DIMENSIONS))
    at: Rows = points(world)
    for step in range(51):
        assert not any(worker.gossip.awaited(float(step)) for worker in world.workers.values())
        stopped = step == 50
        if stopped:  # where the last mixing of the others is part of the next step, take it without a step
            for worker in world.workers.values():
                worker.gossip.mix(worker.gossip.endpoint.arrivals(), float(step))
            at = points(world)
            break
        world.step(float(step))
        at = points(world)
        mixes = mixing if form != "adapt_while_combining" or step else np.eye(COUNT)
        x, m = FORMS[form](x, m, mixes, lambda z: z - goal, lr, momentum)
    np.testing.assert_allclose(at, x, atol=1e-6, rtol=0)


def bias(form: str, momentum: float, lr: float = 1e-3, steps: int = 160) -> float:
    """Mean squared distance to the optimum that is left, beginning at the optimum."""
    world = ring(form, lr, momentum)
    best = centres(COUNT).mean(axis=0)
    for worker in world.workers.values():
        place_at(worker, best)
    for step in range(steps):
        world.step(float(step))
    if form != "adapt_while_combining":
        for worker in world.workers.values():
            worker.gossip.mix(worker.gossip.endpoint.arrivals(), float(steps))
    return float(((points(world) - best) ** 2).sum(axis=1).mean())


def test_momentum_multiplies_the_bias_of_dmsgd_and_leaves_that_of_decentlam() -> None:
    """Yuan et al. 2021 (2104.11981), section 4: DSGD's bias is of order gamma^2 b^2, DmSGD's 1 / (1 - beta)^2 of it,
    DecentLaM's that of DSGD."""
    plain = bias("adapt_then_combine", 0.0)
    assert 80 < bias("adapt_then_combine", 0.9) / plain < 105
    assert bias("decentlam", 0.9) == pytest.approx(plain, rel=0.05)


def test_decentlam_is_refused_where_another_optimizer_makes_the_step() -> None:
    worker = make_worker("ada", make_strategy("isolated"))
    worker.learner.optimizer = torch.optim.Adam(worker.learner.model.parameters())
    with pytest.raises(NeedsError, match="defines the local step itself, as momentum SGD, and the optimizer is Adam"):
        make_strategy("decentlam").init(worker.learner)


def test_a_learning_rate_that_falls_to_zero_does_not_blow_up_decentlam() -> None:
    world = ring("decentlam", 0.02, 0.9)
    for step in range(120):
        for worker in world.workers.values():
            worker.learner.optimizer.param_groups[0]["lr"] = (
                0.02 if step < 40 or step > 100 else 0.02 * 1e-9 * (step % 2)
            )
        world.step(float(step))
    assert float(np.abs(points(world)).max()) < 3.0

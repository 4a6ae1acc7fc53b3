"""Weights of an unusual norm: counted under every strategy that mixes weights, refused whole where that is asked."""

from __future__ import annotations

import pytest
import torch

from gossipdistill.events import EventKind
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.norms import NORM_RATIO_MAX, judge_norm
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.strategies import STRATEGIES
from gossipdistill.strategies.base import Delivery

from .world import NAMES, World, make_strategy, make_worker

ONLY_ASKED = ("concurrent_adversarial",)
"""Weights come with a question, and change nothing of the one who answers."""
WEIGHTS = [
    name for name, kind in STRATEGIES.items()
    if kind.needs.alike_models and kind.delivery.gossips and name not in ONLY_ASKED
]  # fmt: skip


def world_with_a_giant(name: str, factor: float, refuse: bool) -> World:
    """Nobody trains; bo's weights are so many times what they should be."""
    options = {"groups": 3} if name == "codistill_groups" else {}
    workers = {peer: make_worker(peer, make_strategy(name, **options)) for peer in NAMES}
    for worker in workers.values():
        worker.learner.refuse_unusual = refuse
        for group in worker.learner.optimizer.param_groups:
            group["lr"] = 0.0
    giant = workers["bo"]
    load_flat(giant.learner.model, factor * flat_parameters(giant.learner.model))
    giant._state = giant.strategy.init(giant.learner)
    return World(workers)


def test_the_table_has_them_all() -> None:
    assert {"gossip_averaging", "codistill_checkpoints", "leader_sgd", "sgp", "adpsgd", "dpsgd"} <= set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_unusual_is_counted_and_told_once(name: str) -> None:
    world = world_with_a_giant(name, 100.0, refuse=False)
    for step in range(3):
        world.step(0.1 * step)
    for peer in ("ada", "cy"):
        ledger = world.workers[peer].learner.ledger
        assert ledger.unusual["bo"] >= 1
        assert not ledger.quarantined
        told = [event.peer for event in ledger.take_news(0.0) if event.kind is EventKind.UNUSUAL]
        assert told.count("bo") == 1


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("name", WEIGHTS)
def test_where_that_is_asked_it_is_refused_whole_and_held_against_its_sender(name: str, factor: float) -> None:
    world = world_with_a_giant(name, factor, refuse=True)
    before = {peer: flat_parameters(worker.learner.model) for peer, worker in world.workers.items()}
    for step in range(6):
        world.step(0.1 * step)
    ledgers = {peer: worker.learner.ledger for peer, worker in world.workers.items()}
    for peer, ledger in ledgers.items():
        assert ledger.quarantined == {f"{sender}: norm": count for sender, count in ledger.unusual.items()}
        assert all("bo" in (peer, sender) for sender in ledger.unusual)
        assert all("bo" not in (peer, sender) for sender in ledger.links), "exchanged with it"
        now = flat_parameters(world.workers[peer].learner.model)
        assert float(now.norm()) == pytest.approx(float(before[peer].norm()), rel=0.5), "carried away"
    pairs = {frozenset((peer, sender)) for peer, ledger in ledgers.items() for sender in ledger.unusual}
    assert len(pairs) == 2, "one of each pair has refused the other"
    if STRATEGIES[name].delivery is Delivery.MASS:
        assert not any(one.absorbed for one in world.settled if one.sender == "bo")


def test_the_bounds_and_a_model_without_a_size() -> None:
    learner = make_worker("ada", make_strategy("gossip_averaging")).learner
    learner.refuse_unusual = True
    own = float(flat_parameters(learner.model).norm())
    for share in (0.999 * NORM_RATIO_MAX, 1.001 / NORM_RATIO_MAX):
        judge_norm("bo", share * own, learner)
    assert not learner.ledger.unusual
    for share in (1.001 * NORM_RATIO_MAX, 0.999 / NORM_RATIO_MAX, 0.0, float("inf")):
        with pytest.raises(PayloadRefusedError, match="norm") as refused:
            judge_norm("bo", share * own, learner)
        assert refused.value.reason == "norm"
    for value in (0.0, float("nan")):  # mine says nothing about theirs
        load_flat(learner.model, torch.full((len(flat_parameters(learner.model)),), value))
        judge_norm("bo", 1.0, learner)

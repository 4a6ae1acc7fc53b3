"""Weights of an unusual norm: counted under every strategy that mixes weights, refused whole where that is asked."""

from __future__ import annotations

import pytest
import torch

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import ABSURD_RATIO, NORM_RATIO_MAX, judge_size
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.strategies import STRATEGIES
from gossipdistill.strategies.base import Delivery, View

from .world import NAMES, World, arrival, make_strategy, make_worker

ONLY_ASKED = ("concurrent_adversarial",)
"""Weights come with a question, and change nothing of the one who answers."""
WEIGHTS = [
    name
    for name, kind in STRATEGIES.items()
    if kind.needs.alike_models and kind.delivery.gossips and name not in ONLY_ASKED
]


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
    giant.gossip.state = giant.gossip.strategy.init(giant.learner)
    return World(workers)


def test_the_table_has_them_all() -> None:
    assert {"gossip_averaging", "codistill_checkpoints", "leader_sgd", "sgp", "adpsgd", "dpsgd"} <= set(WEIGHTS)


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_unusual_is_counted_and_told_once(name: str) -> None:
    world = world_with_a_giant(name, 50.0, refuse=False)
    for step in range(3):
        world.step(0.1 * step)
    for peer in ("ada", "cy"):
        ledger = world.workers[peer].learner.ledger
        assert ledger.unusual["bo"] >= 1
        assert not ledger.quarantined
        told = [event.peer for event in ledger.take_news(0.0) if event.kind is EventKind.UNUSUAL]
        assert told.count("bo") == 1


@pytest.mark.parametrize("factor", [50.0, 0.02])
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


@pytest.mark.parametrize("lie", ["norm", "entry", "infinite in half"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_what_no_training_explains_is_always_refused_and_the_others_go_on(name: str, lie: str) -> None:
    """Each of these is finite: one such state made every model NaN for ever."""
    world = world_with_a_giant(name, 1e6 if lie == "norm" else 1.0, refuse=False)
    if lie != "norm":
        giant = world.workers["bo"]
        with torch.no_grad():
            next(giant.learner.model.parameters()).view(-1)[0] = 3e38 if lie == "entry" else 6e4
        giant.gossip.state = giant.gossip.strategy.init(giant.learner)
    for step in range(6):
        world.step(0.1 * step)
    told = [key for worker in world.workers.values() for key in worker.learner.ledger.quarantined]
    assert any(key in ("bo: norm", "bo: range") for key in told)
    for peer in ("ada", "cy"):
        worker = world.workers[peer]
        assert "bo" not in worker.learner.ledger.links
        assert float(flat_parameters(worker.learner.model).abs().max()) < 10.0
    assert not any(one.absorbed for one in world.settled if one.sender == "bo")


def entries(learner: Learner, value: float) -> list[torch.Tensor]:
    return [torch.full_like(part, value) for part in learner.shared.vector(learner.model).values()]


def scaled(learner: Learner, share: float) -> list[torch.Tensor]:
    return [share * part for part in learner.shared.vector(learner.model).values()]


def test_the_bounds_on_the_norm() -> None:
    learner = make_worker("ada", make_strategy("gossip_averaging")).learner
    learner.refuse_unusual = True
    for share in (0.999 * NORM_RATIO_MAX, 1.001 / NORM_RATIO_MAX):
        judge_size("bo", scaled(learner, share), learner)
    assert not learner.ledger.unusual
    for share in (1.001 * NORM_RATIO_MAX, 0.999 / NORM_RATIO_MAX, 0.0, 1.001 * ABSURD_RATIO):
        with pytest.raises(PayloadRefusedError, match="norm") as refused:
            judge_size("bo", scaled(learner, share), learner)
        assert refused.value.reason == "norm"
    learner.refuse_unusual = False
    judge_size("bo", scaled(learner, 0.999 * ABSURD_RATIO), learner)
    with pytest.raises(PayloadRefusedError, match="norm"):
        judge_size("bo", scaled(learner, 1.001 * ABSURD_RATIO), learner)
    judge_size("bo", scaled(learner, 1.001 * ABSURD_RATIO), learner, weight=2.0)


def test_a_model_that_begins_at_zero_is_welcome_to_others_that_do_not_and_is_not_defenceless() -> None:
    learner = make_worker("ada", make_strategy("gossip_averaging")).learner
    load_flat(learner.model, torch.zeros(len(flat_parameters(learner.model))))
    judge_size("bo", entries(learner, 0.9), learner)
    for value, reason in ((1.1, "norm"), (1001.0, "range"), (3e38, "range")):
        with pytest.raises(PayloadRefusedError) as refused:
            judge_size("bo", entries(learner, value), learner)
        assert refused.value.reason == reason


def test_beside_a_model_that_has_diverged_nothing_is_judged() -> None:
    learner = make_worker("ada", make_strategy("gossip_averaging")).learner
    load_flat(learner.model, torch.full((len(flat_parameters(learner.model)),), float("nan")))
    judge_size("bo", entries(learner, 1e9), learner)


def test_no_more_is_taken_than_half_of_what_the_types_of_my_model_hold() -> None:
    learner = make_worker("ada", make_strategy("gossip_averaging")).learner
    learner.model.half()
    with torch.no_grad():
        next(learner.model.parameters()).view(-1)[0] = 40000.0
    sent = [part.float() for part in entries(learner, 0.0)]
    sent[0].view(-1)[0] = 32000.0
    judge_size("bo", sent, learner)
    sent[0].view(-1)[0] = 33000.0
    with pytest.raises(PayloadRefusedError, match="at most 3"):
        judge_size("bo", sent, learner)


def test_absurd_buffers_are_refused_and_large_variances_are_not() -> None:
    workers = {name: make_worker(name, make_strategy("gossip_averaging")) for name in NAMES}
    for worker in workers.values():
        model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
        worker.learner.model = model
    for value, refused in ((65025.0, False), (1e30, True)):
        workers["bo"].learner.model[1].running_var.fill_(value)  # type: ignore[index,union-attr,operator]
        (parcel,) = workers["bo"].gossip.strategy.publish(
            None, workers["bo"].learner, View(out_neighbours=(PeerName("ada"),))
        )
        ada = workers["ada"]
        ada.gossip.strategy.mix(None, ada.learner, [arrival("bo", parcel, 1, 0.0)], View(in_weights={"bo": 0.01}))
        assert bool(ada.learner.ledger.quarantined) == refused
        assert float(ada.learner.model[1].running_var.max()) < 1e4  # type: ignore[index,union-attr,operator]

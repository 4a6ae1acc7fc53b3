"""What has gone stale follows the pace: with slow steps a teacher keeps its weight, and a dead one loses it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gossipdistill.events import EventKind
from gossipdistill.learning.pace import PERIODS
from gossipdistill.messages import Neighbourhood
from gossipdistill.strategies import Exchange, Strategy
from gossipdistill.training.worker import Worker

from .world import World, make_strategy, make_worker

STEP_S, EVERY = 2.0, 10
TEACHING = ("codistill_predictions", "codistill_checkpoints")


def strategy(name: str, stale_after_s: float | None = None, **options: object) -> Strategy:
    made = make_strategy(name, every_steps=EVERY, **options)
    return type(made)(made.options, replace(made.exchange, stale_after_s=stale_after_s))


def world(name: str, stale_after_s: float | None = None, **options: object) -> World:
    peers = ("ada", "bo")
    return World({peer: make_worker(peer, strategy(name, stale_after_s, **options), peers) for peer in peers})


def term(worker: Worker) -> float:
    """How large the distillation term of the step in progress would be."""
    worker.learner.x = worker.learner.examples[0][:8]
    worker.learner.outputs = worker.learner.model(worker.learner.x)
    value = worker.gossip.strategy.loss(worker.gossip.state, worker.learner).value
    return 0.0 if value is None else float(value.detach())


def weights(name: str, steps: int, stale_after_s: float | None, **options: object) -> list[float]:
    """What share of the term without a horizon the student's term has after each step."""
    aged, ageless = world(name, stale_after_s, **options), world(name, 0.0, **options)
    for one in (*aged.workers.values(), *ageless.workers.values()):
        for group in one.learner.optimizer.param_groups:
            group["lr"] = 0.0
    found = []
    for step in range(steps):
        for one in (aged, ageless):
            one.step(STEP_S * step)
        terms = [term(one.workers["ada"]) for one in (aged, ageless)]
        if terms[1] > 0.0:
            found.append(terms[0] / terms[1])
    return found


@pytest.mark.parametrize("name", TEACHING)
def test_a_living_teacher_keeps_its_weight_with_slow_steps(name: str) -> None:
    found = weights(name, 80, None)
    assert len(found) > 60
    assert min(found) > 0.7
    assert sum(found) / len(found) == pytest.approx(1 - 1 / (2 * PERIODS), abs=0.03)
    fixed = weights(name, 80, 30.0)
    assert sum(fixed) / len(fixed) < 0.75, "an explicit value wins"


def test_rows_that_come_in_turn_keep_their_weight_until_their_turn_comes_again() -> None:
    found = weights("codistill_predictions", 150, None, coordinated_rows=20)
    assert sum(found[-50:]) / 50 > 0.8


@pytest.mark.parametrize("name", TEACHING)
def test_a_dead_teacher_is_forgotten_after_a_few_periods_of_its_own(name: str) -> None:
    both = world(name)
    for step in range(60):
        both.step(STEP_S * step)
    ada = both.workers["ada"]
    assert term(ada) > 0.0
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    for step in range(60, 60 + PERIODS * EVERY + EVERY):
        ada.step(STEP_S * step)
    assert term(ada) == 0.0
    assert [event.detail["rule"] for event in ada.learner.ledger.take_news(0.0)] == ["stale"]


def test_a_straggler_is_not_forgotten_between_two_words() -> None:
    """Its words come every 100 s, those of the others every 0.2 s."""
    ada, bo = (world("codistill_predictions").workers[name] for name in ("ada", "bo"))
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(expected=2, alive=frozenset({bo.learner.name})), ())  # type: ignore[arg-type]
    both, heard = World({"ada": ada, "bo": bo}), []
    for step in range(4001):
        now = 0.1 * step
        ada.learner.now_s, ada.learner.step = now, step
        ada.learner.paces.steps.look(now)
        if step % 1000 == 0:
            ada.gossip.endpoint.mailbox.collect()
            bo.learner.step = EVERY - 1
            bo.step(now)
            both.carry("bo", now)
            ada.gossip.mix(ada.gossip.endpoint.arrivals(), now)
        if step > 1000 and step % 500 == 499:
            heard.append(ada.gossip.strategy._forget_the_old(ada.gossip.state, ada.learner))  # type: ignore[attr-defined]
    assert heard == [True] * len(heard)
    assert len(heard) == 6


def test_the_silence_of_all_follows_the_pace_too() -> None:
    """A step that adapts to delays is whole again beyond the horizon, and not before."""
    both = World(
        {
            peer: make_worker(peer, strategy("gossip_averaging", delay_adaptive=True), ("ada", "bo"))
            for peer in ("ada", "bo")
        }
    )
    for step in range(60):
        both.step(STEP_S * step)
    ada = both.workers["ada"]
    assert ada.gossip.strategy.exchange.horizon_s(ada.learner) == PERIODS * EVERY * STEP_S
    assert ada.gossip.strategy.exchange.horizon_s(ada.learner, "bo") == PERIODS * EVERY * STEP_S


def test_slow_steps_are_not_taken_for_silence_and_a_neighbour_that_is_gone_is() -> None:
    """Nothing new comes for 20 s between two exchanges; the alarm after 4 s would be false each time."""
    both = world("codistill_predictions")
    ada = both.workers["ada"]
    for step in range(60):
        both.step(STEP_S * step)
        assert step < 10 or ada.gossip.alarms.check_exchange(STEP_S * step + 1.9) is None, step
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    said = []
    for step in range(60, 60 + 3 * EVERY):
        ada.step(STEP_S * step)
        said.append(ada.gossip.alarms.check_exchange(STEP_S * step))
    (alarm,) = [event for event in said if event is not None]
    assert alarm.kind is EventKind.NO_EXCHANGE


@pytest.mark.parametrize("explicit", [0.0, 5.0, 30.0])
def test_an_explicit_horizon_is_what_it_says(explicit: float) -> None:
    learner = make_worker("ada", strategy("codistill_predictions")).learner
    learner.paces.heard("bo", 0.0)
    learner.paces.heard("bo", 1000.0)
    assert Exchange(stale_after_s=explicit).horizon_s(learner, "bo", words=7) == explicit
    assert Exchange().horizon_s(learner, "bo") == PERIODS * 1000.0


def test_a_slow_receiver_uses_what_has_waited_for_it_during_one_step() -> None:
    """Steps of 60 s, words every 0.6 s: by a horizon of 30 s hardly one would be young enough."""
    both = World({peer: make_worker(peer, strategy("gossip_averaging"), ("ada", "bo")) for peer in ("ada", "bo")})
    ada, bo = both.workers["ada"], both.workers["bo"]
    with torch.no_grad():
        for parameter in bo.learner.model.parameters():
            parameter.add_(1.0)
    for step in range(6):
        ada.step(60.0 * step)
        bo.learner.step = EVERY - 1
        bo.step(60.0 * step)
        both.carry("bo", 60.0 * step + 20.0)
    assert ada.learner.ledger.links["bo"].exchanges >= 4

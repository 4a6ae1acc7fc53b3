"""A peer that goes on from its checkpoint. Where nothing is exchanged it cannot tell that it was gone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.strategies import STRATEGIES, Delivery
from gossipdistill.training.worker import Worker

from .world import NAMES, World, make_strategy, make_worker

ALONE = [name for name, kind in STRATEGIES.items() if kind.delivery is not Delivery.COLLECTIVE]


def process(name: str, *, options: dict[str, object] | None = None) -> World:
    """A new process of ada's; its model drops out, and so draws from the global generator."""
    worker = make_worker("ada", make_strategy(name, every_steps=3, **(options or {})))
    worker.cosine = True
    return World({"ada": worker})


def weights(world: World) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in world.workers["ada"].learner.model.state_dict().items()}


def killed_and_back(name: str, at: int, steps: int, options: dict[str, object] | None = None) -> None:
    """Training that was cut at step `at`, and again 5 steps later, ends as the one that was not, to the last bit."""
    torch.manual_seed(0)
    whole = process(name, options=options)
    for step in range(steps):
        whole.step(step * 0.1)

    torch.manual_seed(0)
    world = process(name, options=options)
    for step in range(steps):
        if step in (at, at + 5):
            parts, content = world.workers["ada"].checkpoint().encode()
            world.step(step * 0.1)  # is lost
            torch.manual_seed(99)
            world = process(name, options=options)
            worker = world.workers["ada"]
            checkpoint = Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content)))
            checkpoint.restore(worker.learner.model, worker.learner.optimizer)
            worker.resume(checkpoint)
            assert worker.learner.step == step
        world.step(step * 0.1)
    for key, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(world)[key]), key


@pytest.mark.parametrize("at", [0, 1, 7, 13])
def test_isolated_resumes_bit_for_bit(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dropping(monkeypatch)
    killed_and_back("isolated", at, 20)


@pytest.mark.parametrize("name", ALONE)
def test_whoever_is_alone_resumes_bit_for_bit(name: str) -> None:
    killed_and_back(name, 8, 20)


def dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of this test's world have dropout and batch norm."""
    from . import world

    plain = world.make_task

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, world.CLASSES))

    def make_task(place: int) -> object:
        return replace(plain(place), model=model)

    monkeypatch.setattr(world, "make_task", make_task)


@pytest.mark.parametrize("name", [name for name, kind in STRATEGIES.items() if kind.delivery is Delivery.MASS])
def test_mass_begins_again_with_the_saved_estimate_and_weight_one(name: str) -> None:
    world = World({peer: make_worker(peer, make_strategy(name), seed=1) for peer in NAMES})
    for step in range(12):
        world.step(step * 0.1)
    before = world.workers["ada"]
    parts, content = before.checkpoint().encode()
    z = {key: tensor.clone() for key, tensor in before.learner.model.state_dict().items()}

    checkpoint = Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content)))
    again = make_worker("ada", make_strategy(name))
    checkpoint.restore(again.learner.model, again.learner.optimizer)
    again.gossip.state = again.gossip.strategy.init(again.learner)  # as a process does, which restores before it begins
    again.resume(checkpoint)
    assert again.gossip.held_weight() == 1.0
    assert again.gossip.endpoint.cadence.exchanges == before.gossip.endpoint.cadence.exchanges
    for key, tensor in again.learner.model.state_dict().items():
        assert torch.equal(tensor, z[key]), key


@pytest.mark.parametrize("name", ALONE)
def test_memory_that_does_not_fit_any_more_is_left_out(name: str) -> None:
    strategy = make_strategy(name)
    worker = make_worker("ada", strategy)
    kept = {
        key: value[:1] if isinstance(value, Tensor) else value
        for key, value in strategy.remember(_trained(worker)).items()
    }
    fresh = make_worker("ada", make_strategy(name))
    fresh.gossip.strategy.recall(fresh.gossip.state, fresh.learner, kept)
    for step in range(3):
        fresh.step(step * 0.1)
    assert fresh.learner.step == 3


def _trained(worker: Worker) -> Any:
    for step in range(4):
        worker.step(step * 0.1)
    return worker.gossip.state


def restarted(worker: Worker, name: str, **options: object) -> Worker:
    """A new process of ada's, from a checkpoint of the one before."""
    parts, content = worker.checkpoint().encode()
    checkpoint = Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content)))
    again = make_worker("ada", make_strategy(name, **options))
    checkpoint.restore(again.learner.model, again.learner.optimizer)
    again.resume(checkpoint)
    return again


def test_the_usual_delay_is_remembered_and_when_somebody_was_heard_is_not() -> None:
    options: dict[str, object] = {"delay_adaptive": True}
    world = World({peer: make_worker(peer, make_strategy("gossip_averaging", 3, **options)) for peer in NAMES})
    for step in range(12):
        world.step(step * 0.1)
    before = world.workers["ada"].learner.delays
    assert before.looks > 5
    assert before.total > 0
    after = restarted(world.workers["ada"], "gossip_averaging", **options).learner.delays
    assert (after.looks, after.total) == (before.looks, before.total)
    assert (after.exchanges, after.heard_step, after.heard_s) == (0, 0, 0.0)


def test_what_helpers_have_answered_is_used_after_a_restart_and_ages_on(monkeypatch: pytest.MonkeyPatch) -> None:
    dropping(monkeypatch)
    name = "concurrent_adversarial"
    world = World({peer: make_worker(peer, make_strategy(name, 5)) for peer in NAMES})
    for step in range(10):
        world.step(step * 0.1)
    before = world.workers["ada"]
    kept = {step: by for step, by in before.gossip.state.made.items() if step >= before.learner.step}
    assert kept
    assert before.gossip.state.statistics
    again = restarted(before, name, every_steps=5)
    for layer, buffers in before.gossip.state.statistics.items():
        for key, buffer in buffers.items():
            assert torch.equal(again.gossip.state.statistics[layer][key], buffer), key
    again.step(1000.0)
    assert again.learner.ledger.staleness.bins.total() > 0
    for step, by in kept.items():
        if step <= before.learner.step:
            continue
        for maker, made in by.items():
            after = again.gossip.state.made[step][maker]
            assert torch.equal(after.d, made.d)
            assert after.arrived_step == made.arrived_step
            assert 1000.0 - after.arrived_s == pytest.approx(before.gossip.state.now_s - made.arrived_s)

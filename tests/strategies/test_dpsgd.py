"""Rounds in the learning wing: who waits, for whom, and what a round makes of what came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gossipdistill.ids import PeerName
from gossipdistill.learning.snapshot import pack
from gossipdistill.messages import Neighbourhood
from gossipdistill.strategies.base import View
from gossipdistill.strategies.dpsgd import State
from gossipdistill.training.ending import finish, publish_final, serve
from gossipdistill.training.worker import Worker

from .world import World, arrival, centres, make_quadratic, make_strategy, place_at, point_of

NAMES = ("ada", "bo", "cy")


def rounds(timeout_s: float = 5.0, encoding: str = "raw") -> World:
    """Three peers that do not train, each at a point of its own, all neighbours."""
    world = World(
        {
            name: make_quadratic(name, make_strategy("dpsgd", round_timeout_s=timeout_s), NAMES, "complete")
            for name in NAMES
        }
    )
    for worker, point in zip(world.workers.values(), centres(3), strict=True):
        worker.gossip.strategy.exchange = replace(worker.gossip.strategy.exchange, encoding=encoding)
        place_at(worker, point)
    return world


def state_of(worker: Worker) -> State:
    assert isinstance(worker.gossip.state, State)
    return worker.gossip.state


def advance(world: World, now: float, *names: str) -> None:
    for name in names:
        world.workers[name].step(now)
        world.carry(name, now)


def test_a_step_awaits_the_frames_of_all_living_neighbours() -> None:
    world = rounds()
    ada = world.workers["ada"]
    assert ada.gossip.awaited(0.0) == frozenset()
    advance(world, 0.0, "ada")
    assert ada.gossip.awaited(0.0) == {"bo", "cy"}
    advance(world, 0.1, "bo")
    assert ada.gossip.awaited(0.1) == {"cy"}
    advance(world, 0.2, "cy")
    assert ada.gossip.awaited(0.2) == frozenset()
    assert ada.gossip.endpoint.lockstep is not None
    assert ada.gossip.endpoint.lockstep.waited_s == pytest.approx(0.2)


def test_frames_that_came_while_waiting_are_mixed_and_settled() -> None:
    world = rounds()
    advance(world, 0.0, *NAMES)
    ada = world.workers["ada"]
    assert ada.gossip.awaited(0.0) == frozenset()
    assert ada.gossip.endpoint.mailbox.collect().settlements == []
    ada.step(0.1)
    collected = ada.gossip.endpoint.mailbox.collect()
    assert [(s.sender, s.absorbed) for s in collected.settlements] == [("bo", True), ("cy", True)]
    np.testing.assert_allclose(point_of(ada), centres(3).mean(axis=0), atol=1e-6)
    assert ada.learner.ledger.exchanges == 2


def test_a_frame_of_the_round_after_is_kept_for_it() -> None:
    world = rounds()
    advance(world, 0.0, *NAMES)
    advance(world, 0.1, "bo")  # one ahead, as it may be
    ada = world.workers["ada"]
    assert ada.gossip.awaited(0.1) == frozenset()
    advance(world, 0.1, "ada")
    assert [number for _, number in state_of(ada).mixing.frames] == [1]
    assert ada.gossip.awaited(0.2) == {"cy"}
    advance(world, 0.2, "cy")
    advance(world, 0.3, "ada")
    assert ada.learner.ledger.links["bo"].exchanges == 2
    assert state_of(ada).mixing.frames == {}


def test_one_who_dies_in_mid_round_leaves_its_share_with_me() -> None:
    world = rounds()
    ada = world.workers["ada"]
    advance(world, 0.0, "ada", "bo")
    assert ada.gossip.awaited(0.0) == {"cy"}
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=frozenset({PeerName("bo")})), ())
    assert ada.gossip.awaited(0.1) == frozenset()
    ada.step(0.1)
    a, b, _ = centres(3)
    np.testing.assert_allclose(point_of(ada), a + (b - a) / 3, atol=1e-6)


def test_a_round_goes_on_without_one_who_is_too_late_and_says_so() -> None:
    world = rounds(timeout_s=2.0)
    ada = world.workers["ada"]
    advance(world, 0.0, "ada", "bo")
    assert ada.gossip.awaited(1.0) == {"cy"}
    assert ada.gossip.awaited(3.0) == frozenset()
    ada.step(3.0)
    world.carry("ada", 3.0)
    assert ada.learner.ledger.warnings == ["rounds have gone on without neighbours that were too late: cy"]
    advance(world, 3.1, "cy", "bo")  # a frame of the round that is over is settled, and not used
    before = ada.learner.ledger.links["bo"].exchanges
    ada.step(3.2)
    assert ada.learner.ledger.links["bo"].exchanges == before + 1
    assert "cy" not in ada.learner.ledger.links


def test_one_who_returns_catches_up_with_the_round_of_its_neighbours() -> None:
    world = rounds()
    del world.workers["cy"]
    for number in range(-1, 10):
        for name in ("ada", "bo"):
            others = frozenset(map(PeerName, NAMES if number == 9 else world.workers)) - {name}
            world.workers[name].gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=others), ())
        if number >= 0:
            advance(world, float(number), "ada", "bo")
    cy = make_quadratic("cy", make_strategy("dpsgd"), NAMES, "complete")
    world.workers["cy"] = cy
    cy.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=frozenset({PeerName("ada"), PeerName("bo")})), ())
    for number in range(10, 20):
        for name in ("cy", "ada", "bo"):
            if not world.workers[name].gossip.awaited(float(number)):
                advance(world, float(number), name)
    numbers = [worker.gossip.endpoint.cadence.exchanges for worker in world.workers.values()]
    assert min(numbers) > 15
    assert max(numbers) - min(numbers) <= 1, numbers
    assert cy.learner.ledger.exchanges > 8
    assert world.workers["ada"].learner.ledger.links["cy"].exchanges > 4


def test_half_precision_keeps_the_mean_because_both_ends_take_what_was_read() -> None:
    world = rounds(encoding="half")
    before = np.stack([point_of(worker) for worker in world.workers.values()]).mean(axis=0)
    for step in range(30):
        world.step(float(step))
    after = np.stack([point_of(worker) for worker in world.workers.values()])
    np.testing.assert_allclose(after.mean(axis=0), before, atol=1e-6)
    assert np.ptp(after, axis=0).max() < 2e-3


@pytest.mark.parametrize("spoilt", ["nan", "shape"])
def test_a_spoilt_frame_is_refused_and_the_round_goes_on(spoilt: str) -> None:
    world = rounds()
    advance(world, 0.0, "ada", "cy")
    bo, ada = world.workers["bo"], world.workers["ada"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.gossip.endpoint.mailbox.collect().parcels if slot.peer == "ada")
    arrays = {"at": torch.full((5,), float("nan")) if spoilt == "nan" else torch.zeros(7)}
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel.with_content(payload=pack(arrays, "raw")), 99, 0.0))
    assert ada.gossip.awaited(0.1) == frozenset()
    ada.step(0.1)
    refused = [s for s in ada.gossip.endpoint.mailbox.collect().settlements if not s.absorbed]
    assert [s.sender for s in refused] == ["bo"]
    a, _, c = centres(3)
    np.testing.assert_allclose(point_of(ada), a + (c - a) / 3, atol=1e-6)


def test_a_lie_about_degrees_gives_nobody_more_than_a_neighbours_share() -> None:
    world = rounds()
    advance(world, 0.0, *NAMES)
    ada = world.workers["ada"]
    for came in ada.gossip.endpoint.mailbox.take():
        ada.gossip.endpoint.mailbox.deliver(came.with_content(degree=-7) if came.peer == "bo" else came)
    ada.step(0.1)
    np.testing.assert_allclose(point_of(ada), centres(3).mean(axis=0), atol=1e-6)


def test_one_who_is_done_refuses_frames_and_is_not_awaited() -> None:
    world = rounds()
    advance(world, 0.0, *NAMES)
    ada, bo = world.workers["ada"], world.workers["bo"]
    finish(ada.gossip, 0.1)
    publish_final(ada.gossip, 0.1)
    serve(ada.gossip, 0.1)
    collected = ada.gossip.endpoint.mailbox.collect()
    assert {s.reason for s in collected.settlements} == {"done training"}
    assert collected.parcels == []
    alive = frozenset({PeerName("ada"), PeerName("cy")})
    bo.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=alive, done=frozenset({PeerName("ada")})), ())
    advance(world, 0.2, "cy", "bo")
    assert bo.gossip.awaited(0.3) == frozenset()
    assert state_of(bo).mixing.recipients == ("cy",)


def test_no_frame_goes_out_on_a_busy_link_or_of_a_model_that_diverged() -> None:
    ada = make_quadratic("ada", make_strategy("dpsgd"), NAMES, "complete")
    view = View(out_neighbours=(PeerName("bo"), PeerName("cy")), busy=frozenset({PeerName("bo")}))
    (parcel,) = ada.gossip.strategy.publish(ada.gossip.state, ada.learner, view)
    assert parcel.to == ("cy",)
    assert parcel.degree == 1
    place_at(ada, np.full(5, np.inf))
    assert ada.gossip.strategy.publish(ada.gossip.state, ada.learner, view) == []
    assert any("not finite" in warning for warning in ada.learner.ledger.warnings)

"""How long to wait for a confirmation: what is learned from those that came."""

from __future__ import annotations

import pytest

from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Confirm, Consignment, State
from gossipdistill.protocol.patience import Patience

from .harness import World


def test_without_an_answer_it_waits_as_long_as_it_may() -> None:
    assert Patience(0.3, 2.0).seconds() == 2.0


def test_it_follows_the_answers_within_its_bounds() -> None:
    quick, slow = Patience(0.3, 2.0), Patience(0.3, 2.0)
    for _ in range(50):
        quick.answer(0.01)
        slow.answer(0.5)
    assert quick.seconds() == 0.3
    assert slow.seconds() == pytest.approx(0.5, abs=0.01)
    slow.answer(30.0)
    assert slow.seconds() == 2.0


def test_the_first_two_answers_follow_the_formula() -> None:
    patience = Patience(0.0, 100.0)
    patience.answer(1.0)
    assert patience.seconds() == pytest.approx(1.0 + 4 * 0.5)
    patience.answer(2.0)
    deviation = 0.75 * 0.5 + 0.25 * 1.0
    assert patience.seconds() == pytest.approx(1.125 + 4 * deviation)


def test_it_doubles_with_each_loss_in_a_row_until_an_answer_comes() -> None:
    patience = Patience(0.3, 2.0)
    for _ in range(50):
        patience.answer(0.01)
    waits = []
    for _ in range(5):
        patience.lost()
        waits.append(patience.seconds())
    assert waits == pytest.approx([0.6, 1.2, 2.0, 2.0, 2.0])
    patience.heard()
    assert patience.seconds() == pytest.approx(0.3)


def test_under_loss_a_link_is_not_idle_until_the_longest_time_out() -> None:
    world = World("ada", "bo", seed=3)
    world.run(1.0)
    value = 0
    for loss in (0.0, 0.2):
        world.loss = loss
        before = len(world["bo"].arrivals)
        for _ in range(400):
            value += 1
            world.publish("ada", "bo", value)
            world.publish("bo", "ada", value)
            world.run(0.05)
        share = (len(world["bo"].arrivals) - before) / 400
        # A fifth of all messages is lost, confirmations included; with a time-out of two seconds the share was 0.16.
        assert share >= (0.99, 0.35)[loss > 0]


def test_a_version_that_was_sent_twice_teaches_nothing() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    world.cut.add(("ada", "bo"))
    world.publish("ada", "bo", 1)
    world.run(DEFAULT_LIMITS.confirm_timeout_s - 0.1)
    world.cut.clear()
    world.run(1.0)
    assert len(world.said("ada", "bo", State)) == 2
    assert world.said("bo", "ada", Confirm)
    assert not world["ada"].peer._delivery._patience[world["bo"].peer.me.name].answered


def test_mass_that_is_lost_is_sent_again_as_soon_as_receipts_usually_come() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    for value in range(1, 11):
        world.consign("ada", "bo", value, 0.5)
        world.run(0.1)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 11, 0.5)
    world.run(DEFAULT_LIMITS.consign_patience_min_s / 2)
    world.cut.clear()
    world.run(DEFAULT_LIMITS.consign_patience_min_s)
    assert world["bo"].values("ada")[-1] == 11  # a peer without experience would still wait, up to `consign_timeout_s`
    assert not world["ada"].peer.unsettled()


def test_a_receipt_that_answers_one_of_two_sendings_teaches_nothing() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 1, 0.5)
    world.run(DEFAULT_LIMITS.consign_timeout_s - 0.1)
    world.cut.clear()
    world.run(1.0)
    assert len(world.said("ada", "bo", Consignment)) == 2
    assert not world["ada"].peer.unsettled()
    assert not world["ada"].peer._consignments._arriving[world["bo"].peer.me.name].answered
    assert not world["ada"].peer._consignments._settling


def test_a_parcel_for_a_slow_learner_is_sent_again_long_before_it_would_be_settled() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    world["bo"].learning = False
    for value in range(1, 6):  # each is held for two seconds
        world.consign("ada", "bo", value, 0.5)
        world.run(2.0)
        world.settle("bo", absorbed=True)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 6, 0.5)
    world.run(DEFAULT_LIMITS.consign_patience_min_s / 2)
    world.cut.clear()
    world.run(DEFAULT_LIMITS.consign_patience_min_s)
    assert world["bo"].values("ada")[-1] == 6


def test_a_way_that_becomes_longer_is_learned_although_all_is_sent_twice_at_first() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    for way_s, sendings in ((0.005, 1.0), (0.2, 1.2)):
        world.delay_s, before = (way_s, way_s), len(world.said("ada", "bo", Consignment))
        for value in range(40):
            world.consign("ada", "bo", value, 0.5)
            world.run(1.0)
        assert (len(world.said("ada", "bo", Consignment)) - before) / 40 <= sendings, way_s

"""How long to wait for a confirmation: what is learned from those that came."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import (
    Confirm,
    Content,
    DeliveryClass,
    Parcel,
    Receipt,
    ReliableMessage,
    Slot,
    State,
    Verdict,
)
from gossipdistill.protocol.reliable_messages import ReliableMessages
from gossipdistill.protocol.retransmission import RetransmissionTimeout

from .harness import World, living, payload

BO = PeerName("bo")


def reliable(topic: str, number: int) -> ReliableMessage:
    return ReliableMessage(number, Content(topic, payload(number), number, number, "", DeliveryClass.MASS, 0.5, 1))


def mass(value: int, size: int = 8) -> Parcel:
    return Parcel((BO,), Content("m", payload(value, size), value, value, delivery=DeliveryClass.MASS, weight=0.5))


def test_without_an_answer_it_waits_as_long_as_it_may() -> None:
    assert RetransmissionTimeout(0.3, 2.0).seconds() == 2.0


def test_it_follows_the_answers_within_its_bounds() -> None:
    quick, slow = RetransmissionTimeout(0.3, 2.0), RetransmissionTimeout(0.3, 2.0)
    for _ in range(50):
        quick.answer(0.01)
        slow.answer(0.5)
    assert quick.seconds() == 0.3
    assert slow.seconds() == pytest.approx(0.5, abs=0.01)
    slow.answer(30.0)
    assert slow.seconds() == 2.0


def test_the_first_two_answers_follow_the_formula() -> None:
    timeout = RetransmissionTimeout(0.0, 100.0)
    timeout.answer(1.0)
    assert timeout.seconds() == pytest.approx(1.0 + 4 * 0.25)
    timeout.answer(2.0)
    deviation = 0.75 * 0.25 + 0.25 * 1.0
    assert timeout.seconds() == pytest.approx(1.125 + 4 * deviation)


def test_it_doubles_with_each_loss_in_a_row_until_an_answer_comes() -> None:
    timeout = RetransmissionTimeout(0.3, 2.0)
    for _ in range(50):
        timeout.answer(0.01)
    waits = []
    for _ in range(5):
        timeout.lost()
        waits.append(timeout.seconds())
    assert waits == pytest.approx([0.6, 1.2, 2.0, 2.0, 2.0])
    timeout.heard()
    assert timeout.seconds() == pytest.approx(0.3)


def test_under_loss_a_link_is_not_idle_until_the_longest_time_out() -> None:
    world = World("ada", "bo", seed=3)
    world.run(1.0)
    value = 0
    for loss in (0.0, 0.2):
        world.loss = loss
        before = len(world["bo"].received)
        for _ in range(400):
            value += 1
            world.publish("ada", "bo", value)
            world.publish("bo", "ada", value)
            world.run(0.05)
        share = (len(world["bo"].received) - before) / 400
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
    assert not world["ada"].peer.states.sender.timeouts[world["bo"].peer.me.name].answered


def test_mass_that_is_lost_is_sent_again_as_soon_as_receipts_usually_come() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    for value in range(1, 11):
        world.consign("ada", "bo", value, 0.5)
        world.run(0.1)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 11, 0.5)
    world.run(DEFAULT_LIMITS.consign_timeout_min_s / 2)
    world.cut.clear()
    world.run(DEFAULT_LIMITS.consign_timeout_min_s)
    assert world["bo"].values("ada")[-1] == 11  # a peer without experience would still wait, up to `consign_timeout_s`
    assert not world["ada"].peer.reliable_messages.sender.in_flight()


def test_a_receipt_that_answers_one_of_two_sendings_teaches_nothing() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 1, 0.5)
    world.run(DEFAULT_LIMITS.consign_timeout_min_s - 0.01)
    world.cut.clear()
    world.run(1.0)
    assert len(world.said("ada", "bo", ReliableMessage)) == 2
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert not world["ada"].peer.reliable_messages.sender.resending.arriving[world["bo"].peer.me.name, 0].answered
    assert not world["ada"].peer.reliable_messages.sender.resending._settling


def test_a_parcel_for_a_slow_learner_is_sent_again_long_before_it_would_be_settled() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    world["bo"].learning = False
    for value in range(1, 6):  # each is held for two seconds
        world.consign("ada", "bo", value, 0.5)
        world.run(2.0)
        world.settle("bo", absorbed=True)
        world.run(0.01)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 6, 0.5)
    world.run(DEFAULT_LIMITS.consign_timeout_min_s / 2)
    world.cut.clear()
    world.run(DEFAULT_LIMITS.consign_timeout_min_s)
    assert world["bo"].values("ada")[-1] == 6


def test_a_way_that_becomes_longer_is_learned_although_all_is_sent_twice_at_first() -> None:
    world = World("ada", "bo")
    world.run(1.0)
    for way_s, sendings in ((0.005, 1.0), (0.2, 1.3)):
        world.delay_s, before = (way_s, way_s), len(world.said("ada", "bo", ReliableMessage))
        for value in range(40):
            world.consign("ada", "bo", value, 0.5)
            world.run(1.0)
        assert (len(world.said("ada", "bo", ReliableMessage)) - before) / 40 <= sendings, way_s


def test_mass_that_is_lost_again_and_again_is_sent_again_after_the_same_time() -> None:
    """That one message was lost says nothing of the next."""
    world = World("ada", "bo")
    world.run(1.0)
    for value in range(1, 11):
        world.consign("ada", "bo", value, 0.5)
        world.run(0.1)
    world.cut.add(("ada", "bo"))
    world.consign("ada", "bo", 11, 0.5)
    world.run(0.6)
    sent_s = [sent.at_s for sent in world.said("ada", "bo", ReliableMessage)][10:]
    gaps_s = [after - before for before, after in pairwise(sent_s)]
    assert len(gaps_s) >= 8
    assert gaps_s == pytest.approx([DEFAULT_LIMITS.consign_timeout_min_s] * len(gaps_s), abs=1e-4)


def test_what_is_sent_in_vain_for_long_is_sent_ever_more_seldom() -> None:
    timeout_s, tries = DEFAULT_LIMITS.consign_timeout_min_s, DEFAULT_LIMITS.consign_tries
    ours, sent_s = ReliableMessages(DEFAULT_LIMITS, Boot(1), living()), [0.0]
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    while sent_s[-1] < 60.0:
        sent_s.append(ours.next_timeout())
        ours.handle_timeout(sent_s[-1])
    gaps_s = [after - before for before, after in pairwise(sent_s)]
    assert gaps_s[:tries] == pytest.approx([timeout_s] * tries, abs=1e-4)
    assert gaps_s[tries : tries + 4] == pytest.approx([timeout_s * factor for factor in (2, 4, 8, 16)], abs=1e-2)
    assert max(gaps_s) == pytest.approx(DEFAULT_LIMITS.consign_timeout_max_s, abs=1e-2)


def test_a_large_body_is_sent_again_after_what_such_bodies_have_taken_and_ever_more_seldom_sooner() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    size = int(DEFAULT_LIMITS.confirm_bytes_per_s)  # a second, as long as nothing is known of the link
    ours.sender.publish(Slot(BO, "m", ""), mass(1, size), 0.0)
    assert ours.next_timeout() == pytest.approx(1.0 + DEFAULT_LIMITS.consign_timeout_min_s, abs=0.1)
    ours.sender.receipt(BO, Receipt("m", 1, Verdict.ABSORBED), 0.3)
    ours.sender.publish(Slot(BO, "m", ""), mass(2, size), 10.0)
    sent_s = [10.0]
    for _ in range(DEFAULT_LIMITS.consign_tries_few + 2):
        sent_s.append(ours.next_timeout())
        ours.handle_timeout(sent_s[-1])
    gaps_s = [after - before for before, after in pairwise(sent_s)]
    assert gaps_s == pytest.approx([0.6] * DEFAULT_LIMITS.consign_tries_few + [1.2, 2.4], abs=1e-3)


def test_what_is_learned_of_large_bodies_says_nothing_of_small_ones() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1, int(DEFAULT_LIMITS.confirm_bytes_per_s)), 0.0)
    ours.sender.receipt(BO, Receipt("m", 1, Verdict.ABSORBED), 0.9)
    ours.sender.publish(Slot(BO, "m", ""), mass(2), 10.0)
    assert ours.next_timeout() == pytest.approx(10.0 + DEFAULT_LIMITS.consign_timeout_min_s)


def test_a_peer_that_has_settled_what_was_sent_again_is_lossy_until_much_needed_one_sending() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    ours.handle_timeout(ours.next_timeout())
    assert not ours.sender.lossy
    ours.sender.receipt(BO, Receipt("m", 1, Verdict.ABSORBED), 0.2)
    for number in range(2, 2 + DEFAULT_LIMITS.lossy_parcels):
        assert ours.sender.lossy == {BO}
        ours.sender.publish(Slot(BO, "m", ""), mass(number), float(number))
        ours.sender.receipt(BO, Receipt("m", number, Verdict.ABSORBED), number + 0.01)
    assert not ours.sender.lossy


def lossy() -> ReliableMessages:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    ours.handle_timeout(ours.next_timeout())
    ours.sender.receipt(BO, Receipt("m", 1, Verdict.ABSORBED), 0.2)
    assert ours.sender.lossy == {BO}
    return ours


def test_two_receipts_for_one_parcel_show_that_nothing_was_lost() -> None:
    ours = lossy()
    ours.sender.receipt(BO, Receipt("m", 1, Verdict.ABSORBED), 0.3)
    assert not ours.sender.lossy


def test_who_is_dead_or_silent_is_not_lossy() -> None:
    ours = lossy()
    ours.sender.lost(BO, 2.0, False, "silent")
    assert not ours.sender.lossy
    ours = lossy()
    ours.sender.publish(Slot(BO, "m", ""), mass(2), 0.2)
    while ours.sender.lossy:
        now = ours.next_timeout()
        ours.handle_timeout(now)
    silent_s = DEFAULT_LIMITS.lossy_tries * DEFAULT_LIMITS.consign_timeout_min_s
    assert now - 0.2 == pytest.approx(silent_s, abs=2 * DEFAULT_LIMITS.consign_timeout_min_s)

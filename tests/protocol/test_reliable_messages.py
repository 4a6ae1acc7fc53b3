"""Mass and streams: once each, whatever the network does, and what becomes of them when somebody dies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import (
    Arrival,
    Content,
    DeliveryClass,
    Envelope,
    Intake,
    Parcel,
    Receipt,
    ReliableMessage,
    Returned,
    Settlement,
    Slot,
    StatusQuery,
    Verdict,
    arrivals_of,
)
from gossipdistill.presence import Claim, ClaimKind, Leave, Ping
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.reliable_messages import ReliableMessages

from .harness import World, living, payload, value_of

BO = PeerName("bo")


def reliable(topic: str, number: int) -> ReliableMessage:
    return ReliableMessage(number, Content(topic, payload(number), number, number, "", DeliveryClass.MASS, 0.5, 1))


def mass(value: int) -> Parcel:
    return Parcel((BO,), Content("m", payload(value), value, value, delivery=DeliveryClass.MASS, weight=0.5))


@pytest.fixture
def world() -> World:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    assert world.all_alive()
    return world


def test_mass_arrives_once_with_its_weight_and_frees_its_link(world: World) -> None:
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    (arrival,) = world["bo"].received
    assert (value_of(arrival), arrival.weight, type(arrival)) == (7, 0.25, Arrival)
    assert len(world["ada"].freed) == 1
    assert not world["ada"].peer.reliable_messages.sender.in_flight()


@pytest.mark.parametrize("seed", range(20))
def test_mass_arrives_once_under_loss_duplication_and_reordering(world: World, seed: int) -> None:
    world.random.seed(seed)
    world.loss, world.duplication, world.delay_s = 0.5, 0.3, (0.0, 0.5)
    for value in range(1, 21):
        world.consign("ada", "bo", value, 1.0)
        while world["ada"].peer.reliable_messages.sender.in_flight():
            world.run(1.0)
            assert world.now < 2000.0
    assert world["bo"].values("ada") == list(range(1, 21)), f"seed {seed}"


@pytest.mark.parametrize("held_is_lost", [False, True])
def test_a_body_is_not_sent_again_once_it_is_known_to_be_held(world: World, held_is_lost: bool) -> None:
    world["bo"].learning = False
    if held_is_lost:
        world.cut.add(("bo", "ada"))
    world.consign("ada", "bo", 7, 0.25)
    world.run(2 * DEFAULT_LIMITS.held_after_s)
    world.cut.clear()
    world.run(30.0)
    assert len(world.said("ada", "bo", ReliableMessage)) == 1 + held_is_lost  # a second is answered with "held" again
    assert 3 <= len(world.said("ada", "bo", StatusQuery)) <= 20  # ever more seldom
    world.settle("bo", absorbed=True)
    world.run(0.1)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()


def test_a_lost_receipt_is_given_again_and_the_mass_is_not(world: World) -> None:
    world.cut.add(("bo", "ada"))
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.05)
    world.cut.clear()
    world.run(3.0)
    assert world["bo"].values("ada") == [7]
    assert [sent.message.verdict for sent in world.said("bo", "ada", Receipt)] == [Verdict.ABSORBED] * 2  # type: ignore[union-attr]
    assert not world["ada"].peer.reliable_messages.sender.in_flight()


def test_what_is_refused_is_returned_with_the_reason(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    world.settle("bo", absorbed=False, reason="not finite")
    world.run(0.1)
    (returned,) = world["ada"].received
    assert isinstance(returned, Returned)
    assert value_of(returned) == 7
    assert returned.weight == 0.25
    assert returned.reason == "refused by bo: not finite"
    assert EventKind.CAME_HOME in world["ada"].kinds("bo")
    assert len(world["ada"].freed) == 1


def test_what_was_on_the_wire_to_a_dead_peer_is_parked_and_goes_on_when_the_same_process_is_back(world: World) -> None:
    world.cut_off("bo")
    world.consign("ada", "bo", 7, 0.25)
    world.run(20.0)
    assert EventKind.PARKED in world["ada"].kinds("bo")
    assert [one.parked for _, one in world["ada"].peer.reliable_messages.sender.in_flight()] == [True]
    assert world["ada"].freed == []
    assert world["ada"].received == []
    world.cut.clear()
    world.run(5.0)
    assert world["bo"].values("ada") == [7]
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.0


def test_what_was_on_the_wire_to_a_process_that_has_ended_is_written_off_and_never_reclaimed(world: World) -> None:
    world.kill("bo")
    world.consign("ada", "bo", 7, 0.25)
    world.run(20.0)
    assert len(world["ada"].peer.reliable_messages.sender.in_flight()) == 1
    world.start("bo")
    world.run(3.0)
    assert world["bo"].received == []
    assert world["ada"].received == []
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.25
    assert EventKind.WRITTEN_OFF in world["ada"].kinds("bo")
    assert len(world["ada"].freed) == 1
    world.consign("ada", "bo", 8, 0.125)
    world.run(0.5)
    assert world["bo"].values("ada") == [8]


def test_what_was_never_on_the_wire_is_returned_when_its_recipient_dies(world: World) -> None:
    world.kill("bo")
    world.run(2.5)  # suspect: nothing is sent to it any more
    world.consign("ada", "bo", 7, 0.25)
    assert not world.said("ada", "bo", ReliableMessage)
    world.run(20.0)
    (returned,) = world["ada"].received
    assert isinstance(returned, Returned)
    assert returned.weight == 0.25
    assert "bo" in returned.reason
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.0


def test_what_a_peer_that_leaves_had_not_absorbed_is_returned(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.consign("cy", "bo", 8, 0.0, stream=True)
    world.run(0.1)
    world.leave("bo")
    world.run(0.5)
    (returned,) = world["ada"].received
    assert isinstance(returned, Returned)
    assert (returned.weight, returned.reason) == (0.25, "bo has left without it")
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.0
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert not world["cy"].peer.reliable_messages.sender.in_flight()
    assert not world["cy"].received  # frames of a stream are worth nothing without their reader


def test_what_a_peer_that_leaves_had_absorbed_is_gone_although_the_receipt_was_lost(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    world.cut.add(("bo", "ada"))
    world.settle("bo", absorbed=True)
    world.cut.clear()
    world.leave("bo")
    world.run(0.5)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert not world["ada"].received
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.0


def test_what_was_on_the_wire_is_written_off_where_the_last_word_says_nothing_of_it(world: World) -> None:
    """As an earlier version says it, or a process that does not know whether it had accepted me."""
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    boots = {name: world[name].peer.me.boot for name in ("ada", "bo")}
    world.inject("ada", Envelope(BO, boots["bo"], "ada", boots["ada"], Leave("finished")))
    assert world["ada"].peer.reliable_messages.sender.written_off == 0.25
    assert not world["ada"].peer.reliable_messages.sender.in_flight()


def test_a_last_word_speaks_of_its_own_process_alone() -> None:
    """What went to the process before it is the matter of whoever hears that there is a new one."""
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    ours.sender.parted(BO, Boot(2), (), 0.1)
    assert [one.number for _, one in ours.sender.in_flight()] == [1]
    ours.receiver.arrived(BO, Boot(9), reliable("m", 1), 0.0)
    ours.receiver.settle(Settlement(BO, "m", ours.box.received[-1].version, absorbed=True))
    assert ours.receiver.absorbed_of(BO, Boot(9)) == (("m", 1),)
    assert ours.receiver.absorbed_of(BO, Boot(10)) == ()
    ours.receiver.arrived(BO, Boot(9), reliable("m", 2), 0.0)
    ours.receiver.settle(Settlement(BO, "m", ours.box.received[-1].version, False, "diverged"))
    assert ours.receiver.absorbed_of(BO, Boot(9)) == (("m", 1),)


def test_a_process_that_crashes_leaves_open_what_it_had_absorbed(world: World) -> None:
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    world["bo"].peer.membership.leave("out of memory", crashed=True)
    world.run(0.0)
    world._pump(world["bo"])
    world.kill("bo")
    world.run(0.5)
    assert [one.parked for _, one in world["ada"].peer.reliable_messages.sender.in_flight()] == [True]


def test_a_payload_that_no_reader_would_accept_is_returned_at_once(world: World) -> None:
    world["ada"].peer.limits = world.limits
    limits = world.limits.__class__(payload_bytes_max=4)
    reliable = world["ada"].peer.reliable_messages
    reliable.sender.limits = reliable.receiver.limits = limits
    world.consign("ada", "bo", 7, 0.25)
    (returned,) = world["ada"].received
    assert isinstance(returned, Returned)
    assert returned.reason.startswith("not sent")
    assert len(world["ada"].freed) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_arrives_in_order_two_at_a_time(world: World, seed: int) -> None:
    world.random.seed(seed)
    world.loss, world.duplication, world.delay_s = 0.3, 0.3, (0.0, 0.5)
    value = 0
    while value < 20:
        while len(world["ada"].peer.reliable_messages.sender.in_flight()) < 2 and value < 20:
            value += 1
            world.consign("ada", "bo", value, 0.0, stream=True)
        world.run(1.0)
    world.run(60.0)
    assert world["bo"].values("ada") == list(range(1, 21)), f"seed {seed}"


def test_a_stream_goes_on_after_frames_were_dropped_for_a_death_that_was_none(world: World) -> None:
    world.cut_off("bo")
    world.consign("ada", "bo", 1, 0.0, stream=True)
    world.consign("ada", "bo", 2, 0.0, stream=True)
    world.run(20.0)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert len(world["ada"].freed) == 2
    world.cut.clear()
    world.run(5.0)
    world.consign("ada", "bo", 3, 0.0, stream=True)
    world.consign("ada", "bo", 4, 0.0, stream=True)
    world.run(1.0)
    assert world["bo"].values("ada") == [3, 4]


@pytest.mark.parametrize("waiting", [1, 2])
def test_a_learner_that_does_not_look_holds_two_frames_whatever_its_sender_has_given_up(
    world: World, waiting: int
) -> None:
    """Found by a storm: it was stopped, and held dead; its sender had dropped what waited for its learner, and went on
    when it was back."""
    bo = world["bo"]
    bo.learning = False
    for value in range(waiting):
        world.consign("ada", "bo", value, 0.0, stream=True)
    world.run(0.1)
    world.cut_off("bo")
    world.run(20.0)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    world.cut.clear()
    world.run(5.0)
    world.consign("ada", "bo", 2, 0.0, stream=True)
    world.consign("ada", "bo", 3, 0.0, stream=True)
    world.run(0.1)
    assert bo.values("ada") == ([0, 2] if waiting == 1 else [0, 1])
    bo.learning = True
    for arrival in arrivals_of(bo.received)[:2]:
        bo.peer.reliable_messages.receiver.settle(
            Settlement(arrival.sender, arrival.topic, arrival.version, absorbed=True)
        )
    world.run(9.0)
    assert bo.values("ada") == [*range(waiting), 2, 3]
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert bo.peer.scores.turned_away_in_words["ada: full"] > 0


def test_a_sender_has_room_for_so_many_topics_and_the_next_is_returned() -> None:
    limits = DEFAULT_LIMITS.__class__(slots_per_peer_max=2)
    ours = ReliableMessages(limits, Boot(1), living())
    for number, topic in enumerate(["a", "b", "c"], start=1):
        ours.receiver.arrived(BO, Boot(9), reliable(topic, number), 0.0)
    assert [arrival.topic for arrival in ours.box.received] == ["a", "b"]
    assert ours.box.out == [(BO, 9, Receipt("c", 3, Verdict.REFUSED, "too many topics"))]
    ours.receiver.enquired(BO, Boot(9), StatusQuery("c", 3))
    assert len(ours.box.out) == 1


def large(topic: str, number: int, stream: bool = False) -> ReliableMessage:
    delivery = DeliveryClass.STREAM if stream else DeliveryClass.MASS
    return ReliableMessage(number, Content(topic, payload(number, 60 * 1024), number, number, "", delivery, 0.5, 1))


def test_what_waits_of_one_sender_is_bounded_in_bytes_over_all_topics_and_processes() -> None:
    limits = DEFAULT_LIMITS.__class__(sender_bytes_max=130 * 1024)
    ours = ReliableMessages(limits, Boot(1), living(9))
    came = [ours.receiver.arrived(BO, Boot(9), large(f"m{number}", 1), 0.0) for number in range(5)]
    assert came == ["", "", "full", "full", "full"]
    assert ours.receiver.arrived(BO, Boot(10), large("m0", 1), 0.0) == "full", (
        "a new process of it has no room of its own"
    )
    assert ours.receiver.arrived(PeerName("cy"), Boot(10), large("m0", 1), 0.0) == ""
    first = ours.box.received[0]
    ours.receiver.settle(Settlement(BO, first.topic, first.version, absorbed=True))
    assert ours.receiver.arrived(BO, Boot(10), large("m0", 1), 0.0) == ""
    ours.receiver.intake = Intake(largest=60 * 1024)
    came = [ours.receiver.arrived(BO, Boot(10), large(f"m{number}", 1), 0.0) for number in range(2, 7)]
    assert came == [""] * 3 + ["full"] * 2, "and four as large as the largest of my own"


def test_frames_that_come_before_their_turn_take_room_too() -> None:
    limits = DEFAULT_LIMITS.__class__(sender_bytes_max=130 * 1024)
    ours = ReliableMessages(limits, Boot(1), living(9))
    came = [ours.receiver.arrived(BO, Boot(9), large(f"s{number}", 2, stream=True), 0.0) for number in range(4)]
    assert came == ["", "", "full", "full"]
    assert ours.box.received == []


def test_one_payload_has_room_however_large_it_is() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS.__class__(sender_bytes_max=1024), Boot(1), living(9))
    assert [ours.receiver.arrived(BO, Boot(9), large(topic, 1), 0.0) for topic in "ab"] == ["", "full"]


def test_of_mass_one_parcel_waits_for_the_learner_and_the_next_is_sent_again() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living(9))
    came = [ours.receiver.arrived(BO, Boot(9), reliable("m", number), 0.0) for number in range(1, 10_000)]
    assert came == ["", *["full"] * 9_998]
    ours.receiver.settle(Settlement(BO, "m", ours.box.received[0].version, absorbed=True))
    assert ours.receiver.arrived(BO, Boot(9), reliable("m", 2), 0.0) == ""
    assert [one.version.number for one in ours.box.received] == [1, 2]


def test_a_new_process_of_the_sender_begins_to_count_anew() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.receiver.arrived(BO, Boot(9), reliable("m", 5), 0.0)
    ours.receiver.arrived(BO, Boot(10), reliable("m", 1), 0.0)
    first, second = ours.box.received
    assert (first.version, second.version) == ((9, 5), (10, 1))
    ours.receiver.settle(Settlement(BO, "m", first.version, absorbed=True))
    assert ours.box.out == []  # nobody is left who waits for that receipt
    ours.receiver.settle(Settlement(BO, "m", second.version, absorbed=True))
    assert ours.box.out == [(BO, 10, Receipt("m", 1, Verdict.ABSORBED))]


def test_what_an_ended_process_of_the_sender_had_sent_is_not_said_to_be_held_to_the_new_one() -> None:
    """Its number 5 would be one that the new process has yet to give away."""
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.receiver.arrived(BO, Boot(9), reliable("m", 5), 0.0)
    ours.receiver.arrived(BO, Boot(10), reliable("m", 1), 0.0)
    ours.handle_timeout(DEFAULT_LIMITS.held_after_s)
    assert ours.box.out == [(BO, 10, Receipt("m", 1, Verdict.HELD))]


def test_a_verdict_on_what_an_ended_process_had_sent_settles_nothing_of_its_successor(world: World) -> None:
    """Both have given the number 1 away; the reader has not heard a parcel of the second yet."""
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.5)
    world.kill("ada")
    world.start("ada")
    world.run(0.5)
    world.delay_s = (0.4, 0.4)
    world.consign("ada", "bo", 8, 0.5)
    world.settle("bo", absorbed=True)
    world.run(0.45)  # the verdict on 7 has arrived, one on 8 could not
    assert [one.parcel.weight for _, one in world["ada"].peer.reliable_messages.sender.in_flight()] == [0.5]
    world.run(1.0)
    assert world["bo"].values("ada") == [7, 8]


def test_a_parcel_of_which_both_sendings_were_held_doubles_the_patience_with_its_recipient() -> None:
    """Its first sending was not lost, it only took longer than I waited."""
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    for number in range(1, 20):
        ours.sender.publish(Slot(BO, "m", ""), mass(number), 0.0)
        ours.sender.receipt(BO, Receipt("m", number, Verdict.ABSORBED), 0.1)
    timeout_s = ours.sender.resending.arriving[BO, 0].seconds()
    ours.sender.publish(Slot(BO, "m", ""), mass(20), 1.0)
    ours.handle_timeout(ours.next_timeout())
    held = Receipt("m", 20, Verdict.HELD)
    ours.sender.receipt(BO, held, 2.0)
    assert ours.sender.resending.arriving[BO, 0].seconds() == timeout_s
    ours.sender.receipt(BO, held, 2.1)
    assert ours.sender.resending.arriving[BO, 0].seconds() == pytest.approx(2 * timeout_s)
    assert [one.sendings for _, one in ours.sender.in_flight()] == [2]


def test_an_enquiry_after_what_never_came_is_not_answered() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.receiver.enquired(BO, Boot(9), StatusQuery("m", 1))
    assert ours.box.out == []


def test_nobody_is_answered_about_what_was_settled_long_ago() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    for number in range(1, 6):
        ours.receiver.arrived(BO, Boot(9), reliable("m", number), 0.0)
        ours.receiver.settle(Settlement(BO, "m", ours.box.received[-1].version, absorbed=True))
    ours.box.out.clear()
    ours.receiver.arrived(BO, Boot(9), reliable("m", 1), 0.0)
    ours.receiver.enquired(BO, Boot(9), StatusQuery("m", 2))
    assert ours.box.out == []
    assert len(ours.box.received) == 5


def test_a_socket_that_takes_nothing_is_tried_again_ever_more_seldom_and_only_for_what_it_did_not_take() -> None:
    ours = ReliableMessages(replace(DEFAULT_LIMITS, consign_timeout_min_s=1.0), Boot(1), living())
    for value in 1, 2:
        parcel = Parcel((BO,), Content("m", payload(value), value, value, delivery=DeliveryClass.STREAM))
        ours.sender.publish(Slot(BO, "m", ""), parcel, 0.0)
    (_, _, first), _ = ours.box.out
    ours.sender.not_sent(BO, first, 0.0)
    assert [one.sendings for _, one in ours.sender.in_flight()] == [0, 1]
    waits = [ours.next_timeout()]
    for _ in range(1500):  # an hour of a reader that takes nothing
        before = ours.next_timeout()
        ours.box.out.clear()
        ours.handle_timeout(before)
        for to, _, message in ours.box.out:
            ours.sender.not_sent(to, message, before)
        waits.append(ours.next_timeout() - before)
    assert waits[:3] == pytest.approx([DEFAULT_LIMITS.retry_interval_s * factor for factor in (1, 2, 4)])
    assert max(waits) <= DEFAULT_LIMITS.retry_interval_max_s + 1e-9
    ours.sender.not_sent(PeerName("zed"), first, 1.0)  # nobody knows what that was
    ours.sender.not_sent(BO, StatusQuery("m", 1), 1.0)
    assert [one.sendings for _, one in ours.sender.in_flight()] == [0, 1]


def test_mass_that_no_socket_takes_is_returned_long_before_a_death_is_known() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    now = 0.0
    while not ours.box.received:
        for to, _, message in ours.box.out:
            ours.sender.not_sent(to, message, now)
        ours.box.out.clear()
        now = ours.next_timeout() if not ours.box.received else now
        ours.handle_timeout(now)
    (returned,) = ours.box.received
    assert isinstance(returned, Returned)
    assert (returned.weight, returned.reason) == (0.5, "no socket takes what is for bo")
    assert now == pytest.approx(0.3)
    assert len(ours.sender.freed) == 1
    assert not list(ours.sender.in_flight())
    assert ours.sender.written_off == 0.0
    ours.sender.publish(Slot(BO, "m", ""), mass(2), now)
    ((_, _, again),) = ours.box.out
    assert isinstance(again, ReliableMessage)
    assert again.number == 2  # its number may have been on a piece that got through


def test_mass_that_a_socket_took_once_is_not_returned_however_often_it_is_refused_later() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    ours.sender.publish(Slot(BO, "m", ""), mass(1), 0.0)
    ours.box.out.clear()
    for _ in range(2 * DEFAULT_LIMITS.unsent_tries_max):
        now = ours.next_timeout()
        ours.handle_timeout(now)
        for to, _, message in ours.box.out:
            ours.sender.not_sent(to, message, now)
        ours.box.out.clear()
    assert not ours.box.received
    assert [one.sendings for _, one in ours.sender.in_flight()] == [1]


def test_being_called_lost_twice_parks_once(world: World) -> None:
    world.cut_off("bo")
    world.consign("ada", "bo", 7, 0.25)
    world.run(20.0)
    world["ada"].peer.reliable_messages.sender.lost(PeerName("bo"), world.now, False, "silent")
    world.run(0.1)
    assert world["ada"].kinds("bo").count(EventKind.PARKED) == 1


def test_the_same_reason_for_a_return_is_said_once() -> None:
    ours = ReliableMessages(DEFAULT_LIMITS, Boot(1), living())
    for number in 1, 2:
        parcel = Parcel((BO,), Content("m", payload(number), number, number, delivery=DeliveryClass.MASS, weight=0.5))
        ours.sender.publish(Slot(BO, "m", ""), parcel, 0.0)
        ours.sender.receipt(BO, Receipt("m", number, Verdict.REFUSED, "not finite"), 0.0)
    assert len(ours.box.received) == 2
    assert [event.kind for event in ours.sender.events] == [EventKind.CAME_HOME]


def test_a_stream_whose_receipt_was_lost_is_settled_although_later_frames_went_on(world: World) -> None:
    """Found by a storm: the verdict was forgotten by the time the sender asked again, and its line was stuck."""
    world.consign("ada", "bo", 1, 0.0, stream=True)
    world.cut.add(("bo", "ada"))
    world.run(0.02)
    world.cut.clear()
    for value in range(2, 6):
        world.consign("ada", "bo", value, 0.0, stream=True)
        world.run(0.01)
    assert [one.number for _, one in world["ada"].peer.reliable_messages.sender.in_flight()] == [1]
    world.run(3.0)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert world["bo"].values("ada") == [1, 2, 3, 4, 5]


def test_what_was_sent_to_one_that_others_call_gone_is_parked_and_not_written_off(world: World) -> None:
    """It was only stopped, and a liar knew it; its learner may have the parcel, and room for one of this link."""
    world["bo"].learning = False
    world.consign("ada", "bo", 7, 0.25)
    world.run(0.1)
    world.stop("bo")
    world.run(1.0)
    lie = Claim(BO, world["bo"].peer.me.boot, 0, ClaimKind.LEFT, PeerName("cy"))
    boots = {name: world[name].peer.me.boot for name in ("ada", "cy")}
    world.inject("ada", Envelope(PeerName("cy"), boots["cy"], "ada", boots["ada"], Ping(99, 0, False, (lie,), 0)))
    world.run(3.0)
    assert world["ada"].peer.view.status_of(BO) is Status.LEFT
    assert [one.parked for _, one in world["ada"].peer.reliable_messages.sender.in_flight()] == [True]
    assert not world["ada"].peer.reliable_messages.sender.written_off
    world.resume("bo", clock_first=True)
    world.settle("bo", absorbed=True)
    world.run(5.0)
    assert not world["ada"].peer.reliable_messages.sender.in_flight()
    assert world["bo"].values("ada") == [7]

"""How states travel: pacing, loss of each kind of word, slow readers, and what a returning peer is sent."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Announce,
    Confirm,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Mode,
    Parcel,
    Payload,
    Piece,
    Slot,
    State,
    Transmit,
    Want,
)
from gossipdistill.presence import Ping
from gossipdistill.protocol.states import States

from .harness import Sent, World, living, payload

PULL = Mode.PULL


def pair(**options: object) -> World:
    world = World("ada", "bo", **options)  # type: ignore[arg-type]
    world.run(1.0)
    assert world.all_alive()
    world.log.clear()
    return world


def numbers(sent: list[Sent]) -> list[int]:
    return [one.message.number for one in sent if isinstance(one.message, State | Announce | Confirm | Want)]


class Loses:
    """A network that loses the first `count` messages of one kind."""

    def __init__(self, world: World, kind: type, count: int = 1) -> None:
        self.left = count
        fly = world._fly

        def lossy(transmit: Transmit) -> None:
            if isinstance(transmit.envelope.message, kind) and self.left:
                self.left -= 1
            else:
                fly(transmit)

        world._fly = lossy  # type: ignore[method-assign]


# --- push -----------------------------------------------------------------------------------------------------------


def test_a_small_state_is_pushed_confirmed_and_said_no_more() -> None:
    world = pair()
    world.publish("ada", "bo", 1)
    world.run(30.0)
    assert world["bo"].values("ada") == [1]
    assert len(world.said("ada", "bo", State)) == len(world.said("bo", "ada", Confirm)) == 1


def test_at_most_two_versions_are_unconfirmed_and_then_the_newest_follows() -> None:
    world = pair()
    world.delay_s = (0.5, 0.5)
    for value in range(1, 11):
        world.publish("ada", "bo", value)
    assert numbers(world.said("ada", "bo", State)) == [1, 2]
    world.run(3.0)
    assert world["bo"].values("ada") == [1, 2, 10]
    counts = world["ada"].peer.states.box.counts[PeerName("bo")]
    assert (counts.published, counts.superseded, counts.resent) == (10, 7, 0)


def test_a_confirmation_rides_on_the_state_that_goes_the_other_way() -> None:
    world = pair()
    for value in range(1, 6):
        world.publish("ada", "bo", value)
        world.run(0.1)
        world.publish("bo", "ada", 10 * value)
        world.run(0.1)
    assert world["bo"].values("ada") == [1, 2, 3, 4, 5]
    assert world["ada"].values("bo") == [10, 20, 30, 40, 50]
    assert not world.said("bo", "ada", Confirm)
    assert not world.said("ada", "bo", Confirm)
    ridden = [sent.message.confirms for sent in world.said("bo", "ada", State) if isinstance(sent.message, State)]
    assert [[confirm.number for confirm in confirms] for confirms in ridden] == [[1], [2], [3], [4], [5]]


def test_a_confirmation_that_finds_nothing_to_ride_on_goes_alone_after_its_delay() -> None:
    world = pair()
    world.publish("ada", "bo", 1)
    world.run(DEFAULT_LIMITS.confirm_delay_s + 0.01)
    assert numbers(world.said("bo", "ada", Confirm)) == [1]


def test_who_had_a_state_needs_no_heartbeat_and_is_not_suspected() -> None:
    world = pair()
    for value in range(1, 41):
        world.publish("ada", "bo", value)
        world.run(0.2)
    beats = len(world.said("ada", "bo", Ping))
    assert beats <= 8, f"{beats} heartbeats beside 40 states in 8 s"
    assert EventKind.SUSPECT not in world["bo"].kinds("ada")
    assert EventKind.SUSPECT not in world["ada"].kinds("bo")


def test_slots_are_paced_apart() -> None:
    world = pair()
    world.delay_s = (0.5, 0.5)
    for value in range(1, 4):
        for topic in "x", "y":
            world.publish("ada", "bo", value, topic=topic)
    assert len(world.said("ada", "bo", State)) == 4


def test_a_lost_state_is_followed_by_the_newest_not_by_itself() -> None:
    world = pair()
    Loses(world, State, 2)
    for value in 1, 2, 3:
        world.publish("ada", "bo", value)
    world.run(DEFAULT_LIMITS.confirm_timeout_s + 0.1)
    assert world["bo"].values("ada") == [3]
    assert world["ada"].peer.states.box.counts[PeerName("bo")].resent == 1


def test_a_version_that_is_still_on_its_way_is_not_sent_again_when_an_older_one_is_overdue() -> None:
    world = pair()
    Loses(world, State, 1)
    world.publish("ada", "bo", 1)
    world.run(1.0)
    world.delay_s = (1.5, 1.5)
    world.publish("ada", "bo", 2)
    world.run(6.0)
    assert world["bo"].values("ada") == [2]
    assert numbers(world.said("ada", "bo", State)).count(2) <= 2  # its own time-out may pass once


def test_a_lost_confirmation_costs_one_copy() -> None:
    world = pair()
    Loses(world, Confirm)
    world.publish("ada", "bo", 1)
    world.run(30.0)
    assert world["bo"].values("ada") == [1]
    assert len(world.said("ada", "bo", State)) == 2
    assert world["bo"].peer.states.box.counts[PeerName("ada")].overtaken == 1


def test_an_older_version_that_comes_late_is_confirmed_and_dropped() -> None:
    world = pair()
    for number in 5, 3, 4, 5:
        state = State(number, Content("x", payload(number), 0, 0))
        world.inject("bo", Envelope(PeerName("ada"), Boot(1000), "bo", 2000, state))
    assert world["bo"].values("ada") == [5]
    assert numbers(world.said("bo", "ada", Confirm)) == [5, 5]  # each stands for all before it


# --- pull -----------------------------------------------------------------------------------------------------------


def test_a_large_state_is_announced_wanted_sent_confirmed() -> None:
    world = pair()
    world.publish("ada", "bo", 1, PULL)
    world.run(30.0)
    assert world["bo"].values("ada") == [1]
    kinds = [type(sent.message) for sent in world.log if type(sent.message) in (Announce, Want, State, Confirm)]
    assert kinds == [Announce, Want, State, Confirm]


def test_one_announcement_is_open_and_the_newest_is_what_comes() -> None:
    world = pair()
    world.delay_s = (0.3, 0.3)
    for value in range(1, 6):
        world.publish("ada", "bo", value, PULL)
    world.run(1.0)
    assert numbers(world.said("ada", "bo", Announce)) == [1]
    assert world["bo"].values("ada") == [5]


def test_a_reader_whose_learner_is_busy_is_sent_nothing_until_it_has_taken() -> None:
    world = pair()
    world["bo"].learning = False
    world.publish("ada", "bo", 1, PULL)
    world.run(1.0)
    for value in range(2, 20):
        world.publish("ada", "bo", value, PULL)
        world.run(1.0)
    assert world["bo"].values("ada") == [1]
    assert len(world.said("ada", "bo", State)) == 1
    assert len(world.said("ada", "bo", Announce)) <= 2 + 20 / DEFAULT_LIMITS.confirm_timeout_s
    world.take("bo", "ada")
    world.run(0.1)
    assert world["bo"].values("ada") == [1, 19]
    world.run(10.0)
    assert len(world.said("ada", "bo", State)) == 2


@pytest.mark.parametrize("kind", [Announce, Want, State, Confirm])
@pytest.mark.parametrize("count", [1, 3])
def test_whatever_is_lost_of_a_pull_the_version_arrives_and_then_there_is_silence(kind: type, count: int) -> None:
    world = pair()
    Loses(world, kind, count)
    world.publish("ada", "bo", 1, PULL)
    world.run((count + 0.5) * DEFAULT_LIMITS.confirm_timeout_s)
    assert world["bo"].values("ada") == [1]
    world.run(DEFAULT_LIMITS.confirm_timeout_s)
    before = [sent for sent in world.log if isinstance(sent.message, Announce | Want | State | Confirm)]
    world.run(20.0)
    assert [sent for sent in world.log if isinstance(sent.message, Announce | Want | State | Confirm)] == before


def test_a_wish_that_crosses_a_repeated_announcement_brings_no_second_copy() -> None:
    world = pair()
    world.delay_s = (1.2, 1.2)  # there and back takes longer than the announcement is open
    world.publish("ada", "bo", 1, PULL)
    world.run(2.6)
    world.publish("ada", "bo", 2, PULL)
    world["bo"].learning = False
    world.delay_s = (0.001, 0.001)
    world.run(10.0)
    assert len(world["bo"].values("ada")) == 1  # the second wish was for the version that came


@pytest.mark.parametrize("mode", list(Mode))
def test_push_and_pull_may_alternate_on_one_slot(mode: Mode) -> None:
    world = pair()
    other = Mode.PUSH if mode is Mode.PULL else Mode.PULL
    for value in range(1, 9):
        world.publish("ada", "bo", value, mode if value % 2 else other)
        world.run(0.01 if value % 3 else 0.5)
    world.run(3.0)
    assert world["bo"].values("ada")[-1] == 8


# --- peers that go and come -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
def test_nothing_goes_to_a_peer_that_is_not_alive_and_the_newest_at_its_return(mode: Mode) -> None:
    world = pair()
    world.publish("ada", "bo", 1, mode)
    world.run(1.0)
    world.cut_off("bo")
    world.run(2.0)
    world.log.clear()
    for value in range(2, 30):
        world.publish("ada", "bo", value, mode)
        world.run(1.0)
    assert not [sent for sent in world.log if isinstance(sent.message, State | Announce)]
    world.cut.clear()
    world.run(1.2)
    assert world["bo"].values("ada") == [1, 29]


@pytest.mark.parametrize("silence_s", [2.0, 20.0])
def test_what_a_returning_peer_has_already_is_not_sent_again(silence_s: float) -> None:
    world = pair()
    world.publish("ada", "bo", 1)
    world.run(1.0)
    world.cut_off("bo")
    world.run(silence_s)
    world.cut.clear()
    world.run(5.0)
    assert world.all_alive()
    assert len(world.said("ada", "bo", State)) == 1


@pytest.mark.parametrize("mode", list(Mode))
def test_a_restarted_reader_is_sent_the_newest_again(mode: Mode) -> None:
    world = pair()
    world.publish("ada", "bo", 7, mode)
    world.run(1.0)
    world.kill("bo")
    world.start("bo")
    world.run(0.5)
    assert world["bo"].values("ada") == [7]


@pytest.mark.parametrize("mode", list(Mode))
def test_the_versions_of_a_restarted_sender_are_newer_although_their_numbers_are_smaller(mode: Mode) -> None:
    world = pair()
    for value in range(1, 40):
        world.publish("ada", "bo", value, mode)
        world.run(0.05)
    world.publish("ada", "bo", 40, mode)  # announced and not taken when the process ends
    world.kill("ada")
    world.start("ada")
    world.run(0.5)
    world.publish("ada", "bo", 100, mode)
    world.run(3.0)
    assert world["bo"].values("ada")[-1] == 100
    last = world["bo"].received[-1].version
    assert (last.boot, last.number) == (3000, 1)
    before = len(world.said("bo", "ada", Want))
    world.run(20.0)
    assert len(world.said("bo", "ada", Want)) == before


def test_no_state_overtakes_the_greeting_that_it_needs() -> None:
    """Data and control travel on different sockets: nothing is sent before the reader has shown that it knows me."""
    for seed in range(20):
        world = World("ada", "bo", seed=seed)
        world.delay_s = (0.0, 0.3)
        world.publish("ada", "bo", 1)
        world.publish("bo", "ada", 2)
        world.run(1.5)
        assert world["bo"].values("ada") == [1]
        assert world["ada"].values("bo") == [2]
        assert world["ada"].peer.states.box.counts[PeerName("bo")].resent == 0


def test_a_confirmation_for_my_predecessor_is_not_for_me() -> None:
    world = pair()
    world.cut.add(("ada", "bo"))
    world.publish("ada", "bo", 1)
    stale = Envelope(PeerName("bo"), Boot(2000), "ada", 555, Confirm("x", "", 1))
    world.inject("ada", stale)
    world.cut.clear()
    world.run(3.0)
    assert world["bo"].values("ada") == [1]


# --- bounds and liars -----------------------------------------------------------------------------------------------


def test_a_sender_has_only_so_many_slots() -> None:
    world = pair(limits=Limits(slots_per_peer_max=4))
    for number in range(10):
        for message in (
            State(1, Content(f"topic {number}", payload(number), 0, 0)),
            Announce(f"other {number}", "", 1, 8),
        ):
            world.inject("bo", Envelope(PeerName("ada"), Boot(1000), "bo", 2000, message))
    assert len(world["bo"].received) == 2
    assert len(world["bo"].peer.states.receiver.incoming) == 4


def test_a_payload_that_no_reader_would_take_is_not_sent_and_said_once_per_topic() -> None:
    world = pair(limits=Limits(payload_bytes_max=100, arrays_max=2))
    for value in range(3):
        world.publish("ada", "bo", value, PULL, size=104)
    wide = Parcel((PeerName("bo"),), Content("wide", Payload(payload(1, 4).layout * 3, b"x" * 12), 0, 0))
    world["ada"].peer.publish(Slot(PeerName("bo"), "wide", ""), wide, world.now)
    world.run(1.0)
    warnings = [event.reason for event in world["ada"].events if event.kind is EventKind.WARNING]
    assert len(warnings) == 2
    assert warnings[0].startswith("x is not sent: 0.0 MB in 1 arrays, and a payload has at most 0.0 MB in 2")
    assert not [sent for sent in world.log if isinstance(sent.message, State | Announce)]


def test_an_announcement_of_something_too_large_is_not_wanted() -> None:
    world = pair()
    huge = Announce("x", "", 1, DEFAULT_LIMITS.payload_bytes_max + 1)
    world.inject("bo", Envelope(PeerName("ada"), Boot(1000), "bo", 2000, huge))
    world.take("bo", "ada")
    assert not world.said("bo", "ada", Want)


@pytest.mark.parametrize(
    "lie",
    [
        Want("x", "", 0),
        Want("x", "", 2**63 - 1),
        Want("other", "", 1),
        Confirm("x", "", 2**63 - 1),
        Confirm("y", "", 1),
    ],
)
def test_a_liar_moves_nothing(lie: Message) -> None:
    world = pair()
    world["bo"].learning = False
    world.publish("ada", "bo", 1, PULL)
    world.run(0.5)
    world.publish("ada", "bo", 2, PULL)
    for _ in range(100):
        world.inject("ada", Envelope(PeerName("bo"), Boot(2000), "ada", 1000, lie))
    assert len(world.said("ada", "bo", State)) == 1
    world.take("bo", "ada")
    world.run(3.0)
    assert world["bo"].values("ada") == [1, 2]


def test_someone_who_publishes_to_itself_or_to_nobody_is_ignored() -> None:
    world = pair()
    world.publish("ada", "ada", 1)
    world.publish("ada", "zed", 1)
    world.run(5.0)
    assert not [sent for sent in world.log if isinstance(sent.message, State)]


# --- alone, without a peer around it ----------------------------------------------------------------------------------


def alone(**bounds: int) -> States:
    return States(DEFAULT_LIMITS.__class__(**bounds), living())


def state(topic: str, number: int, *confirms: Confirm) -> State:
    return State(number, Content(topic, payload(number), number, number), confirms)


BO = PeerName("bo")


def test_what_a_socket_did_not_take_of_a_slot_that_is_not_mine_changes_nothing() -> None:
    ours = alone()
    ours.sender.not_sent(BO, state("x", 1), 0.0)
    ours.sender.not_sent(BO, Want("x", "", 1), 0.0)
    assert (ours.box.out, ours.next_timeout()) == ([], float("inf"))


def test_confirmations_that_rode_on_a_state_that_was_not_taken_are_owed_again() -> None:
    ours = alone()
    ours.receiver.arrived(BO, Boot(9), state("y", 4), 0.0)
    ours.sender.publish(Slot(BO, "x", ""), Parcel((BO,), Content("x", payload(1), 1, 1)), 0.0)
    ((_, sent),) = ours.box.out
    assert isinstance(sent, State)
    assert sent.confirms == (Confirm("y", "", 4),)
    ours.box.out.clear()
    ours.sender.not_sent(BO, sent, 0.0)
    ours.handle_timeout(10.0)
    assert ours.box.out[0] == (BO, Confirm("y", "", 4))
    assert [message.confirms for _, message in ours.box.out[1:] if isinstance(message, State)] == [()]


def test_a_sender_has_so_many_slots_and_what_comes_for_the_next_is_confirmed_and_dropped() -> None:
    ours = alone(slots_per_peer_max=1)
    ours.receiver.arrived(BO, Boot(9), state("x", 1), 0.0)
    ours.receiver.arrived(BO, Boot(9), state("y", 2), 0.0)
    assert [arrival.topic for arrival in ours.box.arrivals] == ["x"]
    assert ours.box.out == [(BO, Confirm("y", "", 2))]
    ours.receiver.announced(BO, Boot(9), Announce("z", "", 3, 10), 0.0)
    assert len(ours.box.out) == 1


def test_an_announcement_that_waited_is_forgotten_when_its_state_comes_anyway_or_its_sender_restarts() -> None:
    ours = alone()
    ours.receiver.arrived(BO, Boot(9), state("x", 1), 0.0)
    ours.receiver.announced(BO, Boot(9), Announce("x", "", 2, 10), 0.0)
    assert ours.receiver.awaits_taking()
    ours.receiver.arrived(BO, Boot(9), state("x", 2), 0.0)
    assert not ours.receiver.awaits_taking()
    ours.receiver.announced(BO, Boot(9), Announce("x", "", 5, 10), 0.0)
    assert ours.receiver.awaits_taking()
    ours.receiver.arrived(BO, Boot(9), state("x", 3), 0.0)
    assert ours.receiver.awaits_taking()
    ours.receiver.arrived(BO, Boot(10), state("x", 1), 0.0)
    assert not ours.receiver.awaits_taking()


def test_taking_what_never_came_changes_nothing() -> None:
    ours = alone()
    ours.receiver.taken(Slot(BO, "x", ""), 0.0)
    assert ours.box.out == []


def test_somebody_elses_return_sends_nothing_again() -> None:
    ours = alone()
    ours.sender.publish(Slot(BO, "x", ""), Parcel((BO,), Content("x", payload(1), 1, 1)), 0.0)
    ours.box.out.clear()
    ours.sender.returned(PeerName("cy"), True, 0.0)
    assert ours.box.out == []


def test_a_large_state_is_given_its_whole_time_and_teaches_nothing_about_the_small_ones() -> None:
    ours, large = alone(), DEFAULT_LIMITS.push_bytes_max + 4

    def timeout_of(number: int) -> float:
        ours.sender.publish(Slot(BO, "x", ""), Parcel((BO,), Content("x", payload(number), 1, 1)), 0.0)
        return ours.next_timeout()

    for number in range(1, 30):
        timeout_s = timeout_of(number)
        ours.sender.confirmed(BO, Confirm("x", "", number), 0.01)
    assert timeout_s < DEFAULT_LIMITS.confirm_timeout_s / 2, "bo confirms quickly"
    ours.sender.publish(Slot(BO, "w", ""), Parcel((BO,), Content("w", payload(1, large), 1, 1)), 10.0)
    assert ours.next_timeout() - 10.0 == pytest.approx(2.0 + large / DEFAULT_LIMITS.confirm_bytes_per_s)
    ours.sender.confirmed(BO, Confirm("w", "", 30), 11.9)
    assert timeout_of(31) == pytest.approx(timeout_s)


def test_a_piece_that_nobody_has_put_together_is_no_state() -> None:
    world = pair()
    piece = Piece(DeliveryClass.STATE, "x", "", 1, 0, b"1234")
    world["bo"].peer.receive(Envelope(PeerName("ada"), Boot(1000), "bo", 2000, piece), world.now)
    assert world["bo"].peer.received() == []
    assert world["bo"].peer.transmits() == []


def test_the_owner_is_asked_to_tell_of_a_taking_only_while_an_announced_state_waits_for_it() -> None:
    world = pair()
    world["bo"].learning = False
    bo = world["bo"].peer
    world.publish("ada", "bo", 1, PULL)
    world.run(1.0)
    assert not bo.states.receiver.awaits_taking()
    world.publish("ada", "bo", 2, PULL)
    world.run(1.0)
    assert bo.states.receiver.awaits_taking()
    world.take("bo", "ada")
    assert not bo.states.receiver.awaits_taking()
    world.run(1.0)
    assert world["bo"].values("ada") == [1, 2]

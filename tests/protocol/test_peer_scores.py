"""Who keeps offending is not listened to for a while, can return, and costs nobody any mass."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import (
    Announce,
    Complaint,
    Content,
    DeliveryClass,
    Envelope,
    Intake,
    ReliableMessage,
    Returned,
    State,
    StatusQuery,
)
from gossipdistill.presence import Ack
from gossipdistill.protocol.peer_scores import PeerScores
from gossipdistill.protocol.token_bucket import TokenBucket

from .harness import World, payload

ADA, BO = PeerName("ada"), PeerName("bo")
MORE = DEFAULT_LIMITS.offences_max + 1
"""So many offences at once and one is muted."""


@pytest.fixture
def world() -> World:
    world = World("ada", "bo", "cy")
    world.run(1.0)
    return world


def complain(world: World, about: str, times: int = MORE, reason: str = "not_finite") -> None:
    ada = world["ada"]
    ada.peer.payloads.complain([Complaint(PeerName(about), reason)] * times, world.now)
    world.run(0.0)
    world._pump(ada)


def state(number: int) -> State:
    return State(number, Content("x", payload(number), number, number))


def say(world: World, message: object) -> None:
    """To ada, in the name of bo."""
    bo, ada = world["bo"].peer.me, world["ada"].peer.me
    world.inject("ada", Envelope(bo.name, bo.boot, ada.name, ada.boot, message))  # type: ignore[arg-type]


def test_an_allowance_is_spent_and_comes_back_with_time() -> None:
    token_bucket = TokenBucket(per_s=2.0, burst=4.0)
    assert [token_bucket.spend(1, 10.0) for _ in range(5)] == [True] * 4 + [False]
    assert not token_bucket.spend(1, 10.4)
    assert token_bucket.spend(1, 10.5)
    assert not token_bucket.spend(1, 10.5)
    assert token_bucket.spend(4, 1000.0)
    token_bucket.renew()
    assert token_bucket.spend(4, 1000.0)


def test_a_few_refusals_over_a_long_time_mute_nobody(world: World) -> None:
    for _ in range(10 * MORE):
        complain(world, "bo", times=1)
        world.run(DEFAULT_LIMITS.penalty_forgiven_s)
    assert EventKind.MUTED not in world["ada"].kinds("bo")


def test_who_keeps_offending_is_muted_with_the_reason_and_returns(world: World) -> None:
    complain(world, "bo", MORE - 6, "not_finite")
    complain(world, "bo", 6, "shape")
    (muted,) = [event for event in world["ada"].events if event.kind is EventKind.MUTED]
    assert (muted.peer, muted.detail["mutes"]) == ("bo", 1)
    assert muted.reason.endswith("refused: not_finite x11, shape x6")
    for value in range(1, 4):
        world.publish("bo", "ada", value)
        world.run(1.0)
    assert world["ada"].values("bo") == []
    assert world["ada"].peer.scores.turned_away_in_words["bo: muted"] >= 3
    world.publish("ada", "bo", 9)
    world.run(DEFAULT_LIMITS.mute_s)
    assert world["bo"].values("ada") == [9]  # it is not listened to; it may still listen
    assert world["ada"].kinds("bo")[-1] is EventKind.UNMUTED
    world.run(2.0)
    assert world["ada"].values("bo") == [3]  # the newest, sent again until it is confirmed


def test_a_muted_peer_stays_a_member_and_is_answered(world: World) -> None:
    complain(world, "bo")
    world.run(DEFAULT_LIMITS.mute_s - 0.1)
    for name, other in ("ada", "bo"), ("bo", "ada"), ("cy", "bo"):
        assert world[name].peer.view.is_alive(PeerName(other))
        assert not {EventKind.SUSPECT, EventKind.DEAD} & set(world[name].kinds(other))
    assert world.said("ada", "bo", Ack)


def test_the_mass_of_a_muted_peer_is_returned_and_none_is_lost(world: World) -> None:
    world.consign("bo", "ada", 1, 0.5)
    world.run(0.1)
    complain(world, "bo")
    world.consign("bo", "ada", 2, 0.25)
    world.run(0.1)
    assert world["ada"].values("bo") == [1]
    (returned,) = world["bo"].received
    assert isinstance(returned, Returned)
    assert (returned.weight, returned.reason) == (0.25, "refused by ada: its sender is muted")
    # A copy of it that is late comes after the mute, and is refused with the same words: its mass was returned.
    world.run(DEFAULT_LIMITS.mute_s)
    say(world, ReliableMessage(2, Content("m", payload(2), 2, 2, delivery=DeliveryClass.MASS, weight=0.25, degree=0)))
    world.consign("bo", "ada", 3, 0.125)
    world.run(0.1)
    assert world["ada"].values("bo") == [1, 3]
    assert not world["bo"].peer.reliable_messages.sender.in_flight()


def test_who_sends_spoilt_mass_is_muted_after_a_few_parcels_and_the_learner_is_told(world: World) -> None:
    for value in range(1, 4):
        assert PeerName("bo") not in world["ada"].view.muted
        world.consign("bo", "ada", value, 0.5)
        world.run(0.1)
        complain(world, "bo", times=1)
    assert world["ada"].view.muted == {"bo"}
    assert "bo" in world["ada"].view.alive
    world.run(DEFAULT_LIMITS.mute_s + 1.0)
    assert world["ada"].view.muted == frozenset()


def test_each_mute_lasts_twice_as_long_until_all_is_forgotten(world: World) -> None:
    limits, lasted = DEFAULT_LIMITS, []
    for _ in range(9):
        complain(world, "bo")
        began_s = world.now
        while world["ada"].peer.scores.mutes(BO, world.now):
            complain(world, "bo", times=1)  # of what came before: nothing is added
            world.run(1.0)
        lasted.append(world.now - began_s)
    assert lasted == pytest.approx([min(limits.mute_s * 2**n, limits.mute_max_s) for n in range(9)], abs=1.0)
    assert world["ada"].kinds("bo").count(EventKind.MUTED) == 9
    world.run(limits.mute_forgotten_s + 1.0)
    complain(world, "bo")
    assert world["ada"].events[-1].detail == {"mute_s": limits.mute_s, "mutes": 1}


def test_announcements_of_a_muted_peer_are_not_answered_and_a_giant_one_is_an_offence(world: World) -> None:
    for _ in range(MORE):
        say(world, Announce("x", "", 1, DEFAULT_LIMITS.payload_bytes_max + 1))
    assert world["ada"].peer.scores.mutes(BO, world.now)
    assert world["ada"].peer.scores.turned_away_in_words["bo: oversize"] == MORE
    assert world["ada"].kinds("bo").count(EventKind.QUARANTINED) == 1
    before = len(world.said("ada", "bo", object))
    say(world, Announce("x", "", 1, 8))
    assert len(world.said("ada", "bo", object)) == before


def test_a_version_that_comes_again_is_counted_and_a_stream_of_them_is_a_replay(world: World) -> None:
    for number in range(1, 3):
        say(world, state(number))
    arrived = len(world["ada"].received)
    for _ in range(DEFAULT_LIMITS.repeats_max):
        say(world, state(1))
    assert world["ada"].peer.scores.turned_away_in_words == {"bo: repeated": DEFAULT_LIMITS.repeats_max}
    assert EventKind.QUARANTINED not in world["ada"].kinds("bo")
    for _ in range(MORE):
        say(world, state(2))
    assert world["ada"].peer.scores.turned_away_in_words["bo: replay"] == MORE
    assert world["ada"].kinds("bo")[-2:] == [EventKind.QUARANTINED, EventKind.MUTED]
    assert len(world["ada"].received) == arrived


def test_replayed_mass_is_absorbed_once(world: World) -> None:
    for _ in range(10):
        say(world, ReliableMessage(1, Content("m", payload(1), 1, 1, "", DeliveryClass.MASS, 0.5)))
    assert world["ada"].values("bo") == [1]
    assert world["ada"].peer.scores.turned_away_in_words["bo: repeated"] == 9


def test_too_many_topics_are_said_and_held_against_nobody(world: World) -> None:
    for number in range(1, DEFAULT_LIMITS.slots_per_peer_max + 4):
        say(world, State(number, Content(f"topic {number}", payload(1), 1, 1)))
    assert world["ada"].peer.scores.turned_away_in_words == {"bo: slots": 3}
    assert world["ada"].kinds("bo").count(EventKind.QUARANTINED) == 1
    assert not world["ada"].peer.scores.mutes(BO, world.now)


def test_nothing_is_kept_of_topics_for_which_the_learner_has_no_use(world: World) -> None:
    peer = world["ada"].peer
    world["ada"].mailbox.intake = Intake(frozenset({"x"}))
    world.run(1.0)
    before = len(world.said("ada", "bo", object))
    for number in range(1, 1000):
        say(world, State(number, Content(f"topic {number}", payload(1), 1, 1, key="k")))
        say(world, Announce(f"topic {number}", "", number, 8))
        say(world, ReliableMessage(1, Content(f"topic {number}", payload(1), 1, 1, "", DeliveryClass.MASS, 0.5)))
        say(world, StatusQuery(f"topic {number}", 0))
    assert peer.scores.turned_away_in_words == {"bo: topic": 4 * 999}
    assert world["ada"].received == []
    assert (peer.states.receiver.incoming, peer.reliable_messages.receiver.windows) == ({}, {})
    assert len(world.said("ada", "bo", object)) == before, "none is confirmed, so an honest sender says it again"
    assert world["ada"].kinds("bo").count(EventKind.QUARANTINED) == 1
    assert not peer.scores.mutes(BO, world.now)
    say(world, State(1, Content("x", payload(5), 1, 1)))
    assert world["ada"].values("bo") == [5]


def test_what_came_before_the_learner_had_a_use_for_it_comes_again(world: World) -> None:
    ada = world["ada"].mailbox
    ada.intake = Intake(frozenset({"other"}))
    world.run(1.0)
    world.publish("bo", "ada", 3)
    world.consign("bo", "ada", 4, 0.25)
    world.run(1.0)
    assert world["ada"].values("bo") == []
    ada.intake = Intake(frozenset({"other", "x", "m"}))
    world.run(10.0)
    assert sorted(world["ada"].values("bo")) == [3, 4]
    assert not world["bo"].peer.reliable_messages.sender.in_flight()


def test_who_has_too_much_waiting_is_told_of_once_and_not_muted(world: World) -> None:
    for _ in range(100):
        world["ada"].peer.payloads.crowded(BO, world.now)
    world.run(0.0)
    world._pump(world["ada"])
    assert world["ada"].peer.scores.turned_away_in_words == {"bo: crowded": 100}
    assert world["ada"].kinds("bo").count(EventKind.QUARANTINED) == 1
    assert not world["ada"].peer.scores.mutes(BO, world.now)


def test_malformed_bytes_and_floods_count_only_where_the_sender_is_proven(world: World) -> None:
    peer = world["ada"].peer
    for proven in False, True:
        for _ in range(MORE // 2 + 1):
            peer.unreadable.malformed("bo", "kind", "rubbish", world.now, proven)
            peer.unreadable.too_much("bo", "rate", "too many", world.now, proven)
            for stranger in "", "mallory":
                peer.unreadable.malformed(stranger, "kind", "rubbish", world.now, proven)
                peer.unreadable.too_much(stranger, "rate", "too many", world.now, proven)
        assert peer.scores.mutes(BO, world.now) == proven
    peer.payloads.complain([Complaint(PeerName("mallory"), "shape")], world.now)
    assert peer.payloads.drop_muted(BO, world.now)
    assert not peer.payloads.drop_muted(PeerName("cy"), world.now)


def test_words_that_are_not_for_me_are_counted(world: World) -> None:
    ada, bo = world["ada"].peer.me, world["bo"].peer.me
    for sender, boot, to, to_boot in (
        (BO, bo.boot, "dee", 0),
        (BO, bo.boot, "ada", ada.boot - 1),
        (BO, bo.boot - 1, "ada", ada.boot),
        (PeerName("zed"), bo.boot, "ada", ada.boot),
    ):
        world.inject("ada", Envelope(sender, type(bo.boot)(boot), to, to_boot, state(5)))
    assert world["ada"].peer.scores.turned_away_in_words == {
        ": not_admitted": 1,
        "bo: for_another_process": 1,
        "bo: not_admitted": 1,
        "bo: not_for_me": 1,
    }
    assert world["ada"].values("bo") == []


def test_many_mutes_do_not_overflow() -> None:
    peer_scores, now = PeerScores(DEFAULT_LIMITS), 0.0
    for _ in range(2000):
        while not peer_scores.mutes(BO, now):
            peer_scores.offend(BO, "shape", now)
        now = peer_scores.next_timeout()
        peer_scores.handle_timeout(now)
    assert peer_scores.events[-1].kind is EventKind.UNMUTED

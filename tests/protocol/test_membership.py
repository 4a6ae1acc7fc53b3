"""Who is there: scenes on a network in memory, in virtual time. Each reads as what happens, then what must be seen."""

from __future__ import annotations

import re

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, Envelope, State
from gossipdistill.presence import Ack, Address, Greeting, Leave, Ping, PingRequest
from gossipdistill.protocol.members import Status

from .harness import FINGERPRINT, World, address_of, payload

JOINED, SUSPECT, DEAD = EventKind.JOINED, EventKind.SUSPECT, EventKind.DEAD
RETURNED, LEFT, REFUSED, REFUSED_BY = EventKind.RETURNED, EventKind.LEFT, EventKind.REFUSED, EventKind.REFUSED_BY


def together(*names: str, **options: object) -> World:
    world = World(*(names or ("ada", "bo", "cy")), **options)  # type: ignore[arg-type]
    world.run(1.0)
    assert world.all_alive()
    return world


def test_all_find_one_another_within_a_tenth_of_a_second_and_say_so_once() -> None:
    world = World("ada", "bo", "cy", "dee")
    world.run(0.1)
    assert world.all_alive()
    world.run(30.0)
    for me in "ada", "bo", "cy", "dee":
        assert sorted(e.peer for e in world[me].events) == sorted({"ada", "bo", "cy", "dee"} - {me})
        assert all(e.kind is JOINED for e in world[me].events)
    assert world["ada"].events[-1].reason == "4 of 4 peers here"


def test_greetings_end_once_everybody_is_there() -> None:
    world = together()
    before = len([sent for sent in world.log if isinstance(sent.message, Greeting)])
    world.run(10.0)
    assert len([sent for sent in world.log if isinstance(sent.message, Greeting)]) == before
    assert before <= 4 * 6


# --- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset_s", [0.0, 0.07, 0.13, 0.2, 0.249])
def test_a_kill_is_suspected_by_all_within_two_seconds_and_dead_later_each_said_once(offset_s: float) -> None:
    world = together("ada", "bo", "cy", "dee")
    world.run(offset_s)
    world.kill("dee")
    killed_s = world.now
    world.run(30.0)
    for me in "ada", "bo", "cy":
        news = [event for event in world[me].events if event.peer == "dee"]
        assert [event.kind for event in news] == [JOINED, SUSPECT, DEAD]
        assert news[1].at_s - killed_s <= 1.3
        assert news[2].at_s - killed_s <= 4.0
        assert re.match(r"silent for \d\.\d s: no answer to me, nor to (ada|bo|cy), ", news[1].reason)
        assert world[me].peer.status_of(PeerName("dee")) is Status.DEAD


def test_lost_words_suspect_nobody_for_long() -> None:
    world = together()
    world.loss = 0.1
    world.run(60.0)
    assert all(event.kind is JOINED for me in ("ada", "bo", "cy") for event in world[me].events)


def test_one_who_was_suspected_returns_with_the_time_of_its_silence() -> None:
    world = together()
    world.cut_off("cy")
    world.run(2.0)
    world.cut.clear()
    world.run(1.0)
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, RETURNED]
    assert world["ada"].events[-1].reason.startswith("heard again after 2.")


def test_one_who_was_dead_returns_whoever_is_heard_first() -> None:
    world = together()
    world.cut_off("cy")
    world.run(20.0)
    world.cut.clear()
    world.run(1.1)
    assert world.all_alive()
    for me, other in ("ada", "cy"), ("cy", "ada"):
        assert world[me].kinds(other) == [JOINED, SUSPECT, DEAD, RETURNED]
        (last,) = [event.reason for event in world[me].events if event.peer == other and event.kind is RETURNED]
        assert last.startswith("heard again after 2")


@pytest.mark.parametrize("clock_first", [True, False])
def test_a_process_that_was_stopped_suspects_nobody_but_notices_who_died_meanwhile(clock_first: bool) -> None:
    world = together()
    world.stop("ada")
    world.run(1.0)
    world.kill("cy")
    world.run(30.0)
    world.resume("ada", clock_first)
    resumed_s = world.now
    world.run(10.0)
    assert world["ada"].kinds("bo") == [JOINED]
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, DEAD]
    suspected = next(e for e in world["ada"].events if e.kind is SUSPECT)
    assert suspected.at_s - resumed_s <= 2.5  # ada has read that it is suspected itself, and doubts itself first
    paused = [event for event in world["ada"].events if event.kind is EventKind.WARNING]
    assert len(paused) == 1
    assert paused[0].reason.startswith("this process itself was held up for 30.")
    assert world["bo"].kinds("ada") == [JOINED, SUSPECT, DEAD, RETURNED]


def test_one_who_is_held_up_again_and_again_says_so_now_and_then_only() -> None:
    world = together("ada", "bo")
    for _ in range(10):
        world.stop("ada")
        world.run(1.0)
        world.resume("ada", clock_first=True)
        world.run(0.5)
    warnings = [event for event in world["ada"].events if event.kind is EventKind.WARNING]
    assert 1 <= len(warnings) <= 2
    assert world["ada"].kinds("bo") == [JOINED]


def test_who_is_missing_is_said_once_with_the_reason() -> None:
    world = World("ada", "bo", "cy")
    world.kill("cy")
    world.run(30.0)
    (view,) = [event for event in world["ada"].events if event.kind is EventKind.VIEW]
    assert view.reason == "I see 2 of 3 peers after 4 s; missing: cy at 10.0.0.1:7404 (nothing heard yet)"


# --- restart --------------------------------------------------------------------------------------------------------


def test_a_restart_is_a_return_once_and_the_new_process_is_listened_to() -> None:
    world = together()
    world.kill("bo")
    world.run(0.3)
    world.start("bo")
    world.run(1.0)
    assert world.all_alive()
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world["ada"].events[-1].reason == "restarted, 3 of 3 peers here"
    world.publish("bo", "ada", 1)
    world.run(0.1)
    assert world["ada"].values("bo") == [1]


def test_a_restart_after_death_is_a_return_too() -> None:
    world = together()
    world.kill("bo")
    world.run(20.0)
    world.start("bo")
    world.run(1.0)
    assert world["ada"].kinds("bo") == [JOINED, SUSPECT, DEAD, RETURNED]
    assert world.all_alive()


def test_a_word_of_a_new_process_before_its_greeting_is_answered_by_a_greeting_not_believed() -> None:
    world = together("ada", "bo")
    world.kill("bo")
    newer = Boot(99_000)
    state = State("x", "", 1, 0, 0, payload(5))
    for _ in range(50):
        world.inject("ada", Envelope(PeerName("bo"), newer, "ada", 0, state))
    world.run(0.5)
    assert world["ada"].values("bo") == []
    assert world["ada"].peer.status_of(PeerName("bo")) is Status.UNHEARD
    assert 1 <= len([sent for sent in world.said("ada", "bo", Greeting) if sent.at_s > 101.0]) <= 6
    world.start("bo", boot=newer)
    world.run(1.5)
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world.all_alive()


def test_late_words_of_the_ended_process_change_nothing_and_do_not_end_the_new_one() -> None:
    world = together("ada", "bo")
    late = [
        Envelope(PeerName("bo"), Boot(2000), "ada", 1000, message)
        for message in (Ping(0, 7, True), State("x", "", 9, 0, 0, payload(9)), Confirm("x", "", 1), Leave("finished"))
    ]
    assert world["bo"].peer.me.boot == 2000
    world.kill("bo")
    world.start("bo")
    world.run(0.5)
    for envelope in late * 3:
        world.inject("ada", envelope)
    world.run(5.0)
    assert world.all_alive()
    assert world["ada"].values("bo") == []
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world["bo"].kinds("bo") == []


def test_of_two_processes_with_one_name_the_older_is_told_once() -> None:
    world = together()
    old = world["bo"]
    elsewhere = Address("10.0.0.2", 9000)
    world.start("bo", address=elsewhere)
    world.run(20.0)
    told = [event for event in old.events if event.kind is EventKind.SUPERSEDED]
    assert len(told) == 1
    assert "a newer process of bo was heard by" in told[0].reason
    newer = world.processes[elsewhere]
    assert not [event for event in newer.events if event.kind is EventKind.SUPERSEDED]
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world["ada"].peer.is_alive(PeerName("bo"))


def test_a_process_with_an_older_boot_is_refused_and_the_newer_goes_on() -> None:
    world = together()
    world.start("bo", address=Address("10.0.0.2", 9000), boot=500)
    world.run(5.0)
    late = world.processes[Address("10.0.0.2", 9000)]
    assert [event.kind for event in late.events if event.peer == "bo"] == [EventKind.SUPERSEDED]
    assert world["ada"].kinds("bo") == [JOINED]
    assert not [event for event in world["bo"].events if event.kind is EventKind.SUPERSEDED]


# --- leaving --------------------------------------------------------------------------------------------------------


def test_one_who_leaves_has_left_and_is_not_suspected() -> None:
    world = together()
    world.leave("cy")
    world.run(20.0)
    assert world["ada"].kinds("cy") == [JOINED, LEFT]
    assert world["ada"].events[-1].reason == "finished"
    assert not world.said("ada", "cy", Greeting)[10:]


def test_words_that_the_last_word_has_overtaken_do_not_bring_it_back() -> None:
    world = together("ada", "bo")
    world.leave("bo")
    world.run(0.1)
    for message in (
        Ping(0, 1, False),
        State("x", "", 9, 0, 0, payload(9)),
        Greeting(address_of(1), 1, FINGERPRINT, (), True),
    ):
        world.inject("ada", Envelope(PeerName("bo"), Boot(2000), "ada", 1000, message))
    assert world["ada"].kinds("bo") == [JOINED, LEFT]
    assert world["ada"].values("bo") == []
    world.start("bo")
    world.run(0.5)
    assert world["ada"].kinds("bo") == [JOINED, LEFT, RETURNED]


# --- what is known of the others ------------------------------------------------------------------------------------


def test_that_i_am_done_is_told_to_all_in_business_until_each_confirms_it_and_then_no_more() -> None:
    world = together()
    world.cut = {("ada", "cy")}
    world.log.clear()
    world["ada"].peer.report_progress(700, True, world.now)
    world.run(0.1)
    assert [world[name].view.done for name in ("bo", "cy")] == [{"ada"}, frozenset()]
    assert world["ada"].peer._membership.prober.untold == {PeerName("cy"): None}
    world.cut.clear()
    world.run(1.5)
    assert [world[name].view.done for name in ("bo", "cy")] == [{"ada"}, {"ada"}]
    assert not world["ada"].peer._membership.prober.untold
    world.log.clear()
    world["ada"].peer.report_progress(700, True, world.now)
    world.run(0.1)
    assert len(world.said("ada", "bo", Ping)) + len(world.said("ada", "cy", Ping)) <= 1


def test_who_comes_when_i_am_done_is_told_so_in_my_next_turn_although_it_has_just_been_heard() -> None:
    world = together()
    world.leave("cy")
    world.run(0.1)
    world["ada"].peer.report_progress(700, True, world.now)
    world.run(0.1)
    timers = world["ada"].peer._membership.table.timers
    (turn_s,) = [due_s for timer, due_s in timers._due_s.items() if timer.what == "turn"]
    world.run(turn_s - 0.1 - world.now)
    world.start("cy")
    world.run(0.1 + 0.01)
    assert world["cy"].view.done == {"ada"}
    assert world["bo"].view.done == {"ada"}


def test_where_a_member_listens_is_known_of_members_only() -> None:
    world = together("ada", "bo")
    peer = world["ada"].peer
    assert peer.address_of("bo") == address_of(1)
    assert peer.address_of("ada") is None, "nobody dials itself"
    assert peer.address_of("zed") is None
    assert (peer.status_of(PeerName("bo")), peer.status_of(PeerName("zed"))) == (Status.ALIVE, None)


def test_present_are_those_who_were_heard_and_neither_silent_nor_out_of_my_reach() -> None:
    world = World("ada", "bo", "cy", "dee")
    peer = world["ada"].peer
    assert not any(peer.is_present(name) for name in world.names), "nobody was heard yet"
    world.run(1.0)
    assert [peer.is_present(PeerName(name)) for name in ("ada", "bo", "cy", "dee", "zed")] == [
        False, True, True, True, False,
    ]  # fmt: skip
    world.kill("cy")
    world.cut = {("ada", "dee"), ("dee", "ada")}
    world.run(10.0)
    assert peer.status_of(PeerName("dee")) is Status.ALIVE
    assert [peer.is_present(PeerName(name)) for name in ("bo", "cy", "dee")] == [True, False, False]
    assert world["ada"].view.alive == {"bo"}


def test_one_who_is_asked_whether_it_lives_itself_says_yes() -> None:
    """Nobody who keeps to the rules asks that; what it says is true all the same."""
    world = together("ada", "bo")
    world.log.clear()
    world.inject("ada", Envelope(PeerName("bo"), Boot(2000), "ada", 1000, PingRequest(77, PeerName("ada"))))
    (answer,) = [sent.message for sent in world.said("ada", "bo", Ack) if isinstance(sent.message, Ack)]
    assert (answer.number, answer.about, answer.about_boot) == (77, "ada", 1000)
    assert not world["ada"].peer._membership.prober.errands

"""Who is there: scenes on a network in memory, in virtual time. Each reads as what happens, then what must be seen."""

from __future__ import annotations

import re

import pytest

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, Content, Envelope, Message, State
from gossipdistill.presence import (
    Ack,
    Address,
    Claim,
    ClaimKind,
    Greeting,
    Leave,
    Ping,
    PingRequest,
    Refusal,
    RefusalCode,
)
from gossipdistill.protocol.members import Status

from .harness import FINGERPRINT, Process, World, address_of, payload

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
        assert world[me].peer.view.status_of(PeerName("dee")) is Status.DEAD


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
    world = keyed("ada", "bo")
    world.kill("bo")
    newer = Boot(99_000)
    state = State(1, Content("x", payload(5), 0, 0))
    for _ in range(50):
        world.inject("ada", Envelope(PeerName("bo"), newer, "ada", 0, state))
    world.run(0.5)
    assert world["ada"].values("bo") == []
    assert world["ada"].peer.view.status_of(PeerName("bo")) is Status.UNHEARD
    assert 1 <= len([sent for sent in world.said("ada", "bo", Greeting) if sent.at_s > 101.0]) <= 6
    world.start("bo", boot=newer)
    world.run(1.5)
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world.all_alive()


def test_without_keys_words_in_the_name_of_a_newer_process_do_not_part_from_the_one_that_answers() -> None:
    world = together("ada", "bo")
    bo = world["bo"].peer.me
    state = State(1, Content("x", payload(5), 0, 0))
    words: list[Message] = [state, Ping(1, 1, False), Ack(1, 1, False), Leave("finished")]
    for word in 5 * words:
        world.inject("ada", Envelope(bo.name, Boot(bo.boot + 5), "ada", 0, word))
        assert world["ada"].peer.view.is_alive(bo.name)
    world.run(1.0)
    assert world["ada"].kinds("bo") == [JOINED]
    assert world.all_alive()


def test_late_words_of_the_ended_process_change_nothing_and_do_not_end_the_new_one() -> None:
    world = together("ada", "bo")
    state = State(9, Content("x", payload(9), 0, 0))
    late = [
        Envelope(PeerName("bo"), Boot(2000), "ada", 1000, message)
        for message in (Ping(0, 7, True), state, Confirm("x", "", 1), Leave("finished"))
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


ELSEWHERE = Address("10.0.0.2", 9000)


def kinds_of(process: Process, kind: EventKind) -> list[Event]:
    return [event for event in process.events if event.kind is kind]


def keyed(*names: str) -> World:
    world = World(*names, keyed=True)
    world.run(1.0)
    return world


def test_with_keys_the_older_of_two_processes_ends_when_the_newer_has_answered_it() -> None:
    world = keyed("ada", "bo", "cy")
    old, began_s = world["bo"], world.now
    newer = world.start("bo", address=ELSEWHERE)
    world.run(20.0)
    (told,) = kinds_of(old, EventKind.SUPERSEDED)
    assert told.at_s < began_s + 0.1
    assert "a newer process of bo was heard by bo" in told.reason
    assert kinds_of(newer, EventKind.SUPERSEDED) == []
    assert world["ada"].kinds("bo") == [JOINED, RETURNED]
    assert world["ada"].peer.view.is_alive(PeerName("bo"))


def test_with_keys_a_newer_process_that_does_not_answer_any_more_ends_nobody() -> None:
    world = keyed("ada", "bo", "cy")
    old = world["bo"]
    world.start("bo", address=ELSEWHERE)
    world.run(0.002)
    del world.processes[ELSEWHERE]
    world.run(20.0)
    assert kinds_of(old, EventKind.SUPERSEDED) == []
    warned = kinds_of(old, EventKind.WARNING)
    assert {event.peer for event in warned} >= {"ada"}
    assert all("ends nobody" in event.reason for event in warned)


def test_without_keys_the_process_that_answers_keeps_its_name_and_the_other_tries_on() -> None:
    world = together()
    old = world["bo"]
    newer = world.start("bo", address=ELSEWHERE)
    world.run(20.0)
    for process in old, newer:
        assert kinds_of(process, EventKind.SUPERSEDED) == []
    assert world["ada"].kinds("bo").count(JOINED) == 1
    assert world["ada"].kinds("bo").count(RETURNED) == 0
    assert world["ada"].peer.view.boot_of(PeerName("bo")) == old.peer.me.boot
    for name in "ada", "cy":
        (refused,) = [event for event in newer.events if event.peer == name]
        assert (refused.kind, refused.detail["name_in_use"]) == (REFUSED_BY, 1)
        assert f"the name bo is in use at {address_of(1)}" in refused.reason
    del world.processes[address_of(1)]
    world.run(20.0)
    assert world["ada"].peer.view.boot_of(PeerName("bo")) == newer.peer.me.boot


def test_without_keys_a_newer_process_at_the_same_address_takes_over_at_once() -> None:
    world = together()
    newer = world.start("bo")
    world.run(1.0)
    assert world["ada"].peer.view.boot_of(PeerName("bo")) == newer.peer.me.boot


def test_a_process_with_an_older_boot_is_refused_and_learns_which_it_would_have_to_be_above() -> None:
    world = together()
    world.start("bo", address=ELSEWHERE, boot=500)
    world.run(5.0)
    late, current = world.processes[ELSEWHERE], world.processes[address_of(1)]
    assert kinds_of(late, EventKind.SUPERSEDED) == []
    hints = {event.detail.get("newer_boot") for event in kinds_of(late, EventKind.WARNING) if event.peer != "bo"}
    assert hints == {current.peer.me.boot}
    assert world["ada"].kinds("bo") == [JOINED]
    assert kinds_of(current, EventKind.SUPERSEDED) == []


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("code", list(RefusalCode))
def test_no_refusal_of_another_ends_a_process_or_its_exchange_with_anybody(code: RefusalCode, proven: bool) -> None:
    """An insider, and without keys also a stranger and a forger of every name there is, says each reason."""
    world = keyed("ada", "bo", "cy") if proven else together()
    boot = world["ada"].peer.me.boot
    senders = [("cy", world["cy"].peer.me.boot)]
    if not proven:
        senders += [
            ("nobody", 9),
            *((name, boots) for name in ("ada", "bo") for boots in (world[name].peer.me.boot, 9999)),
        ]
    for sender, said_boot in senders:
        for asked in ("", "ada", "bo") if code in (RefusalCode.WRONG_NAME, RefusalCode.PLACE_TAKEN) else ("",):
            for to_boot in 0, boot:
                word = Refusal(code, "a lie", asked, newer_boot=boot + 5, newer_at=ELSEWHERE)
                envelope = Envelope(PeerName(sender), Boot(said_boot), "ada", to_boot, word)
                for _ in range(20):
                    world.inject("ada", envelope)
    assert kinds_of(world["ada"], EventKind.SUPERSEDED) == []
    assert len(world["ada"].events) < 2 + 2 * len(senders) * 3
    world.run(3.0)
    assert world.all_alive()


@pytest.mark.parametrize("code", [RefusalCode.FINGERPRINT, RefusalCode.NOT_IN_ROSTER])
def test_who_has_refused_me_and_speaks_to_me_after_all_is_heard_again(code: RefusalCode) -> None:
    world = World("ada", "bo", "cy")
    cy = world["cy"].peer.me
    world.inject("ada", Envelope(cy.name, cy.boot, "ada", 0, Refusal(code, "a lie")))
    assert world["ada"].kinds("cy") == [REFUSED_BY]
    world.run(5.0)
    assert world["ada"].kinds("bo") == [JOINED]
    assert world.all_alive()


def test_without_keys_a_refusal_in_the_name_of_one_that_is_dead_does_not_lock_it_out() -> None:
    """Nor does one of it: a greeting that does not fit, or another wire version, in its name."""
    world = together()
    bo = world["bo"].peer.me
    for number in range(3):
        world.stop("bo")
        world.run(8.0)
        assert world["ada"].peer.view.status_of(PeerName("bo")) in (Status.DEAD, Status.REFUSED)
        later = Boot(bo.boot + 5000)
        if number == 0:
            world.inject("ada", Envelope(bo.name, later, "ada", 0, Refusal(RefusalCode.FINGERPRINT, "a lie")))
        elif number == 1:
            world.inject("ada", Envelope(bo.name, later, "ada", 0, Greeting(bo.address, 1, {"run": "another"})))
        else:
            world["ada"].peer.unreadable.other_version("bo", later, 2, 3, world.now)
        assert world["ada"].peer.view.status_of(PeerName("bo")) is Status.REFUSED
        world.resume("bo", clock_first=True)
        world.run(8.0)
        assert world.all_alive()


FAR = 2**63 - 1
DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("proven", [True, False])
def test_a_boot_far_in_the_future_locks_nobody_out(proven: bool) -> None:
    """Whatever kind of word names it."""
    world = keyed("ada", "bo", "cy") if proven else together()
    bo = world["bo"].peer.me
    words: list[Message] = [
        Greeting(bo.address, 1, bo.fingerprint),
        Leave("x"),
        Ping(1, 1, False),
        Refusal(RefusalCode.FINGERPRINT, "x"),
        Confirm("x", "", 1),
    ]
    for boot in FAR, bo.boot + 500 * DAY_MS:
        for word in words:
            world.inject("ada", Envelope(bo.name, Boot(boot), "ada", 0, word))
        world["ada"].peer.unreadable.other_version("bo", boot, 2, 3, world.now)
    claims = tuple(Claim(bo.name, FAR, 3, kind, PeerName("cy")) for kind in ClaimKind)
    world.inject("ada", Envelope(PeerName("cy"), world["cy"].peer.me.boot, "ada", 0, Ping(1, 1, False, claims)))
    assert world["ada"].peer.scores.turned_away_in_words["bo: boot"] == 12
    (said,) = kinds_of(world["ada"], EventKind.QUARANTINED)
    assert "more than 400 days ahead" in said.reason
    world.run(2.0)
    assert world.all_alive()
    world.start("bo")
    world.run(3.0)
    assert world.all_alive()


def test_a_peer_whose_own_clock_is_years_behind_goes_by_that_of_the_others() -> None:
    """With keys, once most have named theirs; and it is heard by all."""
    world = World("ada", "bo", "cy", "dee", keyed=True)
    for name in "bo", "cy", "dee":
        world.start(name, boot=60 * 365 * DAY_MS + world[name].peer.me.boot)
    world.run(3.0)
    assert world.all_alive()


def test_a_process_whose_clock_is_years_ahead_is_told_so() -> None:
    world = keyed("ada", "bo", "cy")
    ahead = world.start("bo", boot=500 * DAY_MS)
    world.run(1.0)
    told = [event for event in ahead.events if event.kind is REFUSED_BY]
    assert {event.peer for event in told} == {"ada", "cy"}
    for event in told:
        assert re.fullmatch(r"clock, in milliseconds since 1970: \d+ here, 43200000000 there", event.reason)


@pytest.mark.parametrize(("boot", "believed"), [(FAR, False), (2000, True)])
def test_what_a_relay_says_of_a_boot_far_in_the_future_is_not_believed(boot: int, believed: bool) -> None:
    """Neither of the two can be dialled, so they know one another by the word of others alone."""
    world = World("ada", "bo", "cy", mute=("ada", "bo"))
    world.kill("bo")
    ada, cy = world["ada"], world["cy"].peer.me
    for _ in range(200):
        world.run(0.01)
        for asked in world.said("ada", "cy", PingRequest)[-1:]:
            assert isinstance(asked.message, PingRequest)
            word = Ack(asked.message.number, 1, False, (), "bo", boot)
            world.inject("ada", Envelope(cy.name, cy.boot, "ada", ada.peer.me.boot, word))
    assert (ada.peer.view.status_of(PeerName("bo")) is Status.ALIVE) is believed


def test_a_newer_process_that_others_tell_of_is_greeted() -> None:
    world = together()
    ada, bo, cy = (world[name].peer.me for name in ("ada", "bo", "cy"))
    news = Claim(cy.name, cy.boot + 1, 0, ClaimKind.ALIVE, bo.name)
    before = len(world.said("ada", "cy", Greeting))
    world.run(world.limits.greet_interval_max_s)
    world.inject("ada", Envelope(bo.name, bo.boot, ada.name, ada.boot, Ping(900, 1, False, (news,))))
    world.run(0.1)
    assert len(world.said("ada", "cy", Greeting)) == before + 1


@pytest.mark.parametrize("boot", [400 * DAY_MS, 20_000])
def test_with_a_new_key_a_peer_begins_anew_however_high_the_boots_under_its_former_one(boot: int) -> None:
    world = keyed("ada", "bo", "cy")
    for name in "ada", "cy":
        world.consign(name, "bo", 1, 0.5)
        world.publish(name, "bo", 1)
    thief = world.start("bo", boot=boot)
    world.run(2.0)
    for name in "ada", "cy":
        world.publish("bo", name, 8)
        world.consign("bo", name, 8, 0.5)
    world.run(1.0)
    assert world.all_alive()
    assert world["ada"].values("bo")[-2:] == [8, 8]
    del world.processes[address_of(1)]
    for name in "ada", "cy":
        world[name].peer.forget_processes(PeerName("bo"), "has another key", world.now)
    world.run(0.5)
    assert world["ada"].kinds("bo")[-1] is REFUSED
    fresh = world.start("bo", boot=9000)
    world.run(2.0)
    assert fresh.peer.me.boot < thief.peer.me.boot
    assert world.all_alive()
    for name in "ada", "cy":
        world.publish("bo", name, 9)
        world.consign("bo", name, 9, 0.5)
        world.consign(name, "bo", 7, 0.25)
    world.run(1.0)
    assert world["ada"].values("bo")[-2:] == world["cy"].values("bo")[-2:] == [9, 9]
    assert world["bo"].values("ada")[-1:] == [7]
    assert not any(world[name].peer.reliable_messages.sender.in_flight() for name in ("ada", "bo", "cy"))


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
        State(9, Content("x", payload(9), 0, 0)),
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
    world.report_progress("ada", 700, done=True)
    world.run(0.1)
    assert [world[name].view.done for name in ("bo", "cy")] == [{"ada"}, frozenset()]
    assert world["ada"].peer.membership.prober.untold == {PeerName("cy"): None}
    world.cut.clear()
    world.run(1.5)
    assert [world[name].view.done for name in ("bo", "cy")] == [{"ada"}, {"ada"}]
    assert not world["ada"].peer.membership.prober.untold
    world.log.clear()
    world.report_progress("ada", 700, done=True)
    world.run(0.1)
    assert len(world.said("ada", "bo", Ping)) + len(world.said("ada", "cy", Ping)) <= 1


def test_who_comes_when_i_am_done_is_told_so_in_my_next_turn_although_it_has_just_been_heard() -> None:
    world = together()
    world.leave("cy")
    world.run(0.1)
    world.report_progress("ada", 700, done=True)
    world.run(0.1)
    timers = world["ada"].peer.membership.table.timers
    (turn_s,) = [due_s for timer, due_s in timers.items() if timer.what == "turn"]
    world.run(turn_s - 0.1 - world.now)
    world.start("cy")
    world.run(0.1 + 0.01)
    assert world["cy"].view.done == {"ada"}
    assert world["bo"].view.done == {"ada"}


def test_where_a_member_listens_is_known_of_members_only() -> None:
    world = together("ada", "bo")
    peer = world["ada"].peer
    assert peer.table.address_of("bo") == address_of(1)
    assert peer.table.address_of("ada") is None, "nobody dials itself"
    assert peer.table.address_of("zed") is None
    assert (peer.view.status_of(PeerName("bo")), peer.view.status_of(PeerName("zed"))) == (Status.ALIVE, None)


def test_present_are_those_who_were_heard_and_neither_silent_nor_out_of_my_reach() -> None:
    world = World("ada", "bo", "cy", "dee")
    peer = world["ada"].peer
    assert not any(peer.view.is_present(name) for name in world.names), "nobody was heard yet"
    world.run(1.0)
    assert [peer.view.is_present(PeerName(name)) for name in ("ada", "bo", "cy", "dee", "zed")] == [
        False,
        True,
        True,
        True,
        False,
    ]
    world.kill("cy")
    world.cut = {("ada", "dee"), ("dee", "ada")}
    world.run(10.0)
    assert peer.view.status_of(PeerName("dee")) is Status.ALIVE
    assert [peer.view.is_present(PeerName(name)) for name in ("bo", "cy", "dee")] == [True, False, False]
    assert world["ada"].view.alive == {"bo"}


def test_one_who_is_asked_whether_it_lives_itself_says_yes() -> None:
    """Nobody who keeps to the rules asks that; what it says is true all the same."""
    world = together("ada", "bo")
    world.log.clear()
    world.inject("ada", Envelope(PeerName("bo"), Boot(2000), "ada", 1000, PingRequest(77, PeerName("ada"))))
    (answer,) = [sent.message for sent in world.said("ada", "bo", Ack) if isinstance(sent.message, Ack)]
    assert (answer.number, answer.about, answer.about_boot) == (77, "ada", 1000)
    assert not world["ada"].peer.membership.prober.errands

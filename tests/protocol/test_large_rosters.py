"""A roster of more members than are greeted at the start: they are presumed present; rows are kept for what differs."""

from __future__ import annotations

import random

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Confirm, Envelope
from gossipdistill.presence import Ack, Claim, ClaimKind, Contact, Greeting, Ping, Refusal, RefusalCode
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.table import Timer

from .harness import FINGERPRINT, AlwaysMyself, World, address_of

NAMES = [f"p{number:02}" for number in range(24)]
ABSENT = (EventKind.SUSPECT, EventKind.DEAD, EventKind.LEFT)


@pytest.fixture
def world() -> World:
    world = World(*NAMES, limits=Limits(greeted_at_start_max=8))
    world.run(10.0)
    return world


def present(world: World, name: str) -> int:
    """How many count `name` among the living."""
    return sum(p.peer.view.is_present(PeerName(name)) for p in world.processes.values() if p.peer.me.name != name)


def rows(world: World) -> int:
    return sum(len(process.peer.membership.table.rows) for process in world.processes.values())


def test_in_calm_nobody_greets_nobody_is_suspected_and_there_are_no_rows(world: World) -> None:
    assert not [sent for sent in world.log if isinstance(sent.message, Greeting)]
    assert not [event for process in world.processes.values() for event in process.events]
    assert all(present(world, name) == 23 for name in NAMES)
    assert rows(world) == 0
    per_second = len(world.log) / len(NAMES) / 10.0
    assert per_second <= 4.2, "a ping and an ack of mine, and the same for another, per interval"


def test_business_begins_with_a_greeting_and_the_row_is_forgotten_afterwards(world: World) -> None:
    world.publish("p03", "p17", 7)
    world.run(0.1)
    assert world["p17"].values("p03") == [7]
    assert rows(world) == 2
    world.run(70.0)
    assert rows(world) == 0
    world.publish("p03", "p17", 8)
    world.run(0.1)
    assert world["p17"].values("p03") == [7, 8]


def test_a_death_is_known_to_all_and_a_return_as_well(world: World) -> None:
    world.kill("p05")
    world.run(20.0)
    assert present(world, "p05") == 0
    world.start("p05")
    world.run(10.0)
    assert present(world, "p05") == 23
    world.run(60.0)
    assert rows(world) == 0


def test_with_keys_a_newer_process_of_one_in_business_is_greeted_at_its_first_ping() -> None:
    world = World(*NAMES, limits=Limits(greeted_at_start_max=8), keyed=True)
    world.publish("p03", "p17", 7)
    world.run(0.1)
    p03, p17 = world["p03"].peer, world["p17"].peer.me
    assert p03.view.status_of(p17.name) is Status.ALIVE
    before = len(world.said("p03", "p17", Greeting))
    world.inject("p03", Envelope(p17.name, Boot(p17.boot + 1), p03.me.name, p03.me.boot, Ping(900, 1, False)))
    world.run(0.1)
    assert len(world.said("p03", "p17", Greeting)) > before


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
def test_who_is_said_to_refuse_is_asked_ever_more_seldom_and_is_back_with_its_answer(keyed: bool) -> None:
    """Storms 47088 and 41156: in a large run the one may probe the other for ever, and its probes do not say that it
    has accepted it."""
    world = World(*NAMES, limits=Limits(greeted_at_start_max=8), keyed=keyed)
    p03, p17, longest_s = world["p03"].peer, world["p17"].peer.me, world.limits.greet_interval_max_s
    world.cut = {("p03", "p17"), ("p17", "p03")}
    world.run(1.0)
    refusal = Refusal(RefusalCode.WIRE_VERSION, "a lie")
    world.inject("p03", Envelope(p17.name, p17.boot, p03.me.name, p03.me.boot, refusal))
    assert p03.view.status_of(p17.name) is Status.REFUSED
    world.log.clear()
    world.run(100 * longest_s)
    assert 10 < len(world.said("p03", "p17", Greeting)) < 20
    assert p03.view.status_of(p17.name) is Status.REFUSED
    world.cut = set()
    world.run(8 * longest_s)
    assert p03.view.is_alive(p17.name)
    assert world["p17"].peer.view.is_alive(p03.me.name)


def test_one_who_alone_has_heard_a_refutation_looks_when_others_speak_of_a_death(world: World) -> None:
    """What they say is older than what it knows, so it proves nothing; its own turn to probe p05 may be far away."""
    p00, boot = world["p00"].peer, world["p05"].peer.me.boot
    world.publish("p00", "p05", 7)
    world.run(0.1)
    alive = Claim(PeerName("p05"), boot, 1, ClaimKind.ALIVE, PeerName("p05"))
    world.inject("p00", Envelope(PeerName("p05"), boot, "p00", p00.me.boot, Ping(99, 0, False, (alive,), 1)))
    world.kill("p05")
    p00.membership.probe_messages.dissemination.drop(PeerName("p05"))  # all that it tells of this gets lost
    p00.membership.prober.business.clear()
    p00.membership.prober.rotation = AlwaysMyself(random.Random(0))
    world.run(20.0)
    assert present(world, "p05") == 0
    assert world["p00"].peer.view.status_of(PeerName("p05")) is Status.DEAD


def test_one_who_has_just_heard_the_accused_tells_the_others_of_its_refutation(world: World) -> None:
    p00, p05 = world["p00"].peer, world["p05"].peer.me
    world.publish("p00", "p05", 7)
    world.run(0.1)
    alive = Claim(p05.name, p05.boot, 1, ClaimKind.ALIVE, p05.name)
    world.inject("p00", Envelope(p05.name, p05.boot, "p00", p00.me.boot, Ping(99, 0, False, (alive,), 1)))
    p00.membership.probe_messages.dissemination.drop(p05.name)  # told often enough, and p07 missed it
    world.log.clear()
    stale = Claim(p05.name, Boot(0), 0, ClaimKind.DEAD, PeerName("p07"))
    for _ in range(2):  # said again at once, it is answered once
        world.inject(
            "p00", Envelope(PeerName("p07"), world["p07"].peer.me.boot, "p00", 0, Ping(9, 0, False, (stale,), 0))
        )
    world.run(2.0)
    words = [sent.message for sent in world.log if sent.sender == "p00" and isinstance(sent.message, Ping | Ack)]
    told = [claim for word in words for claim in word.claims if claim.name == "p05"]
    assert {(claim.kind, claim.boot, claim.incarnation) for claim in told} == {(ClaimKind.ALIVE, p05.boot, 1)}


def test_one_who_left_and_starts_again_is_present_again(world: World) -> None:
    world.leave("p05")
    world.run(10.0)
    assert present(world, "p05") == 0
    assert world["p00"].peer.view.status_of(PeerName("p05")) is Status.LEFT
    world.start("p05")
    world.run(10.0)
    assert present(world, "p05") == 23


def test_a_restart_in_the_midst_of_business_is_greeted_afresh(world: World) -> None:
    world.publish("p03", "p17", 7)
    world.run(1.0)
    world.kill("p17")
    world.start("p17")
    world.publish("p03", "p17", 8)
    world.run(3.0)
    assert world["p17"].values("p03") == [8]


def test_who_came_back_and_whose_greeting_was_answered_in_vain_is_greeted_until_it_has_heard(world: World) -> None:
    """It has no reason of its own to call again, and p00 has a parcel that waits for it."""
    world["p05"].learning = False
    world.consign("p00", "p05", 7, 0.25)
    world.run(0.1)
    world.kill("p05")
    world.run(0.1)
    world.cut = {("p00", "p05"), ("p05", "p00")}
    back = world.start("p05").peer.me
    call = Greeting(back.address, back.place, FINGERPRINT, (), reply_wanted=True)
    world.inject("p00", Envelope(back.name, back.boot, "p00", 0, call))
    world.run(0.05)
    world.cut.clear()
    world.run(2.0)
    assert world["p00"].peer.view.is_alive(PeerName("p05"))
    assert world["p05"].peer.view.is_alive(PeerName("p00"))
    assert not world["p00"].peer.reliable_messages.sender.in_flight()


def test_halves_that_were_apart_are_whole_within_five_seconds(world: World) -> None:
    world.cut_off(*NAMES[:12])
    world.run(60.0)
    assert present(world, "p00") <= 12
    world.cut.clear()
    world.run(5.0)
    assert all(present(world, name) == 23 for name in NAMES)


def test_one_who_starts_after_the_rumour_is_told_who_is_gone(world: World) -> None:
    world.kill("p05")
    world.leave("p06")
    world.kill("p07")
    world.run(60.0)
    world.start("p07")
    world.run(5.0)
    assert world["p07"].peer.view.status_of(PeerName("p05")) is Status.DEAD
    assert world["p07"].peer.view.status_of(PeerName("p06")) is Status.LEFT


def test_those_who_left_and_those_who_died_are_called_now_and_then(world: World) -> None:
    world.leave("p05")
    world.kill("p06")
    world.run(30.0)
    world.log.clear()
    world.run(10.0)
    for gone in "p05", "p06":
        calls = [sent for sent in world.log if sent.to == gone]
        assert 10 <= len(calls) <= 80, "about four a second for two, of all together"


def test_one_who_has_forgotten_the_other_greets_it_when_a_parcel_comes(world: World) -> None:
    world.publish("p03", "p17", 7)
    world.run(1.0)
    table = world["p17"].peer.membership.table
    world["p17"].peer.membership.prober.business.clear()
    table.drop("p03", False, world.now)
    assert table.find("p03") is None
    world.publish("p03", "p17", 8)
    world.run(5.0)
    assert world["p17"].values("p03")[-1] == 8


@pytest.mark.parametrize("reminders", [0, 2])
def test_one_who_missed_a_death_is_reminded_of_it(reminders: int) -> None:
    world = World(*NAMES, limits=Limits(greeted_at_start_max=8, reminders_per_message=reminders))
    world.run(1.0)
    boot = world["p05"].peer.me.boot
    world.kill("p05")
    world.run(60.0)
    late = Envelope(PeerName("p05"), boot, "p03", 0, Ping(1, 0, False, (), 0))  # it was under way all the time
    world["p03"].peer.receive(late, world.now)
    assert world["p03"].peer.view.is_present(PeerName("p05"))
    world.run(4.0)  # of its own it would probe it when its turn comes, once in 24 intervals of half a second
    assert world["p03"].peer.view.is_present(PeerName("p05")) == (not reminders)


def test_nobody_is_reminded_of_a_death_once_its_holder_has_heard_the_new_process(world: World) -> None:
    world.kill("p05")
    world.run(20.0)
    world.start("p05")
    world.run(10.0)
    said = len(world.log)
    world.run(30.0)
    words = [sent.message for sent in world.log[said:] if isinstance(sent.message, Ping | Ack)]
    assert len(words) > 500
    claims = [claim for word in words for claim in word.claims if claim.name == "p05"]
    assert not [claim for claim in claims if claim.kind is ClaimKind.DEAD]


def test_a_snapshot_that_was_held_back_is_told_later(world: World) -> None:
    world.run(1.0)
    table = world["p03"].peer.membership.table
    table.become(table.row(PeerName("p05"), world.now), Status.SUSPECT, EventKind.SUSPECT, "for once", world.now)
    first = world["p03"].peer.view.neighbourhood()
    assert first is not None
    assert PeerName("p05") not in first.alive
    table.become(table.row(PeerName("p06"), world.now), Status.SUSPECT, EventKind.SUSPECT, "for twice", world.now)
    assert world["p03"].peer.view.neighbourhood() is None, "two within a quarter of a second"
    later_s = world.now + 0.5
    table.timers.pop_due(later_s)
    table.pace.now_s = later_s
    second = world["p03"].peer.view.neighbourhood()
    assert second is not None
    assert PeerName("p06") not in second.alive


def test_who_is_present_is_a_set_like_any_other(world: World) -> None:
    world.kill("p05")
    world.leave("p06")
    world.run(20.0)
    alive, others = world["p03"].view.alive, set(NAMES) - {"p03", "p05", "p06"}
    assert alive == others
    assert len(alive) == 21
    assert sorted(alive) == sorted(others)
    assert PeerName("p05") not in alive
    assert PeerName("mallory") not in alive
    assert alive - {PeerName("p00")} == others - {"p00"}
    assert type(alive & frozenset(alive)) is frozenset, "what is made of it is a set of its own"
    assert repr(alive) == "Present(21 of 24)", "thousands of names would fill every log"
    assert world["p03"].peer.view.status_of(PeerName("p00")) is Status.UNHEARD, "presumed"
    assert world["p03"].peer.view.status_of(PeerName("mallory")) is None


@pytest.mark.parametrize(("kept_max", "kept"), [(2, {"p02", "p03"}), (3, {"p01", "p02", "p03"})])
def test_rows_are_kept_for_those_with_whom_there_was_business_last(kept_max: int, kept: set[str]) -> None:
    limits = Limits(greeted_at_start_max=8, business_max=kept_max, business_s=30.0)
    world = World(*NAMES, limits=limits)
    for _ in range(2):
        for name in "p01", "p02", "p03":
            world.publish("p00", name, 1)
            world.run(5.0)
    world.run(2.0)
    assert set(world["p00"].peer.membership.table.rows) == kept


def test_one_who_is_forgotten_is_confirmed_nothing_and_says_it_again(world: World) -> None:
    world.publish("p03", "p17", 7)
    world.run(1.0)
    world.publish("p03", "p17", 8)
    world.run(0.1)
    world.log.clear()
    owes = world["p17"].peer
    owes.membership.prober.business.clear()
    owes.membership.table.drop("p03", False, world.now)
    world.run(0.5)
    assert not world.said("p17", "p03", Confirm), "its address went with its row"
    world.run(10.0)
    assert world["p17"].values("p03") == [7, 8]
    assert world.said("p17", "p03", Confirm)
    assert not world["p03"].peer.states.sender.has_something_for(PeerName("p17"))


def test_one_who_is_forgotten_in_the_moment_of_its_greeting_is_not_greeted(world: World) -> None:
    """A loop that is late finds both due in one turn."""
    table = world["p03"].peer.membership.table
    table.row("p17", world.now)
    table.timers.set(Timer("drop", "p17"), world.now)
    table.timers.set(Timer("greet", "p17"), world.now)
    world.run(5.0)
    assert table.find("p17") is None
    assert not world.said("p03", "p17", Greeting)


def test_a_probe_of_a_new_process_with_whose_predecessor_there_was_business_is_answered_by_a_greeting(
    world: World,
) -> None:
    world.publish("p03", "p17", 7)
    world.run(1.0)
    world.kill("p17")
    world.start("p17")
    boot = world["p17"].peer.me.boot
    world.inject("p03", Envelope(PeerName("p17"), boot, "p03", 0, Ping(1, 0, False)))
    world.run(0.5)
    assert world["p17"].values("p03") == [7], "the newest state, and nothing new was published"
    assert world["p03"].peer.view.boot_of(PeerName("p17")) == boot


def test_a_last_word_goes_to_a_few_others_and_never_to_oneself(world: World) -> None:
    told = {}
    for name in NAMES:
        world[name].peer.membership.leave("finished")
        told[name] = [one.envelope.to for one in world[name].peer.transmits()]
    assert not [name for name in NAMES if name in told[name]]
    assert all(1 <= len(set(names)) == len(names) <= DEFAULT_LIMITS.watched_max for names in told.values())


def test_newcomers_without_a_roster_are_not_all_greeted_by_all() -> None:
    names = NAMES[:12]
    world = World(*names, closed=False, limits=Limits(greeted_at_start_max=8))
    for place, name in enumerate(names):
        world.start(name, place=place, seeds=[address_of(0)] if place else (), expected=13)
    world.run(30.0)
    tables = {name: world[name].peer.membership.table for name in names}
    assert all(set(table.rows) == set(names) - {name} for name, table in tables.items())
    pairs = {(sent.sender, sent.to) for sent in world.log if isinstance(sent.message, Greeting)}
    assert len({frozenset(pair) for pair in pairs}) < 12 * 11 / 4
    first = world["p00"].peer
    assert first.membership.admission.learn_of(Contact(PeerName("p12"), address_of(12), 12), world.now)
    assert first.next_timeout() > world.now, "nothing is to be done about one with whom there is no business"

"""Probes, suspicion, refutation and rumours: scenes on a network in memory, in virtual time."""

from __future__ import annotations

import random

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Envelope
from gossipdistill.presence import Ack, Claim, ClaimKind, Greeting, Leave, Ping, PingRequest
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.suspicion import Suspicion
from gossipdistill.protocol.table import Timer

from .harness import AlwaysMyself, Sent, World, address_of

JOINED, SUSPECT, DEAD, RETURNED = EventKind.JOINED, EventKind.SUSPECT, EventKind.DEAD, EventKind.RETURNED
LEFT, REFUTED = EventKind.LEFT, EventKind.REFUTED
UNREACHABLE, REACHABLE = EventKind.UNREACHABLE, EventKind.REACHABLE
INTERVAL_S = DEFAULT_LIMITS.probe_interval_s


def together(*names: str, **options: object) -> World:
    world = World(*(names or ("ada", "bo", "cy", "dee")), **options)  # type: ignore[arg-type]
    world.run(1.0)
    assert world.all_alive()
    world.log.clear()
    return world


def due(world: World, name: str) -> list[tuple[float, Timer]]:
    """What its membership has to do yet, and when."""
    return [(due_s, timer) for timer, due_s in world[name].peer.membership.table.timers.items()]


def claims(world: World, to: str, *said: Claim, by: str = "bo") -> None:
    """`by` pings `to`, with claims."""
    boot = world[by].peer.me.boot
    ping = Ping(99_999, 0, False, said, 0)
    world.inject(to, Envelope(PeerName(by), boot, to, world[to].peer.me.boot, ping))


def claim(about: str, kind: ClaimKind, boot: int, incarnation: int = 0, by: str = "bo") -> Claim:
    return Claim(PeerName(about), boot, incarnation, kind, PeerName(by))


def asked_by_ada(world: World) -> tuple[int, str]:
    """Run until ada asks for a sign of life of dee: the number of its probe, and who was asked."""
    asked: list[Sent] = []
    while not asked:
        world.log.clear()
        world.run(0.01)
        asked = [sent for sent in world.log if sent.sender == "ada" and isinstance(sent.message, PingRequest)]
    message = asked[0].message
    assert isinstance(message, PingRequest)
    assert message.target == "dee"
    return message.number, asked[0].to


def vouch(world: World, number: int, relay: str, boot: int) -> None:
    """The relay says to ada that dee has answered, as this process."""
    ack = Ack(number, 0, False, (), "dee", boot)
    world.inject("ada", Envelope(PeerName(relay), world[relay].peer.me.boot, "ada", 1000, ack))


# --- probes ---------------------------------------------------------------------------------------------------------


def test_where_parcels_come_and_go_hardly_anybody_is_probed() -> None:
    world = together()
    for value in range(1, 51):
        for sender in world.names:
            for to in world.names:
                if sender != to:
                    world.publish(sender, to, value)
        world.run(0.2)
    probes = [sent for sent in world.log if isinstance(sent.message, Ping | Ack | PingRequest)]
    assert len(probes) <= 4, f"{len(probes)} words of probing beside 600 states in 10 s"


def test_at_rest_each_pair_says_about_one_ping_and_one_ack_per_interval() -> None:
    world = together()
    world.run(20.0)
    pairs, intervals = 6, 20.0 / INTERVAL_S
    assert {type(sent.message) for sent in world.log} == {Ping, Ack}
    assert len(world.log) <= 2.2 * pairs * intervals


def test_a_direct_way_that_is_cut_is_bridged_by_others_and_makes_no_suspect() -> None:
    world = together()
    world.cut = {("ada", "dee"), ("dee", "ada")}
    world.run(60.0)
    for me, other in ("ada", "dee"), ("dee", "ada"):
        assert world[me].kinds(other) == [JOINED, UNREACHABLE]
        assert "but not to me for" in world[me].events[-1].reason
        assert world[me].peer.view.status_of(PeerName(other)) is Status.ALIVE
        assert not world[me].peer.view.is_alive(PeerName(other))
    assert all(world[me].kinds("dee") == [JOINED] for me in ("bo", "cy"))
    world.cut.clear()
    world.run(4.0)
    assert world["ada"].kinds("dee") == [JOINED, UNREACHABLE, REACHABLE]
    assert world.all_alive()


def test_a_one_way_link_makes_no_suspect_either() -> None:
    world = together()
    world.cut = {("ada", "dee")}
    world.run(60.0)
    assert world["ada"].kinds("dee") == [JOINED]
    assert world["dee"].kinds("ada") == [JOINED, UNREACHABLE]
    world["dee"].peer.neighbourhood()


@pytest.mark.parametrize(
    ("boot", "news", "greetings"), [(3999, [], 0), (4000, [RETURNED, UNREACHABLE], 0), (4001, [], 1)]
)
def test_a_relay_vouches_for_the_process_that_it_has_heard(boot: int, news: list[EventKind], greetings: int) -> None:
    """One that had ended before proves nothing, and of a newer one I must hear myself what it agrees to."""
    world = together()
    assert world["dee"].peer.me.boot == 4000
    world.kill("dee")
    world.run(2.0)
    number, relay = asked_by_ada(world)
    assert world["ada"].kinds("dee") == [JOINED, SUSPECT]
    world.log.clear()
    vouch(world, number, relay, boot)
    assert world["ada"].kinds("dee")[2:] == news
    assert len(world.said("ada", "dee", Greeting)) == greetings


def test_what_a_relay_heard_before_the_last_word_does_not_bring_back_who_has_left() -> None:
    world = together()
    world.cut_off("dee")
    number, relay = asked_by_ada(world)
    world.inject("ada", Envelope(PeerName("dee"), Boot(4000), "ada", 1000, Leave("finished")))
    vouch(world, number, relay, 4000)
    assert world["ada"].kinds("dee") == [JOINED, LEFT]
    assert world["ada"].peer.view.status_of(PeerName("dee")) is Status.LEFT


def test_a_relay_vouches_for_one_that_has_left_by_hearsay() -> None:
    world = together()
    world.cut_off("dee")
    asked_by_ada(world)
    world.run(INTERVAL_S)
    number, relay = asked_by_ada(world)  # again: one probe of its own has failed, and the claim is believed at once
    claims(world, "ada", claim("dee", ClaimKind.LEFT, 4000))
    assert world["ada"].peer.view.status_of(PeerName("dee")) is Status.LEFT
    vouch(world, number, relay, 4000)
    assert world["ada"].peer.view.status_of(PeerName("dee")) is Status.ALIVE


def test_a_slow_peer_doubts_itself_first() -> None:
    """All that slo says and hears takes half a second: its own time-outs grow, and nobody is buried."""
    world = together("ada", "bo", "cy", "slo")
    fly = world._fly

    def delayed(transmit):  # type: ignore[no-untyped-def]
        slow = "slo" in (transmit.envelope.sender, transmit.envelope.to)
        world.delay_s = (0.5, 0.5) if slow else (0.001, 0.001)
        fly(transmit)

    world._fly = delayed  # type: ignore[method-assign]
    doubts = dict.fromkeys(world.names, 0)
    for _ in range(240):
        world.run(0.5)
        for name in world.names:
            doubts[name] += world[name].peer.membership.health.score
    assert doubts[PeerName("slo")] > 2 * max(doubts[PeerName(name)] for name in ("ada", "bo", "cy")), doubts
    assert not any(DEAD in world[me].kinds(other) for me in world.names for other in world.names)


def test_a_slow_peer_too_probes_those_with_whom_it_had_business_since_its_last_turn() -> None:
    """Its turns are further apart than a member is watched after a parcel."""
    world = together("ada", "bo", "cy", "dee", *(f"p{place}" for place in range(4, 12)))
    prober = world["ada"].peer.membership.prober
    prober.health.score = prober.health.worst
    turned_s = prober.turned_s
    while prober.turned_s == turned_s:
        world.run(0.01)
    world.publish("ada", "dee", 1)
    world.kill("dee")
    prober.rotation, turned_s = AlwaysMyself(random.Random(0)), prober.turned_s
    while prober.turned_s == turned_s:
        world.run(0.01)
    assert prober.turned_s > turned_s + 2 * DEFAULT_LIMITS.watch_s
    assert "dee" in [probe.target for probe in prober.probes.values()]


def test_losing_a_fifth_of_all_messages_buries_nobody() -> None:
    for seed in range(3):
        world = together("ada", "bo", "cy", "dee", "eve", "fay", seed=seed)
        world.loss = 0.2
        world.run(120.0)
        for me in world.names:
            assert not [e for e in world[me].events if e.kind is DEAD], f"seed {seed}"


# --- what others say ------------------------------------------------------------------------------------------------


def test_a_dead_claim_alone_stays_a_suspicion_until_the_accused_answers() -> None:
    world = together()
    world.stop("cy")
    world.run(0.6)
    claims(world, "ada", claim("cy", ClaimKind.DEAD, 3000))
    assert world["ada"].peer.view.status_of(PeerName("cy")) is Status.SUSPECT
    assert world["ada"].events[-1].reason == "called dead by bo"
    world.resume("cy", clock_first=True)
    world.run(1.0)
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, RETURNED]


def test_a_dead_claim_and_a_failed_ping_of_my_own_are_a_death() -> None:
    world = together()
    world.kill("cy")
    world.run(0.6)
    claims(world, "ada", claim("cy", ClaimKind.DEAD, 3000))
    world.run(2 * INTERVAL_S)
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, DEAD]


def test_a_fresh_word_overrides_what_others_say() -> None:
    world = together()
    world.publish("cy", "ada", 1)
    world.run(0.01)
    claims(world, "ada", claim("cy", ClaimKind.DEAD, 3000), claim("cy", ClaimKind.SUSPECT, 3000))
    assert world["ada"].kinds("cy") == [JOINED]


@pytest.mark.parametrize("known_s", [0.0, 30.0])
def test_a_word_that_comes_after_its_senders_end_is_looked_into(known_s: float) -> None:
    """All others know of the death and do not speak of it again; ada's own turn to probe dee may be far away. It comes
    just before what they say, which it overrides, or long after."""
    world = together("ada", "bo", "cy", "dee", *(f"p{place}" for place in range(4, 12)))
    ada, dee = world["ada"].peer, world["dee"].peer.me
    world.kill("dee")
    world.run(known_s)
    ada.membership.prober.rotation = AlwaysMyself(random.Random(0))
    late = Greeting(dee.address, dee.place, dee.fingerprint, (), reply_wanted=False)
    world.inject("ada", Envelope(dee.name, dee.boot, "ada", ada.me.boot, late))
    before = [JOINED, SUSPECT, DEAD, RETURNED] if known_s else [JOINED]
    assert world["ada"].kinds("dee") == before
    for _ in range(0 if known_s else 2):
        claims(world, "ada", claim("dee", ClaimKind.SUSPECT, dee.boot), claim("dee", ClaimKind.DEAD, dee.boot))
    assert [timer for _, timer in due(world, "ada") if timer.what == "look"] == [Timer("look", "dee")]
    world.run(20.0)
    assert world["ada"].kinds("dee") == [*before, SUSPECT, DEAD]


def test_who_has_missed_a_rumour_is_reminded() -> None:
    """Ada believes a late word of dee, and neither looks nor has its turn to probe it."""
    world = together("ada", "bo", "cy", "dee", *(f"p{place}" for place in range(4, 12)))
    ada, dee = world["ada"].peer, world["dee"].peer.me
    world.kill("dee")
    world.run(30.0)
    ada.membership.prober.rotation = AlwaysMyself(random.Random(0))
    late = Greeting(dee.address, dee.place, dee.fingerprint, (), reply_wanted=False)
    world.inject("ada", Envelope(dee.name, dee.boot, "ada", ada.me.boot, late))
    ada.membership.table.timers.set(Timer("look", "dee"), float("inf"))
    world.run(20.0)
    assert world["ada"].kinds("dee") == [JOINED, SUSPECT, DEAD, RETURNED, SUSPECT, DEAD]
    assert "called dead by" in world["ada"].events[-2].reason


def test_the_accused_refutes_and_the_refutation_reaches_those_it_cannot_reach() -> None:
    world = together()
    world.cut = {("cy", "ada"), ("ada", "cy")}
    world.run(0.6)
    claims(world, "ada", claim("cy", ClaimKind.SUSPECT, 3000))
    assert world["ada"].peer.view.status_of(PeerName("cy")) is Status.SUSPECT
    claims(world, "cy", claim("cy", ClaimKind.SUSPECT, 3000))
    assert [event.reason for event in world["cy"].events if event.kind is REFUTED] == [
        "called suspect by bo, and not so"
    ]
    world.run(2.0)
    assert DEAD not in world["ada"].kinds("cy")
    assert world["ada"].peer.view.status_of(PeerName("cy")) is Status.ALIVE


def test_a_refutation_number_that_jumps_is_a_lie() -> None:
    jump = DEFAULT_LIMITS.incarnation_jump_max
    world = together()
    world.run(1.0)
    world.stop("cy")
    world.run(0.6)
    claims(world, "ada", claim("cy", ClaimKind.SUSPECT, 3000, jump + 1))
    assert world["ada"].kinds("cy") == [JOINED]
    claims(world, "ada", claim("cy", ClaimKind.SUSPECT, 3000, jump))
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT]
    claims(world, "ada", claim("cy", ClaimKind.ALIVE, 3000, jump + 2 + jump))
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT]
    claims(world, "dee", claim("dee", ClaimKind.SUSPECT, 4000, jump + 1))
    assert REFUTED not in world["dee"].kinds("dee")


def test_nobody_else_raises_my_boot() -> None:
    world = together()
    claims(world, "ada", claim("cy", ClaimKind.ALIVE, 2**62), claim("cy", ClaimKind.DEAD, 2**62))
    world.run(5.0)
    assert world["ada"].kinds("cy") == [JOINED]
    assert len(world.said("ada", "cy", Greeting)) <= 2
    assert world.all_alive()


@pytest.mark.parametrize(("confirmations", "lasts_s"), [(0, 6.0), (1, 4.0), (2, 2.830), (3, 2.0), (9, 2.0)])
def test_suspicion_shortens_with_independent_confirmations(confirmations: int, lasts_s: float) -> None:
    """Lifeguard, section IV-B, with K = 3, 2 s at least and 6 s at most."""
    case = Suspicion.begin(DEFAULT_LIMITS, 8, 100.0)
    assert case.confirm(PeerName("ada"))
    assert not case.confirm(PeerName("ada")), "one accuser counts once"
    for number in range(confirmations):
        assert case.confirm(PeerName(f"p{number}")) == (number < 3)
    assert case.deadline_s() - 100.0 == pytest.approx(lasts_s, abs=1e-3)


def test_where_nobody_can_confirm_a_suspicion_is_short_and_where_all_do_as_well() -> None:
    for names in ("ada", "cy"), ("ada", "cy", "bo", "dee", "eve", "fay"):
        world = together(*names)
        world.kill("cy")
        world.run(10.0)
        began_s, ended_s = (e.at_s for e in world["ada"].events if e.peer == "cy" and e.kind in (SUSPECT, DEAD))
        assert ended_s - began_s <= 2.6
    alone = Suspicion.begin(DEFAULT_LIMITS, 2, 0.0)
    assert alone.deadline_s() == 2.0


def test_what_was_due_in_the_case_against_an_ended_process_is_nothing_to_the_new_one() -> None:
    world = together()
    world.kill("cy")
    world.run(0.6)
    claims(world, "ada", claim("cy", ClaimKind.DEAD, 3000))  # a ping to verify it is due within 0.2 s
    (again_s,) = [s for s, timer in due(world, "ada") if timer == Timer("verify", "cy")]
    world.start("cy")
    world.run(again_s - world.now + 0.001)
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, RETURNED]
    assert not [sent for sent in world.said("ada", "cy", Ping) if sent.at_s == again_s]
    (ends_s,) = [s for s, timer in due(world, "ada") if timer == Timer("suspicion", "cy")]
    world.run(ends_s - world.now + 1.0)
    assert world["ada"].kinds("cy") == [JOINED, SUSPECT, RETURNED]


def test_a_case_lasts_its_own_time_although_the_end_of_an_earlier_one_comes_late() -> None:
    """Both lie under one name: where a loop is late, the turn that opens a case may find the end of the other due."""
    world = together("ada", "bo")
    world.kill("bo")
    world.run(2.0)
    (event,) = [event for event in world["ada"].events if event.kind is SUSPECT]
    table = world["ada"].peer.membership.table
    table.timers.set(Timer("suspicion", "bo"), world.now)
    world.run(0.1)
    assert world["ada"].kinds("bo") == [JOINED, SUSPECT]
    world.run(10.0)
    dead = world["ada"].events[-1]
    assert (dead.kind, dead.at_s - event.at_s) == (DEAD, pytest.approx(2.0))


def test_a_probe_that_was_under_way_when_i_was_stopped_accuses_nobody() -> None:
    limits = Limits(silence_intervals=5.0)  # the doubt lasts longer than the pause
    world = together("ada", "cy", limits=limits)
    world.cut_off("cy")
    prober = world["ada"].peer.membership.prober
    while not prober.doubts:
        world.run(0.01)
    assert list(prober.doubts) == ["cy"]
    world.stop("ada")
    world.run(DEFAULT_LIMITS.pause_forgiven_s + 0.5)
    world.cut.clear()
    world.resume("ada", clock_first=True)
    assert not prober.doubts
    world.run(10.0)
    assert world["ada"].kinds("cy") == [JOINED]


def test_a_suspect_has_its_whole_time_although_i_was_stopped_meanwhile() -> None:
    world = together("ada", "cy")
    world.kill("cy")
    while SUSPECT not in world["ada"].kinds("cy"):
        world.run(0.1)
    world.run(1.0)
    world.stop("ada")
    world.run(30.0)
    world.resume("ada", clock_first=True)
    assert world["ada"].peer.view.status_of(PeerName("cy")) is Status.SUSPECT
    world.run(10.0)
    suspected_s, dead_s = (e.at_s for e in world["ada"].events if e.kind in (SUSPECT, DEAD))
    assert 31.5 <= dead_s - suspected_s <= 32.0, "two seconds, and those in which it could not have been heard"


# --- coming and going -----------------------------------------------------------------------------------------------


def test_a_crash_that_can_still_speak_is_a_death_at_once() -> None:
    world = together()
    world["dee"].peer.membership.leave("ValueError: no such thing", crashed=True)
    world._pump(world["dee"])
    world.kill("dee")
    world.run(0.1)
    for me in "ada", "bo", "cy":
        assert world[me].kinds("dee") == [JOINED, DEAD]
        assert world[me].events[-1].reason == "crashed: ValueError: no such thing"
    world.start("dee")
    world.run(1.0)
    assert world["ada"].kinds("dee") == [JOINED, DEAD, RETURNED]
    assert world.all_alive()


def test_of_one_that_has_just_said_that_it_crashed_nobody_says_that_it_lives() -> None:
    """An accusation that its refutation had overtaken comes after its last word."""
    world = together()
    alive = Claim(PeerName("dee"), Boot(4000), 1, ClaimKind.ALIVE, PeerName("dee"))
    claims(world, "ada", alive, by="dee")
    world.kill("dee")
    world.inject("ada", Envelope(PeerName("dee"), Boot(4000), "ada", 1000, Leave("out of memory", crashed=True)))
    world.log.clear()
    claims(world, "ada", claim("dee", ClaimKind.DEAD, 4000))
    world.run(2 * INTERVAL_S)
    words = [sent.message for sent in world.log if sent.sender == "ada" and isinstance(sent.message, Ping | Ack)]
    told = {claim.kind for word in words for claim in word.claims if claim.name == "dee"}
    assert told == {ClaimKind.DEAD}


def test_a_crash_that_one_has_heard_is_verified_by_the_others() -> None:
    world = together()
    world.kill("dee")
    rattle = Leave("out of memory", crashed=True)
    world.inject("ada", Envelope(PeerName("dee"), Boot(4000), "ada", 1000, rattle))
    world.run(3.0)
    for me in "bo", "cy":
        assert world[me].kinds("dee") == [JOINED, SUSPECT, DEAD]


def test_one_who_has_left_is_known_to_those_who_missed_its_last_word() -> None:
    world = together()
    world.cut = {("dee", "cy")}
    world.leave("dee")
    world.run(5.0)
    assert world["cy"].kinds("dee") in ([JOINED, LEFT], [JOINED, SUSPECT, LEFT])
    assert world["ada"].kinds("dee") == [JOINED, LEFT]


@pytest.mark.parametrize("closed", [True, False])
def test_a_lie_that_two_have_left_does_not_outlive_the_split_in_which_it_was_believed(closed: bool) -> None:
    """Neither answers to the other, so both believe bo, who lies and says nothing else."""
    world = World("ada", "bo", "dee", closed=closed)
    if not closed:
        for place, name in enumerate(("ada", "bo", "dee")):
            world.start(name, place=place, seeds=[address_of(0)] if place else ())
    world.run(2.0)
    assert world.all_alive()
    boots = {name: world[name].peer.me.boot for name in ("ada", "dee")}
    for name in "ada", "bo", "dee":
        world.cut_off(name)
    world.run(2 * INTERVAL_S)
    for to, about in ("ada", "dee"), ("dee", "ada"):
        claims(world, to, claim(about, ClaimKind.LEFT, boots[about]))
    world.run(3.0)
    for me, other in ("ada", "dee"), ("dee", "ada"):
        assert world[me].kinds(other)[-1] is LEFT
        assert world[me].events[-1].reason == "it has left, say others, and does not answer"
    world.cut -= {("ada", "dee"), ("dee", "ada")}
    world.run(DEFAULT_LIMITS.greet_interval_max_s)
    for me, other in ("ada", "dee"), ("dee", "ada"):
        assert world[me].peer.view.is_alive(PeerName(other))


def test_who_has_left_by_hearsay_refutes_it_to_the_one_who_calls() -> None:
    """Also if its answers do not arrive: others carry the refutation."""
    world = together()
    dee = world["dee"].peer.me.boot
    world.cut_off("dee")
    world.run(2 * INTERVAL_S)
    claims(world, "ada", claim("dee", ClaimKind.LEFT, dee))
    world.run(1.0)
    assert world["ada"].peer.view.status_of(PeerName("dee")) is Status.LEFT
    world.cut = {("dee", "ada")}
    world.run(DEFAULT_LIMITS.greet_interval_max_s + 2 * INTERVAL_S)
    assert REFUTED in world["dee"].kinds("dee")
    assert RETURNED in world["ada"].kinds("dee")


@pytest.mark.parametrize(("place", "told"), [(3, True), (1, False)])
def test_a_rumour_of_a_newcomer_is_told_on_if_there_is_a_place_for_it(place: int, told: bool) -> None:
    world = World("ada", "bo", "cy", "dee", closed=False)
    for index, name in enumerate(("ada", "bo", "cy")):
        world.start(name, place=index, seeds=[address_of(0)] if index else ())
    world.run(2.0)
    world.log.clear()
    zed = Claim(PeerName("zed"), 9000, 0, ClaimKind.ALIVE, PeerName("bo"), address_of(9), place)
    claims(world, "ada", zed)
    world.run(5.0)
    words = [sent.message for sent in world.log if sent.sender == "ada" and isinstance(sent.message, Ping | Ack)]
    assert len(words) > 10
    assert (zed in [claim for word in words for claim in word.claims]) == told
    assert bool(world.said("ada", "zed", Greeting)) == told


@pytest.mark.parametrize("seed_place", [0, 1, 2])
def test_a_newcomer_needs_the_address_of_any_one_live_peer(seed_place: int) -> None:
    world = World("ada", "bo", "cy", "dee", closed=False)
    for place, name in enumerate(("ada", "bo", "cy")):
        world.start(name, place=place, seeds=[address_of(0)] if place else ())
    world.run(2.0)
    world.start("dee", place=3, seeds=[address_of(seed_place)])
    world.run(1.0)
    assert world.all_alive()


def test_two_that_nobody_can_dial_know_one_another_through_others() -> None:
    world = World("ada", "bo", "cy", "dee", mute=("cy", "dee"))
    world.run(5.0)
    for me, other in ("cy", "dee"), ("dee", "cy"):
        assert world[me].kinds(other) == [JOINED]
        assert "neither of us can be dialled" in world[me].events[-1].reason
        assert not world[me].peer.view.is_alive(PeerName(other))
    for me, other in ("ada", "cy"), ("cy", "ada"), ("bo", "dee"), ("dee", "bo"):
        assert world[me].peer.view.is_alive(PeerName(other))
    world.kill("dee")
    world.run(15.0)
    assert world["cy"].kinds("dee") == [JOINED, SUSPECT, DEAD]
    assert world["ada"].kinds("cy") == [JOINED]


# --- split and heal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "within_s"), [(4, 3.0), (16, 6.0), (64, 10.0)])
def test_a_split_of_a_minute_heals_within_its_bound(size: int, within_s: float) -> None:
    names = [f"p{number:02}" for number in range(size)]
    world = together(*names)
    world.cut_off(*names[: size // 2])
    world.run(60.0)
    assert all(world[names[0]].peer.view.status_of(PeerName(other)) is Status.DEAD for other in names[size // 2 :])
    world.cut.clear()
    world.run(within_s)
    assert world.all_alive()
    world.run(10.0)
    assert world.all_alive()

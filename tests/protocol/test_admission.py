"""Who may take part: refusals with their reason, runs without a roster, and whatever else may be said."""

from __future__ import annotations

import msgpack
import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import FEATURE_OF, Announce, Confirm, Content, Envelope, Message, Mode, State, Want
from gossipdistill.presence import Address, Contact, Greeting, Leave, Ping, Refusal, RefusalCode
from gossipdistill.protocol.members import Status, fingerprint_difference
from gossipdistill.wire.codec import encode

from .harness import FINGERPRINT, World, address_of, payload

JOINED, SUSPECT, DEAD = EventKind.JOINED, EventKind.SUSPECT, EventKind.DEAD
RETURNED, LEFT, REFUSED, REFUSED_BY = EventKind.RETURNED, EventKind.LEFT, EventKind.REFUSED, EventKind.REFUSED_BY


def together(*names: str, **options: object) -> World:
    world = World(*(names or ("ada", "bo", "cy")), **options)  # type: ignore[arg-type]
    world.run(1.0)
    assert world.all_alive()
    return world


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_different_fingerprint_is_refused_once_on_each_side_and_the_event_names_what_differs() -> None:
    world = World("ada", "bo", "cy")
    world.start("cy", fingerprint=FINGERPRINT | {"task": "moons"})
    world.run(60.0)
    for me in "ada", "bo":
        (event,) = [event for event in world[me].events if event.peer == "cy"]
        assert event.kind is REFUSED
        assert event.reason == "task: digits here, moons there"
    assert {event.kind for event in world["cy"].events} <= {REFUSED, REFUSED_BY, EventKind.VIEW}
    assert len(world["cy"].events) == 3
    assert len([sent for sent in world.log if "cy" in (sent.sender, sent.to)]) < 20
    world.publish("ada", "cy", 1)
    world.run(1.0)
    assert world["cy"].values("ada") == []


def test_the_refused_one_may_come_again_as_a_new_process() -> None:
    world = World("ada", "bo")
    world.start("bo", fingerprint={})
    world.run(5.0)
    assert world["ada"].kinds("bo") == [REFUSED]
    world.start("bo")
    world.run(1.0)
    assert world["ada"].kinds("bo")[-1] in (JOINED, RETURNED)
    assert world.all_alive()


def test_with_keys_a_process_that_was_refused_stays_so_although_it_says_now_what_it_should() -> None:
    world = World("ada", "bo", keyed=True)
    world.start("bo", fingerprint={})
    world.run(1.0)
    refused = world["bo"].peer.me.boot
    world.kill("bo")
    world.log.clear()
    greeting = Greeting(address_of(1), 1, FINGERPRINT)
    world.inject("ada", Envelope(PeerName("bo"), refused, "ada", 0, greeting))
    assert world["ada"].peer.view.status_of(PeerName("bo")) is Status.REFUSED
    assert world.said("ada", "bo", Greeting) == []
    world.inject("ada", Envelope(PeerName("bo"), Boot(refused + 1), "ada", 0, greeting))
    assert world["ada"].kinds("bo")[-1] is RETURNED


def test_a_fingerprint_difference_shows_both_values_but_no_endless_text() -> None:
    assert fingerprint_difference({"a": "1"}, {"a": "1"}) == ""
    assert fingerprint_difference({"a": "1"}, {"b": "2"}) == "a: 1 here, none there; b: none here, 2 there"
    assert len(fingerprint_difference({"a": "x" * 1000}, {"a": "y" * 1000})) < 200


def test_two_rosters_in_another_order_are_refused() -> None:
    world = World("ada", "bo")
    world.start("bo", place=0, address=address_of(1))
    world.run(5.0)
    (event,) = [event for event in world["ada"].events if event.peer == "bo"]
    assert (event.kind, event.reason) == (REFUSED, "place in the roster: 2 here, 1 there")


@pytest.mark.parametrize("code", [None, RefusalCode.FINGERPRINT, RefusalCode.ENROLMENT])
def test_without_keys_no_refusal_in_its_name_locks_out_one_that_is_still_to_come(code: RefusalCode | None) -> None:
    """None: a word of another wire version."""
    world = World("ada", "bo")
    world.kill("bo")
    ada, bo, later = world["ada"], PeerName("bo"), Boot(10**9)
    for number in range(20):
        if code is None:
            ada.peer.unreadable.other_version(bo, later + number, 1, 3, world.now)
        else:
            world.inject("ada", Envelope(bo, Boot(later + number), "ada", 0, Refusal(code, "a lie")))
        world.run(0.1)
    assert len([event for event in ada.events if event.peer == "bo"]) == 1
    world.start("bo")
    world.run(3.0)
    assert world.all_alive()


def test_a_stranger_is_refused_and_said_once() -> None:
    world = together("ada", "bo")
    world.start("mallory", place=2, roster=("ada", "bo", "mallory"))
    world.run(90.0)
    for me in "ada", "bo":
        (event,) = [event for event in world[me].events if event.peer == "mallory"]
        assert (event.kind, event.reason) == (REFUSED, f"mallory is not in the roster of {me}")
        assert event.detail["code"] == "not_in_roster"
        assert world["mallory"].kinds(me) == [REFUSED_BY]
    assert world["ada"].kinds("bo") == [JOINED]


def test_ten_thousand_strangers_cost_no_memory_and_few_events() -> None:
    world = together("ada", "bo")
    peer = world["ada"].peer
    for number in range(10_000):
        greeting = Greeting(Address("10.9.9.9", 1 + number), 0, {}, (), True)
        peer.receive(Envelope(PeerName(f"m{number}"), Boot(1), "ada", 0, greeting), world.now)
        peer.unreadable.malformed(f"m{number}", "kind", "rubbish", world.now)
        peer.transmits()
    assert len(peer.events()) <= 2 * DEFAULT_LIMITS.strangers_max + 2
    assert peer.unreadable.counts == {"kind": 10_000}
    assert len(peer.unreadable._malformed) <= DEFAULT_LIMITS.strangers_max + 1
    assert len(peer.membership.admission.addresses()) == 1


def test_a_wrong_name_at_an_address_hurts_only_the_name_that_is_not_there() -> None:
    """ada's roster has the addresses of bo and cy the wrong way round; theirs are right, so all find one another."""
    world = World("ada", "bo", "cy")
    world.start("ada", roster=("ada", "cy", "bo"), place=0)
    world.run(0.0)
    world.cut = {("bo", "ada"), ("cy", "ada")}
    world.run(2.0)
    world.cut.clear()
    for me, other in ("bo", "cy"), ("cy", "bo"):
        text = f"this address belongs to {me}, not to {other}"
        refusal = Refusal(RefusalCode.WRONG_NAME, text, other)
        world.inject("ada", Envelope(PeerName(me), world[me].peer.me.boot, "ada", world["ada"].peer.me.boot, refusal))
    assert [(e.kind, e.peer) for e in world["ada"].events] == [(REFUSED_BY, "bo"), (REFUSED_BY, "cy")]


def test_a_name_looked_for_at_the_wrong_address_is_said_once_and_looked_for_again() -> None:
    world = World("ada", "bo", "cy")
    world.kill("ada")
    world.kill("bo")
    world.start("ada", roster=("ada", "x", "bo"), place=0)  # "bo" is looked for where cy listens
    world.run(30.0)
    assert sorted(world["ada"].kinds("cy")) == [REFUSED, REFUSED_BY]
    (wrong,) = [event for event in world["ada"].events if event.kind is REFUSED_BY]
    assert wrong.reason == "this address belongs to cy, not to bo"
    assert world["ada"].peer.view.status_of(PeerName("bo")) is Status.UNHEARD
    assert len(world.said("ada", "cy", Greeting)) > 20


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("code", [RefusalCode.WIRE_VERSION, RefusalCode.FINGERPRINT, RefusalCode.NOT_IN_ROSTER])
def test_a_new_process_that_declines_and_then_greets_is_not_taken_for_the_one_that_left(
    keyed: bool, code: RefusalCode
) -> None:
    world = together("ada", "bo", keyed=keyed)
    world.leave("bo")
    world.run(0.1)
    peer, bo = world["ada"].peer, PeerName("bo")
    assert peer.view.status_of(bo) is Status.LEFT
    peer.receive(Envelope(bo, Boot(9000), "ada", 0, Refusal(code, "I had not read my settings")), world.now)
    assert peer.view.status_of(bo) is Status.REFUSED
    peer.receive(Envelope(bo, Boot(9000), "ada", 0, Greeting(address_of(1), 1, FINGERPRINT, (), True)), world.now)
    assert peer.view.status_of(bo) is Status.ALIVE
    member = peer.membership.table.find(bo)
    assert member is not None
    assert (member.boot, member.incarnation, member.last_word) == (9000, -1, False)


OTHER = "bo speaks wire version 2 and ada 3: install the same gossipdistill on both"


def test_another_wire_version_is_refused_once_and_told_in_its_own() -> None:
    world = together("ada", "bo", keyed=True)
    world.kill("bo")
    peer = world["ada"].peer
    for _ in range(5):
        assert peer.unreadable.other_version("bo", 9000, 2, 3, world.now) is None
    (event,) = peer.events()
    assert (event.kind, event.peer, event.reason) == (REFUSED, "bo", OTHER)
    assert event.detail == {"code": "wire_version", "i_am_newer": 0}
    (told,) = peer.transmits()
    assert (told.envelope.to, told.envelope.to_boot, told.address) == ("bo", 9000, address_of(1))
    assert told.envelope.message == Refusal(RefusalCode.WIRE_VERSION, OTHER)
    (frame,) = encode(told.envelope)
    assert msgpack.unpackb(frame) == [2, 3, "ada", 1000, "bo", 9000, "wire_version", OTHER, "", 3]
    assert peer.unreadable.counts == {"version": 5}
    for _ in range(1000):  # it may answer each refusal with one of its own
        world.run(0.1)
        peer.unreadable.other_version("bo", 9000, 2, 3, world.now)
    assert len(world.said("ada", "bo", Refusal)) < 15
    assert world["ada"].kinds("bo") == [JOINED]
    assert not peer.view.is_alive(PeerName("bo"))


def test_each_process_of_another_wire_version_is_refused_and_one_of_mine_is_welcome_again() -> None:
    world = together("ada", "bo", keyed=True)
    world.kill("bo")
    peer = world["ada"].peer
    for boot in 9000, 9001, 9000:
        peer.unreadable.other_version("bo", boot, 2, 3, world.now)
    assert [event.kind for event in peer.events()] == [REFUSED, REFUSED]
    world.start("bo", boot=9500)
    world.run(3.0)
    assert world["ada"].kinds("bo")[-1] is RETURNED
    assert world["bo"].kinds("ada") == [JOINED]  # refusals of the processes before it came late, and concern it not
    assert world["bo"].peer.scores.turned_away_in_words["ada: for_another_process"] > 0
    assert world.all_alive()


@pytest.mark.parametrize("boot", [0, 1, 1999, 2000])
def test_a_process_that_is_here_does_not_change_its_version(boot: int) -> None:
    """What its predecessor said is late, and what it says itself is somebody else's word."""
    world = together("ada", "bo")
    assert world["bo"].peer.me.boot == 2000
    peer = world["ada"].peer
    assert peer.unreadable.other_version("bo", boot, 2, 3, world.now) is None
    assert (peer.events(), peer.transmits(), peer.unreadable.counts) == ([], [], {"version": 1})
    assert peer.view.is_alive(PeerName("bo"))


@pytest.mark.parametrize(("boot", "newer"), [(999, 1), (1001, 0)])
def test_who_came_later_is_said_where_versions_differ(boot: int, newer: int) -> None:
    world = World("ada", "bo")
    world.kill("bo")
    world["ada"].peer.unreadable.other_version("bo", boot, 2, 3, world.now)
    (event,) = world["ada"].peer.events()
    assert event.detail["i_am_newer"] == newer


@pytest.mark.parametrize("closed", [True, False])
def test_a_stranger_of_another_wire_version_is_said_once_and_is_to_be_answered_where_it_called(closed: bool) -> None:
    world = World("ada", "bo", closed=closed)
    peer = world.start("ada", place=0).peer
    peer.transmits()
    for _ in range(5):
        refusal = peer.unreadable.other_version("zed", 5, 2, 3, world.now)
        assert refusal == Refusal(RefusalCode.WIRE_VERSION, OTHER.replace("bo", "zed", 1))
        assert refusal.wire_version == 2
    (event,) = peer.events()
    assert (event.kind, event.peer, event.reason) == (REFUSED, "zed", OTHER.replace("bo", "zed", 1))
    assert event.detail == {"code": "wire_version", "i_am_newer": int(not closed)}  # to a roster it is nobody
    assert peer.transmits() == []
    nameless = peer.unreadable.other_version("", 5, 4, 3, world.now)
    assert nameless is not None
    assert nameless.detail == "the caller speaks wire version 4 and ada 3: install the same gossipdistill on both"


# --- whom I call in vain --------------------------------------------------------------------------------------------


def test_those_who_have_never_said_a_word_are_named_until_all_are_known() -> None:
    world = World("ada", "bo", "cy", "dee", mute=("dee",))
    for name in "bo", "cy", "dee":
        world.kill(name)
    world.run(1.0)
    ada = world["ada"].peer
    assert ada.membership.admission.unanswered() == [
        ("bo", address_of(1)),
        ("cy", address_of(2)),
    ]  # nobody can call dee
    world.start("bo")
    world.run(2.0)
    assert ada.membership.admission.unanswered() == [("cy", address_of(2))]
    world.start("cy")
    world.start("dee", listens=False)
    world.run(2.0)
    assert ada.membership.admission.unanswered() == []


def test_a_seed_that_has_never_answered_is_named_by_its_address_alone() -> None:
    world = World("ada", "bo", closed=False)
    ada = world.start("ada", place=0, seeds=[address_of(1)]).peer
    world.run(1.0)
    assert ada.membership.admission.unanswered() == [("", address_of(1))]
    world.start("bo", place=1)
    world.run(3.0)
    assert ada.membership.admission.unanswered() == []


# --- features -------------------------------------------------------------------------------------------------------


@pytest.fixture
def wants_need_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `Want` had come after the wire version did."""
    monkeypatch.setitem(FEATURE_OF, Want, "wants")


def test_what_a_greeting_names_is_known_until_another_process_is_here() -> None:
    world = World("ada", "bo", "cy", keyed=True)
    world.start("bo", features=("deltas", "never-heard-of"))
    world.run(1.0)
    features_of = world["ada"].peer.view.features_of
    assert features_of(PeerName("bo")) == {"deltas", "never-heard-of"}
    assert features_of(PeerName("cy")) == features_of(PeerName("zed")) == features_of(PeerName("")) == set()
    assert world.all_alive()  # they are no part of the fingerprint
    world.start("bo", features=("deltas",))
    world.inject("ada", Envelope(PeerName("bo"), world["bo"].peer.me.boot, "ada", 0, Confirm("x", "", 1)))
    assert features_of(PeerName("bo")) == set()  # it has not said yet what it understands
    world.run(1.0)
    assert features_of(PeerName("bo")) == {"deltas"}


def test_what_a_refused_process_names_is_not_kept() -> None:
    world = World("ada", "bo")
    world.start("bo", fingerprint={}, features=("deltas",))
    world.run(1.0)
    assert world["ada"].kinds("bo") == [REFUSED]
    assert world["ada"].peer.view.features_of(PeerName("bo")) == set()


@pytest.mark.usefixtures("wants_need_a_feature")
def test_a_kind_is_sent_only_to_who_has_named_its_feature() -> None:
    world = World("ada", "bo", "cy")
    world.start("bo", features=("wants",))
    world.run(1.0)
    for name in "bo", "cy":
        world.publish(name, "ada", 1, Mode.PULL)
    world.run(1.0)
    assert len(world.said("ada", "bo", Want)) == 1
    assert len(world.said("ada", "cy", Want)) == 0
    assert world["ada"].peer.withheld == {"Want": 1}
    assert world["ada"].values("bo") == [1]
    assert world["ada"].values("cy") == []
    assert world.all_alive()


@pytest.mark.parametrize(("to_boot", "greetings"), [(999, 1), (1000, 0), (1001, 0)])
def test_who_takes_me_for_my_predecessor_is_greeted_and_who_means_my_successor_is_not(
    to_boot: int, greetings: int
) -> None:
    world = together("ada", "bo")
    assert world["ada"].peer.me.boot == 1000
    world.log.clear()
    for _ in range(3):
        world.inject("ada", Envelope(PeerName("bo"), Boot(2000), "ada", to_boot, Confirm("x", "", 1)))
    assert len(world.said("ada", "bo", Greeting)) == greetings


def test_words_for_another_name_or_another_process_are_not_mine() -> None:
    world = together("ada", "bo")
    for to, to_boot in (("cy", 0), ("ada", 999)):
        for message in (State(1, Content("x", payload(1), 0, 0)), Leave("x"), Refusal(RefusalCode.SUPERSEDED, "x")):
            world.inject("ada", Envelope(PeerName("bo"), Boot(2000), to, to_boot, message))
    assert world["ada"].kinds("bo") == [JOINED]
    assert world["ada"].kinds("ada") == []
    assert world["ada"].values("bo") == []


# --- without a roster -----------------------------------------------------------------------------------------------


def rosterless(*names: str) -> World:
    world = World(*names, closed=False)
    for place, name in enumerate(names):
        world.start(name, place=place, seeds=[address_of(0)] if place else ())
    return world


def test_all_find_one_another_through_the_one_whose_address_they_know() -> None:
    world = rosterless("ada", "bo", "cy", "dee", "eve")
    world.run(1.0)
    assert world.all_alive()
    world.run(20.0)
    assert all(event.kind is JOINED for process in world.processes.values() for event in process.events)


def test_they_find_one_another_on_a_lossy_network_too() -> None:
    for seed in range(5):
        world = World("ada", "bo", "cy", "dee", closed=False, seed=seed)
        world.loss, world.delay_s = 0.3, (0.0, 0.2)
        for place, name in enumerate(world.names):
            world.start(name, place=place, seeds=[address_of(0)] if place else ())
        world.run(20.0)
        world.loss = 0.0
        world.run(3.0)
        assert world.all_alive(), seed


def test_one_who_was_away_when_the_others_were_named_is_still_learned_of() -> None:
    world = World("ada", "bo", "cy", closed=False)
    world.start("ada", place=0)
    world.start("bo", place=1, seeds=[address_of(0)])
    world.run(1.0)
    world.cut_off("bo")
    world.run(3.0)
    world.start("cy", place=2, seeds=[address_of(0)])  # ada does not name a suspect
    world.run(1.0)
    assert not world["cy"].peer.view.is_alive(PeerName("bo"))
    world.cut.clear()
    world.run(4.0)
    assert world.all_alive()


def test_the_first_peer_may_restart_although_it_knows_nobody() -> None:
    world = rosterless("ada", "bo", "cy")
    world.run(1.0)
    world.kill("ada")
    world.start("ada", place=0)
    world.run(3.0)
    assert world.all_alive()


def test_the_first_peer_may_leave_and_come_back_although_it_knows_nobody() -> None:
    world = rosterless("ada", "bo")
    world.run(1.0)
    world.leave("ada")
    world.run(10.0)
    world.start("ada", place=0)
    world.run(3.0)
    assert world.all_alive()


def test_a_place_that_is_taken_is_refused_and_said_once() -> None:
    world = rosterless("ada", "bo", "cy")
    world.run(1.0)
    world.start("dee", place=2, address=Address("10.0.0.3", 7000), seeds=[address_of(0)])
    world.run(30.0)
    (event,) = [event for event in world["ada"].events if event.peer == "dee"]
    assert (event.kind, event.reason) == (REFUSED, "place 3/3 is cy's")
    assert world["dee"].kinds("ada") == [REFUSED_BY]
    assert world["dee"].events[0].detail["i_am_newer"] == 1


def test_a_place_beyond_the_last_does_not_exist() -> None:
    world = rosterless("ada", "bo")
    world.start("dee", place=2**62, address=Address("10.0.0.3", 7000), seeds=[address_of(0)])
    world.run(5.0)
    assert world["dee"].events[0].reason == f"place {2**62 + 1}/2 does not exist"


@pytest.mark.parametrize(("place", "known"), [(0, False), (1, False), (2, True), (3, False)])
def test_a_third_peer_that_another_names_is_greeted_only_if_its_place_is_free(place: int, known: bool) -> None:
    """Places 0 and 1 are ada's and bo's, and there is no fourth: greeting it would only bring a refusal."""
    world = World("ada", "bo", "cy", closed=False)
    for index, name in enumerate(("ada", "bo")):
        world.start(name, place=index, seeds=[address_of(0)] if index else ())
    world.run(1.0)
    told = Greeting(address_of(1), 1, FINGERPRINT, (Contact(PeerName("zed"), address_of(9), place),))
    boot = world["bo"].peer.me.boot
    world.inject("ada", Envelope(PeerName("bo"), boot, "ada", world["ada"].peer.me.boot, told))
    world.run(0.5)
    assert bool(world.said("ada", "zed", Greeting)) == known
    assert (world["ada"].peer.table.address_of("zed") == address_of(9)) == known


def test_a_seed_that_is_oneself_under_another_address_is_harmless() -> None:
    world = World("ada", "bo", closed=False)
    ada = world.start("ada", place=0, seeds=[Address("localhost", 7400)])
    world.processes[Address("localhost", 7400)] = ada
    world.run(3.0)
    assert [event.kind for event in ada.events] == []


def test_many_contacts_are_told_in_turns_and_each_greeting_stays_small() -> None:
    limits = Limits(contacts_per_greeting_max=3)
    names = [f"p{number}" for number in range(12)]
    world = World(*names, closed=False, limits=limits)
    for place, name in enumerate(names):
        world.start(name, place=place, seeds=[address_of(0)] if place else ())
    world.run(30.0)
    assert world.all_alive()
    assert max(len(sent.message.contacts) for sent in world.log if isinstance(sent.message, Greeting)) == 3


# --- whatever is said -----------------------------------------------------------------------------------------------

ODD: list[Message] = [
    Greeting(Address("a..b", 1), 2**62, {"x": "y"}, (Contact(PeerName("zed"), Address("h", 1), 2**62),), True),
    Greeting(address_of(0), 0, FINGERPRINT, (Contact(PeerName("ada"), address_of(5), 5),), False),
    Ping(0, 2**63 - 1, True),
    Announce("x" * 1000, "", 2**63 - 1, 2**63 - 1),
    Announce("x", "", 2**63 - 1, 1),
    Want("never heard of", "", 2**63 - 1),
    Confirm("x", "", 2**63 - 1),
    State(2**63 - 1, Content("x", payload(0), 2**63 - 1, 2**63 - 1)),
    Leave(""),
    *(Refusal(code, "", "zed") for code in RefusalCode),
]


@pytest.mark.parametrize("message", ODD, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("sender", ["bo", "ada", "zed"])
@pytest.mark.parametrize("closed", [True, False])
def test_nothing_that_is_said_raises(message: Message, sender: str, closed: bool) -> None:
    world = together("ada", "bo") if closed else rosterless("ada", "bo")
    world.run(1.0)
    world.publish("ada", "bo", 1)
    for boot in (0, 1, 2000, 2**63 - 1):
        for to, to_boot in (("", 0), ("ada", 1000), ("bo", 5)):
            world.inject("ada", Envelope(PeerName(sender), Boot(boot), to, to_boot, message))
    world.run(10.0)

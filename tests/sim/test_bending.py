"""Every kind of message is told with every field bent: none is left out, nothing raises, and the honest go on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import get_args

import pytest

from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Content, Envelope, Message, ReliableMessage, State
from gossipdistill.presence import Address, Greeting, Leave, Ping
from gossipdistill.sim.bending import Facts, bends, bent_envelopes, fields_of, specimens
from gossipdistill.sim.checkers import Conditions, MailboxBounded, NobodyWaits, OnceSettled
from gossipdistill.sim.learners import MASS_TOPIC, STATE_TOPIC, STREAM_TOPIC
from gossipdistill.sim.scenario import Storm, make_world
from gossipdistill.sim.world import World
from gossipdistill.wire.crossing import cross
from gossipdistill.wire.errors import WireError

KINDS = get_args(Message)
FINGERPRINT = {"run": "simulated"}
FACTS = Facts(
    PeerName("p0"),
    Address("10.0.0.9", 7400),
    0,
    (PeerName("p1"), PeerName("p2")),
    (5, 7),
    FINGERPRINT,
    STATE_TOPIC,
    MASS_TOPIC,
    STREAM_TOPIC,
)


def test_there_is_a_specimen_of_every_kind_of_message_and_it_can_travel() -> None:
    told = specimens(FACTS)
    assert set(told) == set(KINDS)
    for kind, message in told.items():
        if kind.__name__ != "Piece":  # which travels behind its opening
            assert cross(Envelope(PeerName("p0"), Boot(1), "p1", 1, message))[0].message == message


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_kind_is_bent(kind: type) -> None:
    told = list(bends(specimens(FACTS)[kind], FACTS))
    assert {path for path, _ in told} == set(fields_of(kind))


def test_every_field_of_a_content_travels_with_a_state_or_with_a_reliable_message() -> None:
    of_messages = {path.split(".")[1] for kind in (State, ReliableMessage) for path in fields_of(kind)}
    own = {field.name for kind in (State, ReliableMessage, Content) for field in fields(kind)}
    assert of_messages == own - {"content"}


def test_a_field_of_a_new_type_is_an_error_until_it_can_be_bent() -> None:
    @dataclass(frozen=True)
    class Novel:
        when: complex

    with pytest.raises(TypeError, match="no way is known to bend a field of type"):
        list(bends(Novel(1j), FACTS))


def facts_of(world: World, byzantine: PeerName) -> Facts:
    host = world.hosts[byzantine]
    others = tuple(name for name in world.names if name != byzantine)
    boots = tuple(world.hosts[name].boot for name in others)
    return replace(FACTS, me=byzantine, address=host.address, place=host.place, others=others, boots=boots)


def _fields_told() -> list[tuple[type, str]]:
    """(kind, field) of each field that a message has itself."""
    return [(kind, field) for kind in KINDS for field in dict.fromkeys(p.split(".")[1] for p in fields_of(kind))]


@pytest.mark.parametrize(
    "number", range(len(_fields_told())), ids=lambda n: ".".join([_fields_told()[n][0].__name__, _fields_told()[n][1]])
)
def test_whatever_a_member_says_nothing_raises_and_the_others_go_on(number: int) -> None:
    """Each bent message that the wire lets through, to each of the others; what it refuses never gets so far. A world
    for each field, since who has said that it refuses the others is not listened to any more."""
    kind, field = _fields_told()[number]
    conditions = Conditions(4)
    checkers = [OnceSettled(conditions), MailboxBounded(conditions), NobodyWaits(conditions)]
    of_its_own = {State: "publisher", ReliableMessage: "streamer"}
    learner = of_its_own.get(kind, ("walker", "publisher", "streamer")[number % 3])
    world = make_world(Storm(seed=number, peers=4, learner=learner, every_steps=2), checkers)
    world.start_all()
    world.run_until(2.0)
    byzantine, honest = PeerName("p3"), [PeerName(name) for name in ("p0", "p1", "p2")]
    facts = facts_of(world, byzantine)
    for path, bent in bends(specimens(facts)[kind], facts):
        if path.split(".")[1] == field:
            _tell(world, byzantine, bent)
            world.run_until(world.now + 0.01)
    world.run_until(world.now + 3.0)
    before = {name: world.hosts[name].messages_received for name in honest}
    world.run_until(world.now + 3.0)
    for name in honest:
        assert set(honest) - {name} <= set(world.hosts[name].mailbox.neighbourhood().alive)
        assert world.hosts[name].messages_received > before[name] + 5
    world.finish()
    assert not [violation for checker in checkers for violation in checker.violations]


@pytest.mark.parametrize("kind", [Greeting, Ping, State, Leave])
def test_whatever_a_message_travels_in_the_others_go_on(kind: type) -> None:
    world = make_world(Storm(seed=1, peers=4, learner="publisher", every_steps=2))
    world.start_all()
    world.run_until(2.0)
    byzantine, honest = PeerName("p3"), [PeerName(name) for name in ("p0", "p1", "p2")]
    facts = facts_of(world, byzantine)
    boot = world.hosts[byzantine].peer.me.boot
    for name in honest:
        envelope = Envelope(byzantine, boot, name, world.hosts[name].boot, specimens(facts)[kind])
        for bent in bent_envelopes(envelope, facts):
            _say(world, name, bent)
            world.run_until(world.now + 0.01)
    before = {name: world.hosts[name].messages_received for name in honest}
    world.run_until(world.now + 3.0)
    for name in honest:
        assert set(honest) - {name} <= set(world.hosts[name].mailbox.neighbourhood().alive)
        assert world.hosts[name].messages_received > before[name] + 5


def _tell(world: World, byzantine: PeerName, message: Message) -> None:
    for name in [name for name in world.names if name != byzantine]:
        me, host = world.hosts[byzantine].peer.me, world.hosts[name]
        _say(world, name, Envelope(byzantine, me.boot, name, host.boot, message))


def _say(world: World, name: PeerName, envelope: Envelope) -> None:
    with suppress(WireError, OverflowError):  # what the wire lets nobody say
        world.inject(name, cross(envelope)[0])

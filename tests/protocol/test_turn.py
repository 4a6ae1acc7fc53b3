"""One turn of the network: what the learner has left goes to the peer, is sent, and what came is delivered."""

from __future__ import annotations

import pytest

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    Content,
    DeliveryClass,
    Envelope,
    Mode,
    Parcel,
    ReliableMessage,
    Returned,
    Settlement,
    State,
    Transmit,
)
from gossipdistill.presence import Contact
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import Turn, drain, feed, turn

from .harness import address_of, payload

ADA, BO = PeerName("ada"), PeerName("bo")
LIMITS = Limits(unsent_tries_max=1)


class Pair:
    """Two processes, of which each message reaches the other at once."""

    def __init__(self) -> None:
        contacts = [Contact(name, address_of(place), place) for place, name in enumerate((ADA, BO))]
        self.now = 100.0
        self.mailboxes = {name: Mailbox(limits=LIMITS) for name in (ADA, BO)}
        self.peers = {name: self.start(name, place, contacts) for place, name in enumerate((ADA, BO))}
        self.run(2.0)
        assert self.peers[ADA].view.is_alive(BO)

    def start(self, name: PeerName, place: int, contacts: list[Contact]) -> Peer:
        me = Identity(name, Boot(place + 1), address_of(place), place, {})
        return Peer(me, len(contacts), contacts, now=self.now, limits=LIMITS)

    def run(self, seconds: float) -> None:
        end_s = self.now + seconds
        while self.now < end_s:
            self.now += 0.1
            self.turn(ADA)
            self.turn(BO)

    def turn(self, name: PeerName) -> Turn:
        return turn(self.peers[name], self.mailboxes[name], self.now, self.deliver)

    def deliver(self, transmit: Transmit) -> None:
        envelope = transmit.envelope
        self.peers[ADA if envelope.sender == BO else BO].receive(envelope, self.now)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def mass(value: int) -> Parcel:
    return Parcel((BO,), Content("m", payload(value), value, value, delivery=DeliveryClass.MASS, weight=0.5))


def test_what_the_learner_posts_is_sent_in_the_same_turn_and_its_verdict_frees_the_link(pair: Pair) -> None:
    assert pair.mailboxes[ADA].post(mass(1))
    assert not pair.mailboxes[ADA].post(mass(2)), "the link is busy"
    pair.turn(ADA)
    (came,) = pair.turn(BO).received
    assert pair.mailboxes[BO].take() == [came]
    pair.mailboxes[BO].settle([Settlement(ADA, came.topic, came.version, absorbed=True)])
    pair.turn(BO)
    assert [slot.peer for slot in pair.turn(ADA).freed] == [BO]
    assert pair.mailboxes[ADA].post(mass(2))


def test_mass_that_no_socket_takes_is_back_in_the_same_turn(pair: Pair) -> None:
    def refuse(transmit: Transmit) -> None:
        if isinstance(transmit.envelope.message, ReliableMessage):
            ada.not_sent(transmit, pair.now)

    ada = pair.peers[ADA]
    assert pair.mailboxes[ADA].post(mass(1))
    done = turn(ada, pair.mailboxes[ADA], pair.now, refuse)
    assert [(one.weight, type(one)) for one in done.received] == [(0.5, Returned)]
    assert pair.mailboxes[ADA].take() == done.received
    assert [slot.peer for slot in done.freed] == [BO]
    assert pair.mailboxes[ADA].post(mass(2)), "the link is free"


def test_what_the_learner_takes_during_a_turn_makes_another_one_due(pair: Pair) -> None:
    for step in (1, 2):
        pair.mailboxes[ADA].post(Parcel((BO,), Content("x", payload(step), step, step), Mode.PULL))
        pair.run(0.5)
    bo, mailbox = pair.peers[BO], pair.mailboxes[BO]
    assert bo.states.receiver.awaits_taking(), "the second version is announced, and the first one was not taken yet"
    feed(bo, mailbox, pair.now)
    assert [arrival.step for arrival in mailbox.take()] == [1]
    assert drain(bo, mailbox, pair.now, pair.deliver).again
    assert not pair.turn(BO).again
    pair.turn(ADA)
    assert [arrival.step for arrival in pair.turn(BO).received] == [2]


def test_a_turn_does_what_is_due_and_tells_the_learner_what_happened(pair: Pair) -> None:
    ada, mailbox = pair.peers[ADA], pair.mailboxes[ADA]
    assert mailbox.neighbourhood().alive == {BO}
    mailbox.drain_events(float("inf"))
    told, events = mailbox.neighbourhood(), []
    for _ in range(200):  # bo is silent
        pair.now = ada.next_timeout()
        done = turn(ada, mailbox, pair.now, lambda transmit: None)
        assert ada.next_timeout() > pair.now
        told = done.neighbourhood or told
        assert mailbox.neighbourhood() is told
        events += done.events
    assert told.alive == frozenset()
    assert EventKind.DEAD in [event.kind for event in events]
    assert mailbox.drain_events(float("inf")) == events


def test_feeding_returns_what_the_learner_had_left(pair: Pair) -> None:
    parcel = Parcel((BO,), Content("x", payload(7), 1, 1))
    pair.mailboxes[ADA].post(parcel)
    collected = feed(pair.peers[ADA], pair.mailboxes[ADA], pair.now)
    assert [(slot.peer, one) for slot, one in collected.parcels] == [(BO, parcel)]
    sent: list[Envelope] = []
    drain(pair.peers[ADA], pair.mailboxes[ADA], pair.now, lambda transmit: sent.append(transmit.envelope))
    assert [type(envelope.message) for envelope in sent] == [State]

"""The mailbox against a dumb twin that keeps everything in plain lists."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gossipdistill.ids import PeerName, Version
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    Arrival,
    Content,
    DeliveryClass,
    Parcel,
    Payload,
    Received,
    Returned,
    Settlement,
    Slot,
)

NAMES = [PeerName("bo"), PeerName("cy")]
NOTHING = Payload((), b"")
peers = st.sampled_from(NAMES)
topics = st.sampled_from(["x", "y"])
consigned = st.sampled_from([DeliveryClass.MASS, DeliveryClass.STREAM])
ROOM = {
    DeliveryClass.MASS: DEFAULT_LIMITS.in_flight_mass_max,
    DeliveryClass.STREAM: DEFAULT_LIMITS.in_flight_stream_max,
}


class Twin(RuleBasedStateMachine):
    """States: the last of each slot counts. Mass and streams: each one counts, and links have room for so many."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0
        self.mailbox = Mailbox(wake=self._woken)
        self.number = 0
        self.states_out: list[tuple[Slot, Parcel]] = []
        self.consigned_out: list[tuple[Slot, Parcel]] = []
        self.open: list[tuple[Slot, DeliveryClass]] = []
        self.arrivals: list[Received] = []
        self.emptied: set[Slot] = set()
        self.settled: list[Settlement] = []

    def _woken(self) -> None:
        self.woken += 1

    def _next(self) -> int:
        self.number += 1
        return self.number

    @rule(to=st.lists(peers, min_size=1, unique=True), topic=topics, key=st.sampled_from(["", "k"]))
    def post_state(self, to: list[PeerName], topic: str, key: str) -> None:
        step, woken = self._next(), self.woken
        parcel = Parcel(tuple(to), Content(topic, NOTHING, step, step, key=key))
        assert self.mailbox.post(parcel)
        assert self.woken == woken + 1
        self.states_out += [(Slot(peer, topic, key), parcel) for peer in to]

    @rule(to=peers, delivery=consigned)
    def post_consignment(self, to: PeerName, delivery: DeliveryClass) -> None:
        # As strategies do: one topic is of one class.
        step, slot = self._next(), Slot(to, delivery.value, "")
        parcel = Parcel((to,), Content(delivery.value, NOTHING, step, step, delivery=delivery, weight=1.0))
        room = self.open.count((slot, delivery)) < ROOM[delivery]
        assert self.mailbox.post(parcel) is room
        if room:
            self.open.append((slot, delivery))
            self.consigned_out.append((slot, parcel))

    @rule(which=st.integers(0, 99))
    def free(self, which: int) -> None:
        if self.open:
            slot, _ = self.open.pop(which % len(self.open))
            self.mailbox.room.free([slot])

    @rule(sender=peers, topic=topics)
    def state_arrives(self, sender: PeerName, topic: str) -> None:
        number = self._next()
        arrival = Arrival(sender, Version(1, number), Content(topic, NOTHING, number, number), 0.0)
        self.mailbox.deliver(arrival)
        replaced = (DeliveryClass.STATE, sender, topic)
        self.arrivals = [a for a in self.arrivals if (a.delivery, a.peer, a.topic) != replaced]
        self.arrivals.append(arrival)

    @rule(peer=peers, delivery=consigned, returned=st.booleans())
    def reliable_message_arrives(self, peer: PeerName, delivery: DeliveryClass, returned: bool) -> None:
        number = self._next()
        version, content = Version(1, number), Content(delivery.value, NOTHING, number, number, delivery=delivery)
        came = Returned(peer, version, content, "refused") if returned else Arrival(peer, version, content, 0.0)
        self.mailbox.deliver(came)
        self.arrivals.append(came)

    @rule()
    def take(self) -> None:
        assert self.mailbox.take() == self.arrivals
        self.emptied |= {Slot(a.peer, a.topic, a.key) for a in self.arrivals if a.delivery is DeliveryClass.STATE}
        self.arrivals = []

    @rule(sender=peers)
    def settle(self, sender: PeerName) -> None:
        settlement = Settlement(sender, "mass", Version(1, self._next()), absorbed=True)
        self.mailbox.settle([settlement])
        self.settled.append(settlement)

    @rule()
    def collect(self) -> None:
        newest = dict(self.states_out)
        parcels, taken, settlements, _ = self.mailbox.collect()
        assert {slot: p for slot, p in parcels if p.delivery is DeliveryClass.STATE} == newest
        assert [(slot, p) for slot, p in parcels if p.delivery is not DeliveryClass.STATE] == self.consigned_out
        assert len(parcels) == len(newest) + len(self.consigned_out)
        assert taken == sorted(self.emptied)
        assert settlements == self.settled
        self.states_out, self.consigned_out, self.emptied, self.settled = [], [], set(), []

    @invariant()
    def busy_links_are_those_without_room(self) -> None:
        for delivery, room in ROOM.items():
            full = {s.peer for s, d in self.open if d is delivery and self.open.count((s, d)) >= room}
            assert self.mailbox.room.busy(delivery.value, delivery) == full


TestTwin = Twin.TestCase
TestTwin.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

"""One peer as a value machine: it connects membership and delivery, and decides nothing itself.

The owner (a socket driver, or a simulator) feeds it and drains it:

    peer.receive(envelope, now)     peer.publish(slot, parcel, now)     peer.handle_timeout(now)
    peer.not_sent(transmit, now)    peer.connection_ended(name, now)
    peer.transmits()    peer.received()    peer.freed()    peer.events()    peer.next_timeout()    peer.neighbourhood()

Settlements of the learner go to `states.receiver` or `reliable_messages.receiver`, refused payloads to `payloads`,
unreadable messages to `unreadable`, and the learner's progress and last message to `membership`. `view` answers
questions about the others.

No call raises because of anything that another peer can do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gossipdistill.events import Event
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    FEATURE_OF,
    DeliveryClass,
    Envelope,
    Message,
    Neighbourhood,
    Parcel,
    Received,
    Slot,
    Transmit,
    word_of,
)
from gossipdistill.presence import (
    Address,
    Contact,
)
from gossipdistill.protocol.delivery import Delivery
from gossipdistill.protocol.dispatcher import Dispatcher
from gossipdistill.protocol.key_distribution import KeyDistribution
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.membership import Membership
from gossipdistill.protocol.payload_receiver import PayloadReceiver
from gossipdistill.protocol.peer_scores import PeerScores
from gossipdistill.protocol.table import table_at_start
from gossipdistill.protocol.unreadable import Unreadable


class Peer:
    """The protocol of one process. Times are readings of one monotonic clock in seconds, supplied by the owner."""

    def __init__(
        self,
        me: Identity,
        expected: int,
        contacts: Sequence[Contact] = (),
        seeds: Iterable[Address] = (),
        closed: bool = True,
        now: float = 0.0,
        limits: Limits = DEFAULT_LIMITS,
        rng: random.Random | None = None,
    ) -> None:
        """`contacts` may be a `Directory`, which all peers of a process can share. `rng` decides which member is probed
        next."""
        self.me, self.limits = me, limits
        chance = rng if rng is not None else random.Random(f"{me.name} {me.boot}")
        self.table = table = table_at_start(me, expected, closed, contacts, limits, chance)
        delivery = Delivery(limits, me.boot, table.partners)
        self.states, self.reliable_messages = delivery.states, delivery.reliable_messages
        self.membership = Membership(table, delivery)
        self.view = self.membership.view
        self.key_distribution = KeyDistribution(table)
        self.boots = self.membership.boots
        self.scores = PeerScores(limits)
        self.unreadable = Unreadable(self.membership, self.scores)
        self.dispatcher = Dispatcher(me, self.membership, delivery, self.key_distribution, self.unreadable)
        self.payloads = PayloadReceiver(limits, self.view, delivery, self.scores)
        self._muted, self._lossy = self.scores.muted, self.reliable_messages.sender.lossy
        self.withheld: Counter[str] = Counter()
        """The number of messages that were not sent because their reader has not named the feature that they need, by
        kind."""
        self.membership.start(contacts, seeds, now)

    # --- in ------------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """Take over a parcel of the learner for `slot.peer`."""
        self.membership.engage(slot.peer, now)
        if parcel.delivery is not DeliveryClass.STATE:
            self.reliable_messages.sender.publish(slot, parcel, now)
        elif slot.peer != self.me.name:
            self.states.sender.publish(slot, parcel, now)

    def receive(self, envelope: Envelope, now: float) -> None:
        """Handle a message from another process."""
        if self.dispatcher.is_business(envelope, now):
            self._note_changes(now)
            self.payloads.receive(envelope, now)
        self._note_changes(now)

    def not_sent(self, transmit: Transmit, now: float) -> None:
        """Note that the driver could not hand this message to its socket."""
        self.states.sender.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)
        self.reliable_messages.sender.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)

    def connection_ended(self, name: PeerName, now: float) -> None:
        """Note that a connection has ended on which the driver had sent this peer something large. What was in flight
        is lost, or known there by its number, so it can be sent again at once."""
        self.states.sender.returned(name, False, now)
        self.reliable_messages.sender.returned(name, now)

    def forget_processes(self, name: PeerName, why: str, now: float) -> None:
        """Forget the processes of `name`: its key has changed or is gone, and what was heard under the former one is
        void."""
        self.boots.named.pop(name, None)
        self.membership.refusals.all_of(name, why, now)
        self._note_changes(now)
        self.states.receiver.forget_processes(name)
        self.reliable_messages.receiver.forget_processes(name)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`."""
        self.membership.handle_timeout(now)
        self._note_changes(now)
        self.states.handle_timeout(now)
        self.reliable_messages.handle_timeout(now)
        self.scores.handle_timeout(now)

    # --- out -----------------------------------------------------------------------------------------------------

    def transmits(self) -> list[Transmit]:
        """Drain the messages to send, in order."""
        table, before = self.table, self.key_distribution.before
        if not (table.out or self.states.box.out or self.reliable_messages.box.out):
            return []
        drained = [self._transmit(*word) for outbound in table.out for word in (*before(outbound), outbound)]
        for to, message in self.states.box.out:
            member = table.rows.get(to)
            if member is not None:  # else it was forgotten, and this message has no reader
                drained.append(self._transmit(to, member.boot, member.address, message))
        for to, boot, message in self.reliable_messages.box.out:
            member = table.rows.get(to)
            if member is not None and member.boot == boot:  # its successor has a parcel of that number too
                drained.append(self._transmit(to, boot, member.address, message))
        for part in (table, self.states.box, self.reliable_messages.box):
            part.out.clear()
        return [transmit for transmit in drained if self._is_understood(transmit.envelope)]

    def received(self) -> list[Received]:
        """Drain the arrivals for the learner."""
        drained = [*self.states.box.arrivals, *self.reliable_messages.box.received]
        self.states.box.arrivals, self.reliable_messages.box.received = [], []
        return drained

    def freed(self) -> list[Slot]:
        """Drain the links on which a parcel of mass or of a stream was settled, returned or written off."""
        drained, self.reliable_messages.sender.freed = self.reliable_messages.sender.freed, []
        return drained

    def events(self) -> list[Event]:
        """Drain the events."""
        parts = (self.table, self.states.sender, self.reliable_messages.sender, self.scores, self.unreadable)
        drained = [event for part in parts for event in part.events]
        if drained:
            for part in parts:
                part.events = []
        return drained

    def next_timeout(self) -> float:
        """The clock reading at which `handle_timeout` wants to be called."""
        business_s = min(self.states.next_timeout(), self.reliable_messages.next_timeout())
        return min(self.membership.next_timeout(), business_s, self.scores.next_timeout())

    def neighbourhood(self) -> Neighbourhood | None:
        """A new snapshot of the others, or None when nothing changed since the last call."""
        muted, lossy = self.scores.muted, self.reliable_messages.sender.lossy
        if muted is not self._muted or lossy is not self._lossy:
            self.table.pace.changed = True
        snapshot, self._muted, self._lossy = self.view.neighbourhood(), muted, lossy
        return replace(snapshot, muted=muted, lossy=lossy) if snapshot is not None and (muted or lossy) else snapshot

    def _note_changes(self, now: float) -> None:
        """Tell delivery which peers are lost and which are back."""
        table = self.table
        while table.lost or table.back:
            lost, back, table.lost, table.back = table.lost, table.back, [], []
            for peer, for_good, why in lost:
                self.reliable_messages.sender.lost(peer, now, for_good, why)
            for peer, restarted in back:
                self.key_distribution.tell_all(peer)
                self.states.sender.returned(peer, restarted, now)
                self.reliable_messages.sender.returned(peer, now)

    def _is_understood(self, envelope: Envelope) -> bool:
        """Whether the recipient has declared that it knows this kind, if that is not part of the wire version."""
        feature = FEATURE_OF.get(type(envelope.message))
        if feature is None or feature in self.view.features_of(PeerName(envelope.to)):
            return True
        self.withheld[word_of(envelope.message)] += 1
        return False

    def _transmit(self, to: str, to_boot: int, address: Address, message: Message) -> Transmit:
        return Transmit(address, Envelope(self.me.name, self.me.boot, to, to_boot, message))

"""One peer as a value machine: it conducts membership and delivery, and decides nothing itself.

The owner (a socket driver, or a simulator) feeds it and drains it:

    peer.receive(envelope, now)     peer.publish(slot, parcel, now)     peer.settle(settlement)
    peer.handle_timeout(now)        peer.not_sent(transmit, now)
    peer.transmits()    peer.arrivals()    peer.freed()    peer.events()    peer.next_timeout()

No call raises for anything that another peer can do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Address,
    Announce,
    Arrival,
    Confirm,
    Consignment,
    Contact,
    DeliveryClass,
    Enquiry,
    Envelope,
    Greeting,
    Leave,
    Neighbourhood,
    Parcel,
    Ping,
    Receipt,
    Refusal,
    Settlement,
    Slot,
    State,
    Transmit,
    Want,
)
from gossipdistill.protocol.consignments import Consignments, Outstanding
from gossipdistill.protocol.delivery import Delivery, LinkCounts
from gossipdistill.protocol.members import Identity, Status
from gossipdistill.protocol.membership import Membership, Outbound


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
    ) -> None:
        self.me, self.limits = me, limits
        self._membership = Membership(me, limits, expected, closed)
        self._delivery = Delivery(limits, self.is_alive)
        self._consignments = Consignments(limits, me.boot, self._boot_of)
        self._events: list[Event] = []
        self._malformed: dict[tuple[str, str], int] = {}
        self._progress = (0, False)
        self._spoken: set[PeerName] = set()
        self._done_said = False
        self._membership.start(contacts, seeds, now)

    # --- in ------------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """The learner has news for `slot.peer`."""
        if parcel.delivery is not DeliveryClass.STATE:
            self._consignments.publish(slot, parcel, now)
        elif slot.peer != self.me.name:
            self._delivery.publish(slot, parcel, now)

    def taken(self, slot: Slot, now: float) -> None:
        """The learner has taken what lay in this slot of its inbox."""
        self._delivery.taken(slot, now)

    def settle(self, settlement: Settlement) -> None:
        """The learner's verdict on an arrival of mass or of a stream."""
        self._consignments.settle(settlement)

    def report_progress(self, step: int, done: bool, now: float) -> None:
        """My own step and whether I only serve from now on; it travels in the next heartbeat."""
        self._progress = (step, done)

    def receive(self, envelope: Envelope, now: float) -> None:
        """One message from another process."""
        self._receive(envelope, now)
        self._note_losses(now)

    def _receive(self, envelope: Envelope, now: float) -> None:
        sender, boot, message = envelope.sender, envelope.boot, envelope.message
        was_alive = self.is_alive(sender)
        if isinstance(message, Greeting):
            accepted = self._membership.greeted(envelope, message, now)
            if accepted is not None or (not was_alive and self.is_alive(sender)):
                self._returned(sender, accepted is not None, now)
            return
        if envelope.to not in ("", self.me.name) or envelope.to_boot not in (0, self.me.boot):
            return  # meant for another who had this address before, or for a process that ended before I began
        if isinstance(message, Refusal):
            self._membership.refused_by(sender, boot, message, now)
            return
        member = self._membership.heard(envelope, now)
        if member is None:
            return
        if not was_alive:
            self._returned(sender, False, now)
        match message:
            case Ping():
                self._membership.progressed(member, message)
            case State():
                for confirm in message.confirms:
                    self._delivery.confirmed(sender, confirm, now)
                self._delivery.arrived(sender, boot, message, now)
            case Announce():
                self._delivery.announced(sender, boot, message, now)
            case Want():
                self._delivery.wanted(sender, message, now)
            case Confirm():
                self._delivery.confirmed(sender, message, now)
            case Consignment():
                self._consignments.arrived(sender, boot, message, now)
            case Receipt():
                self._consignments.receipt(sender, message, now)
            case Enquiry():
                self._consignments.enquired(sender, boot, message)
            case Leave():
                self._membership.left(member, message, now)

    def receive_malformed(self, sender: str, code: str, problem: str, now: float) -> None:
        """Bytes that were no message. Counted; said once per (sender, code)."""
        if self._count_malformed(sender, code) == 1:
            self._events.append(Event(EventKind.MALFORMED, now, sender, problem, {"code": code}))

    def receive_other_version(self, sender: str, problem: str, now: float) -> None:
        """A well-formed first frame of another wire version."""
        if self._membership.refuse_version(PeerName(sender), problem, now):
            self._count_malformed(sender, "version")
        else:
            self.receive_malformed(sender, "version", problem, now)

    def not_sent(self, transmit: Transmit, now: float) -> None:
        """The driver could not hand this message to its socket."""
        self._spoken.discard(PeerName(transmit.envelope.to))
        self._delivery.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)
        self._consignments.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at `now`."""
        beat = self._membership.beat_due(now)
        if beat:
            self._delivery.confirm_overdue(now)
            if self._progress[1] != self._done_said:
                self._done_said = self._progress[1]
                self._spoken.clear()  # this news travels in heartbeats only
        self._membership.handle_timeout(now, *self._progress, self._spoken)
        if beat:
            self._spoken.clear()
        self._note_losses(now)
        self._delivery.handle_timeout(now)
        self._consignments.handle_timeout(now)

    def leave(self, reason: str) -> None:
        """Queue my last word to everybody who might still listen."""
        for member in self._membership.members.values():
            if member.status in (Status.ALIVE, Status.SUSPECT):
                self._membership.out.append(Outbound(member.name, member.boot, member.address, Leave(reason)))

    # --- out -----------------------------------------------------------------------------------------------------

    def transmits(self) -> list[Transmit]:
        """Drain what is to be sent, in order."""
        drained = [self._transmit(outbound) for outbound in self._membership.out]
        self._membership.out.clear()
        for to, message in [*self._delivery.out, *self._consignments.out]:
            member = self._membership.members[to]
            if not isinstance(message, State | Consignment) or message.payload.nbytes <= self.limits.push_bytes_max:
                self._spoken.add(to)  # a large state may take longer than a heartbeat may be late
            drained.append(self._transmit(Outbound(to, member.boot, member.address, message)))
        self._delivery.out.clear()
        self._consignments.out.clear()
        return drained

    def arrivals(self) -> list[Arrival]:
        """Drain what came for the learner."""
        drained = self._delivery.arrivals + self._consignments.arrivals
        self._delivery.arrivals, self._consignments.arrivals = [], []
        return drained

    def freed(self) -> list[Slot]:
        """Drain the links of which a parcel of mass or of a stream is settled, home or written off."""
        drained, self._consignments.freed = self._consignments.freed, []
        return drained

    def awaits_taking(self) -> bool:
        """Whether the owner is to call `taken` as soon as the learner has taken something."""
        return self._delivery.awaits_taking()

    def events(self) -> list[Event]:
        """Drain what happened."""
        drained: list[Event] = []
        for part in (self._membership, self._delivery, self._consignments):
            drained += part.events
            part.events = []
        drained += self._events
        self._events = []
        return drained

    def next_timeout(self) -> float:
        """The clock reading at which `handle_timeout` wants to be called."""
        return min(part.next_timeout() for part in (self._membership, self._delivery, self._consignments))

    def neighbourhood(self) -> Neighbourhood | None:
        """A new snapshot of the others, or None when nothing changed since the last call."""
        return self._membership.neighbourhood()

    def address_of(self, name: str) -> Address | None:
        """Where a member listens, for the driver."""
        member = self._membership.members.get(PeerName(name))
        return member.address if member is not None else None

    def addresses(self) -> set[Address]:
        """Where all members and seeds listen, for the driver."""
        return {member.address for member in self._membership.members.values()} | set(self._membership.seeds)

    def is_alive(self, name: PeerName) -> bool:
        """Whether there is business with this peer now: we hear one another."""
        member = self._membership.members.get(name)
        return member is not None and member.status is Status.ALIVE and member.met

    def status_of(self, name: PeerName) -> Status | None:
        """What I believe of a member; None for a stranger."""
        member = self._membership.members.get(name)
        return member.status if member is not None else None

    def unsettled(self) -> list[tuple[Slot, Outstanding]]:
        """Mass and streams of mine that are on their way, held or parked."""
        return list(self._consignments.unsettled())

    @property
    def written_off(self) -> float:
        """Weight that ended with processes of others, since the start."""
        return self._consignments.written_off

    def link_counts(self) -> dict[PeerName, LinkCounts]:
        """Published, superseded, resent and overtaken versions per peer."""
        return self._delivery.counts

    @property
    def malformed(self) -> dict[str, int]:
        """How many messages were not understood, per code."""
        totals: dict[str, int] = {}
        for (_, code), count in self._malformed.items():
            totals[code] = totals.get(code, 0) + count
        return totals

    def _boot_of(self, name: PeerName) -> int | None:
        return self._membership.members[name].boot if self.is_alive(name) else None

    def _returned(self, peer: PeerName, restarted: bool, now: float) -> None:
        self._delivery.returned(peer, restarted, now)
        self._consignments.returned(peer, now)

    def _note_losses(self, now: float) -> None:
        lost, self._membership.lost = self._membership.lost, []
        for peer, for_good, why in lost:
            self._consignments.lost(peer, now, for_good, why)

    def _transmit(self, outbound: Outbound) -> Transmit:
        to, to_boot, address, message = outbound
        return Transmit(address, Envelope(self.me.name, self.me.boot, to, to_boot, message))

    def _count_malformed(self, sender: str, code: str) -> int:
        key = (sender, code)
        if key not in self._malformed and len(self._malformed) >= self.limits.strangers_max:
            key = ("", code)
        self._malformed[key] = self._malformed.get(key, 0) + 1
        return self._malformed[key]

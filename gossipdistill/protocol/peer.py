"""One peer as a value machine: it conducts membership and delivery, and decides nothing itself.

The owner (a socket driver, or a simulator) feeds it and drains it:

    peer.receive(envelope, now)     peer.publish(slot, parcel, now)     peer.settle(settlement)
    peer.complain(complaints, now)  peer.not_sent(transmit, now)        peer.connection_ended(name, now)
    peer.handle_timeout(now)        peer.receive_malformed(...)         peer.receive_too_much(...)
    peer.use(intake)                peer.crowded(name, now)
    peer.transmits()    peer.arrivals()    peer.freed()    peer.events()    peer.next_timeout()

No call raises for anything that another peer can do.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    FEATURE_OF,
    Announce,
    Arrival,
    Complaint,
    Confirm,
    Consignment,
    DeliveryClass,
    Enquiry,
    Envelope,
    Intake,
    Message,
    Neighbourhood,
    Parcel,
    Receipt,
    Settlement,
    Slot,
    State,
    Transmit,
    Want,
)
from gossipdistill.presence import (
    Ack,
    Address,
    Contact,
    Enrolments,
    Greeting,
    Leave,
    Nack,
    Ping,
    PingRequest,
    Refusal,
    RefusalCode,
)
from gossipdistill.protocol.callers import Callers
from gossipdistill.protocol.delivery import Delivery
from gossipdistill.protocol.key_distribution import KeyDistribution
from gossipdistill.protocol.members import Identity, Member, Status
from gossipdistill.protocol.membership import Membership
from gossipdistill.protocol.parcels import LinkCounts, Outstanding
from gossipdistill.protocol.peer_scores import PeerScores
from gossipdistill.protocol.table import table_at_start


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
        """`contacts` may be a `Directory`, which all peers of a process can share. `rng` decides whom to probe next."""
        self.me, self.limits = me, limits
        chance = rng if rng is not None else random.Random(f"{me.name} {me.boot}")
        table = table_at_start(me, expected, closed, contacts, limits, chance)
        delivery = Delivery(limits, me.boot, table.partners)
        self.states, self.reliable_messages = delivery.states, delivery.reliable_messages
        self.membership = Membership(table, delivery)
        self.key_distribution = KeyDistribution(table)
        self.boots = self.membership.boots
        self._peer_scores = PeerScores(limits)
        self._callers = Callers(limits)
        self._muted, self._lossy = self._peer_scores.muted, self.reliable_messages.sender.lossy
        self._events: list[Event] = []
        self._malformed: dict[tuple[str, str], int] = {}
        self.withheld: Counter[str] = Counter()
        """By kind, messages that were not sent since their reader has not named the feature that they need."""
        self.membership.start(contacts, seeds, now)

    # --- in ------------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """The learner has news for `slot.peer`."""
        self.membership.engage(slot.peer, now)
        if parcel.delivery is not DeliveryClass.STATE:
            self.reliable_messages.sender.publish(slot, parcel, now)
        elif slot.peer != self.me.name:
            self.states.sender.publish(slot, parcel, now)

    def use(self, intake: Intake) -> None:
        """What my learner has a use for now; before that is said, anything."""
        self.reliable_messages.receiver.intake = intake

    def taken(self, slot: Slot, now: float) -> None:
        """The learner has taken what lay in this slot of its inbox."""
        self.states.receiver.taken(slot, now)

    def settle(self, settlement: Settlement) -> None:
        """The learner's verdict on an arrival of mass or of a stream."""
        self.reliable_messages.receiver.settle(settlement)

    def complain(self, complaints: Iterable[Complaint], now: float) -> None:
        """The learner has refused payloads, and has said so itself."""
        for name, reason in ((one.sender, one.reason) for one in complaints if self.status_of(one.sender) is not None):
            windows = self.reliable_messages.receiver.windows.items()
            mass = any(slot.peer == name and not window.stream for slot, window in windows)
            weight = self.limits.penalty_with_mass if mass else 1
            self._peer_scores.offend(name, reason, now, weight)

    def report_progress(self, step: int, done: bool, now: float) -> None:
        """My own step and whether I only serve from now on; it travels in probes and their answers."""
        self.membership.report_progress(step, done, now)

    def receive(self, envelope: Envelope, now: float) -> None:
        """One message from another process."""
        self._receive(envelope, now)
        self._note_changes(now)

    def _receive(self, envelope: Envelope, now: float) -> None:
        sender, boot, message = envelope.sender, envelope.boot, envelope.message
        if self._is_too_far(sender, boot, now):
            if isinstance(message, Greeting):
                caller = Member(sender, message.address, message.place, boot=boot)
                self.membership.refusals.clock(caller, self.boots.clock(now))
            return
        if isinstance(message, Greeting):
            known = self.address_of(sender)
            unheard = self._callers.turn_away(sender, boot, message.address, known, now) if known is not None else ""
            if unheard:
                self._turn_away(sender, unheard, now)
                return
            self.membership.greeted(envelope, message, now)
            return
        if isinstance(message, Enrolments):
            self.key_distribution.heard(sender, message, now)
            return
        if envelope.to not in ("", self.me.name):
            self._turn_away(sender, "not_for_me", now)  # but for another who had this address before
            return
        if envelope.to_boot not in (0, self.me.boot):
            self._turn_away(sender, "for_another_process", now)
            if envelope.to_boot < self.me.boot:
                self.membership.addressed_to_my_predecessor(sender, now)
            return
        if isinstance(message, Refusal):
            if not self.membership.refusals.refused_by(sender, boot, message, now):
                self._turn_away(sender, "contradiction", now)
            return
        if isinstance(message, Ping | PingRequest | Ack | Nack | Leave):
            self.membership.probe_word(envelope, message, now)
            if isinstance(message, Leave) and self.status_of(sender) is Status.LEFT:
                self.reliable_messages.sender.parted(sender, boot, message.absorbed, now)
            return
        if self.membership.heard(envelope, now) is None:
            self._turn_away(sender, "not_admitted", now)
            return
        self._note_changes(now)
        match message:
            case State():
                for confirm in message.confirms:
                    self.states.sender.confirmed(sender, confirm, now)
                if not self.turns_down(sender, message.topic, now) and not self.drop_muted(sender, now):
                    self._note_arrival(sender, self.states.receiver.arrived(sender, boot, message, now), now)
            case Announce():
                unknown = self.turns_down(sender, message.topic, now)
                if not unknown and not self._is_oversize(sender, message, now) and not self.drop_muted(sender, now):
                    self.states.receiver.announced(sender, boot, message, now)
            case Want():
                self.states.sender.wanted(sender, message, now)
            case Confirm():
                self.states.sender.confirmed(sender, message, now)
            case Consignment():
                if not self.turns_down(sender, message.topic, now):
                    unwanted = "its sender is muted" if self.drop_muted(sender, now) else ""
                    became = self.reliable_messages.receiver.arrived(sender, boot, message, now, unwanted)
                    self._note_arrival(sender, became, now)
            case Receipt():
                self.reliable_messages.sender.receipt(sender, message, now)
            case Enquiry():
                if not self.turns_down(sender, message.topic, now):
                    self.reliable_messages.receiver.enquired(sender, boot, message)

    def receive_malformed(self, sender: str, code: str, problem: str, now: float, proven: bool = False) -> None:
        """Bytes that were no message. Counted; said once per (sender, code). `proven`: it was this peer and nobody in
        its name, so it is held against it."""
        if self._count_malformed(sender, code) == 1:
            self._events.append(Event(EventKind.MALFORMED, now, sender, problem, {"code": code}))
        if proven and self.status_of(PeerName(sender)) is not None:
            self._peer_scores.offend(PeerName(sender), code, now)

    def receive_too_much(self, sender: str, reason: str, problem: str, now: float, proven: bool = False) -> None:
        """The owner has dropped something unread, for its sender has sent more than it may. `proven`: as above."""
        name = PeerName(sender) if self.status_of(PeerName(sender)) is not None else PeerName("")
        self._peer_scores.turn_away(name, reason, now, problem)
        if proven and name:
            self._peer_scores.offend(name, reason, now)

    def turns_down(self, sender: PeerName, topic: str, now: float) -> bool:
        """Whether my learner has no use for this topic, so that nothing is kept of it; if so, one is counted. Who sends
        it sends it again, for as long as it likes."""
        if self.reliable_messages.receiver.intake.knows(topic):
            return False
        self._peer_scores.turn_away(sender, "topic", now, f"sends {topic[:80]!r}, of which the strategy knows nothing")
        return True

    def crowded(self, sender: PeerName, now: float) -> None:
        """The owner has had older states of this sender give way to its newest: too many bytes of it wait."""
        problem = "has more waiting for a slow learner than it may: its oldest states give way to its newest"
        self._peer_scores.turn_away(sender, "crowded", now, problem)

    def drop_muted(self, sender: PeerName, now: float) -> bool:
        """Whether this sender is muted, so that its states and pieces are dropped unread; if so, one is counted."""
        if not self._peer_scores.mutes(sender, now):
            return False
        self._peer_scores.drop(sender, now)
        return True

    def receive_other_version(self, sender: str, boot: int, theirs: int, mine: int, now: float) -> Refusal | None:
        """A well-formed first frame of another wire version. What to answer on the connection that it came through, if
        its sender is no member, and so nobody whom I could call. Without a `sender` nothing shows who it is."""
        speaks = f"{sender or 'the caller'} speaks wire version {theirs} and {self.me.name} {mine}"
        refusal = Refusal(
            RefusalCode.WIRE_VERSION, f"{speaks}: install the same gossipdistill on both", wire_version=theirs
        )
        self._count_malformed(sender, "version")
        if self._is_too_far(PeerName(sender), boot, now):
            return refusal
        is_member = self.membership.refusals.version(PeerName(sender), Boot(boot), refusal, now)
        return None if is_member else refusal

    def not_sent(self, transmit: Transmit, now: float) -> None:
        """The driver could not hand this message to its socket."""
        self.states.sender.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)
        self.reliable_messages.sender.not_sent(PeerName(transmit.envelope.to), transmit.envelope.message, now)

    def connection_ended(self, name: PeerName, now: float) -> None:
        """The driver has lost a connection on which it had sent this peer something large: what was on the way is lost,
        or is known over there by its number, so it can be said again at once."""
        self.states.sender.returned(name, False, now)
        self.reliable_messages.sender.returned(name, now)

    def forget_processes(self, name: PeerName, why: str, now: float) -> None:
        """The key of `name` is another now, or none: what was heard under the former one binds nobody."""
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
        self._peer_scores.handle_timeout(now)

    def leave(self, reason: str, crashed: bool = False) -> None:
        """Queue my last word to everybody who might still listen. `crashed`: not on purpose, so I may be back."""
        self.membership.leave(reason, crashed)

    # --- out -----------------------------------------------------------------------------------------------------

    def transmits(self) -> list[Transmit]:
        """Drain what is to be sent, in order."""
        table, before = self.membership.table, self.key_distribution.before
        if not (table.out or self.states.box.out or self.reliable_messages.box.out):
            return []
        drained = [self._transmit(*word) for outbound in table.out for word in (*before(outbound), outbound)]
        for to, message in self.states.box.out:
            member = table.rows.get(to)
            if member is not None:  # else it has been forgotten, and whatever this is finds no reader
                drained.append(self._transmit(to, member.boot, member.address, message))
        for to, boot, message in self.reliable_messages.box.out:
            member = table.rows.get(to)
            if member is not None and member.boot == boot:  # its successor has a parcel of that number as well
                drained.append(self._transmit(to, boot, member.address, message))
        for part in (table, self.states.box, self.reliable_messages.box):
            part.out.clear()
        return [transmit for transmit in drained if self._is_understood(transmit.envelope)]

    def arrivals(self) -> list[Arrival]:
        """Drain what came for the learner."""
        drained = self.states.box.arrivals + self.reliable_messages.box.arrivals
        self.states.box.arrivals, self.reliable_messages.box.arrivals = [], []
        return drained

    def freed(self) -> list[Slot]:
        """Drain the links of which a parcel of mass or of a stream is settled, home or written off."""
        drained, self.reliable_messages.sender.freed = self.reliable_messages.sender.freed, []
        return drained

    def awaits_taking(self) -> bool:
        """Whether the owner is to call `taken` as soon as the learner has taken something."""
        return self.states.receiver.awaits_taking()

    def events(self) -> list[Event]:
        """Drain what happened."""
        parts = (self.membership.table, self.states.sender, self.reliable_messages.sender, self._peer_scores)
        drained = [event for part in parts for event in part.events] + self._events
        if drained:
            self._events = []
            for part in parts:
                part.events = []
        return drained

    def next_timeout(self) -> float:
        """The clock reading at which `handle_timeout` wants to be called."""
        business_s = min(self.states.next_timeout(), self.reliable_messages.next_timeout())
        return min(self.membership.next_timeout(), business_s, self._peer_scores.next_timeout())

    def neighbourhood(self) -> Neighbourhood | None:
        """A new snapshot of the others, or None when nothing changed since the last call."""
        table, muted, lossy = self.membership.table, self._peer_scores.muted, self.reliable_messages.sender.lossy
        table.changed = table.changed or muted is not self._muted or lossy is not self._lossy
        snapshot, self._muted, self._lossy = table.neighbourhood(), muted, lossy
        return replace(snapshot, muted=muted, lossy=lossy) if snapshot is not None and (muted or lossy) else snapshot

    def address_of(self, name: str) -> Address | None:
        """Where a member listens, for the driver."""
        return self.membership.table.address_of(name)

    def addresses(self) -> set[Address]:
        """Where all members and seeds listen, for the driver."""
        table = self.membership.table
        named = {contact.address for contact in table.directory if contact.name not in table.rows}
        rows = {member.address for member in table.rows.values()}
        return (named | rows | set(self.membership.admission.seeds)) - {self.me.address}

    def features_of(self, name: PeerName) -> frozenset[str]:
        """What the greeting of this member's process named; nothing where none was accepted."""
        return self.membership.table.features_of(name)

    def unanswered(self) -> list[tuple[str, Address]]:
        """Whom I call in vain, for the driver: (name, or "" where only the address is known, and address)."""
        return self.membership.admission.unanswered()

    def is_alive(self, name: PeerName) -> bool:
        """Whether there is business with this peer now: we hear one another."""
        return name in self.membership.table.partners

    def is_present(self, name: PeerName) -> bool:
        """Whether this member counts as one of the living: heard, or of a large roster and not known to be absent."""
        return self.membership.table.is_present(name)

    def status_of(self, name: PeerName) -> Status | None:
        """What I believe of a member; None for a stranger. In a large roster UNHEARD is presumed present."""
        table = self.membership.table
        member = table.rows.get(name)
        if member is not None:
            return member.status
        return Status.UNHEARD if table.directory.get(name) is not None and name != self.me.name else None

    def in_flight(self) -> list[tuple[Slot, Outstanding]]:
        """Mass and streams of mine that are on their way, held or parked."""
        return list(self.reliable_messages.sender.in_flight())

    @property
    def local_health(self) -> int:
        """0: I trust my own clockwork; up to `local_health_max`: my time-outs are so many times longer, and once."""
        return self.membership.health.score

    @property
    def written_off(self) -> float:
        """Weight that ended with processes of others, since the start."""
        return self.reliable_messages.sender.written_off

    def link_counts(self) -> dict[PeerName, LinkCounts]:
        """Published, superseded, resent and overtaken versions per peer."""
        return self.states.box.counts

    @property
    def confirmed_by(self) -> frozenset[PeerName]:
        """Who has confirmed a state of mine."""
        return frozenset(slot.peer for slot, known in list(self.states.sender.outgoing.items()) if known.confirmed)

    @property
    def malformed(self) -> dict[str, int]:
        """How many messages were not understood, per code."""
        totals: dict[str, int] = {}
        for (_, code), count in self._malformed.items():
            totals[code] = totals.get(code, 0) + count
        return totals

    @property
    def turned_away(self) -> dict[str, int]:
        """How many messages were understood and not taken, by "peer: reason"; ": reason" for those of strangers."""
        return {f"{name}: {reason}": count for (name, reason), count in sorted(self._peer_scores.turned_away.items())}

    def is_muted(self, name: PeerName, now: float) -> bool:
        """Whether this member is not listened to now, for what it has done."""
        return self._peer_scores.mutes(name, now)

    def boot_of(self, name: PeerName) -> int | None:
        """The process of this peer with which there is business now."""
        member = self.membership.table.partners.get(name)
        return member.boot if member is not None else None

    def _note_changes(self, now: float) -> None:
        """Tell delivery who is lost and who is back."""
        table = self.membership.table
        while table.lost or table.back:
            lost, back, table.lost, table.back = table.lost, table.back, [], []
            for peer, for_good, why in lost:
                self.reliable_messages.sender.lost(peer, now, for_good, why)
            for peer, restarted in back:
                self.key_distribution.tell_all(peer)
                self.states.sender.returned(peer, restarted, now)
                self.reliable_messages.sender.returned(peer, now)

    def _turn_away(self, sender: PeerName, reason: str, now: float) -> None:
        """A word that is not for me, or not for me to hear; strangers, who choose their names, are counted as one."""
        self._peer_scores.turn_away(sender if self.status_of(sender) is not None else "", reason, now)

    def _is_too_far(self, sender: PeerName, boot: int, now: float) -> bool:
        """Whether a boot is one that no process can have, so that its word is nobody's; said once of each member."""
        if not self.boots.is_too_far(sender, boot, now):
            return False
        name = sender if self.status_of(sender) is not None else ""
        ahead = f"numbers itself {boot}, more than 400 days ahead of the clocks here: a wrong clock, or somebody else"
        self._peer_scores.turn_away(name, "boot", now, ahead)
        return True

    def _note_arrival(self, sender: PeerName, became: str, now: float) -> None:
        """Why delivery has not handed something to the learner, if it has not."""
        if became == "repeated":
            self._peer_scores.repeat(sender, now)
        elif became == "full":
            self._peer_scores.turn_away(sender, became, now)
        elif became == "slots":
            problem = f"has used up its share of {self.limits.slots_per_peer_max} topics and keys"
            self._peer_scores.turn_away(sender, became, now, problem)

    def _is_oversize(self, sender: PeerName, announce: Announce, now: float) -> bool:
        size, size_max = announce.payload_bytes, self.limits.payload_bytes_max
        if size <= size_max:
            return False
        problem = f"announces {announce.topic[:80]} of {size} bytes, and a payload has at most {size_max}"
        self._peer_scores.turn_away(sender, "oversize", now, problem)
        self._peer_scores.offend(sender, "oversize", now)
        return True

    def _is_understood(self, envelope: Envelope) -> bool:
        """Whether the reader has said that it knows this kind, where not every release of the wire version does."""
        kind = type(envelope.message)
        feature = FEATURE_OF.get(kind)
        if feature is None or feature in self.features_of(PeerName(envelope.to)):
            return True
        self.withheld[kind.__name__] += 1
        return False

    def _transmit(self, to: str, to_boot: int, address: Address, message: Message) -> Transmit:
        return Transmit(address, Envelope(self.me.name, self.me.boot, to, to_boot, message))

    def _count_malformed(self, sender: str, code: str) -> int:
        key = (sender, code)
        if key not in self._malformed and len(self._malformed) >= self.limits.strangers_max:
            key = ("", code)
        self._malformed[key] = self._malformed.get(key, 0) + 1
        return self._malformed[key]

"""The sender's half of states: the newest version of each slot, and which versions are on the wire.

The rules are at the head of protocol/states.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Announce, Confirm, Message, Mode, Parcel, Slot, State, Want
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.parcels import StateOutbox, oversize
from gossipdistill.protocol.retransmission import RetransmissionTimeout


@dataclass(slots=True)
class Outgoing:
    """The newest parcel for one slot of one recipient, and its versions on the wire. Numbers are versions."""

    parcel: Parcel
    number: int
    confirmed: int = 0
    last_sent: int = 0
    unconfirmed: dict[int, float] = field(default_factory=dict)
    """The versions on the wire, each with the time at which it is given up."""
    timed: tuple[int, float] | None = None
    """A small version that was sent once, and the time: its confirmation gives the round-trip time."""
    wanted: bool = False
    announced_until_s: float = -NEVER
    """An announcement is open until this time, and is repeated then."""
    retry_at_s: float = NEVER
    retry_gap_s: float = 0.0
    blocked_since_s: float | None = None

    def sent(self) -> int:
        """The newest version that has arrived or is in flight."""
        return max(self.unconfirmed, default=self.confirmed)

    def due_s(self) -> float:
        """The time at which this slot needs action, if nothing arrives before."""
        open_until_s = self.announced_until_s if self.announced_until_s > -NEVER else NEVER
        return min(self.retry_at_s, open_until_s, *self.unconfirmed.values())


@dataclass(slots=True)
class StateSender:
    """`partners` are the peers that may be sent to now."""

    limits: Limits
    partners: Mapping[PeerName, Member]
    box: StateOutbox
    outgoing: dict[Slot, Outgoing] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    timeouts: dict[PeerName, RetransmissionTimeout] = field(default_factory=dict)
    _deadlines: Deadlines[Slot] = field(default_factory=Deadlines)
    _number: int = 0
    _blocked: set[PeerName] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """Take over a parcel of the learner for `slot.peer`; it replaces what was not sent yet."""
        problem = oversize(parcel, self.limits)
        if problem:
            self._say_once(parcel.topic, f"{parcel.topic} is not sent: {problem}; a smaller encoding may help", now)
            return
        self._number += 1
        count = self.box.count(slot.peer)
        count.published += 1
        known = self.outgoing.get(slot)
        if known is None:
            known = self.outgoing[slot] = Outgoing(parcel, self._number)
        else:
            count.superseded += known.sent() < known.number
            known.parcel, known.number = parcel, self._number
        self._advance(slot, known, now)

    @property
    def confirmed_by(self) -> frozenset[PeerName]:
        """The peers that have confirmed a state of mine; may be asked from any thread."""
        return frozenset(slot.peer for slot, known in list(self.outgoing.items()) if known.confirmed)

    def confirmed(self, sender: PeerName, confirm: Confirm, now: float) -> None:
        """Handle a confirmation: this version has arrived, and those before it have arrived or are lost. There is room
        for the next."""
        slot = Slot(sender, confirm.topic, confirm.key)
        known = self.outgoing.get(slot)
        if known is None or confirm.number > known.number:
            return
        known.confirmed = max(known.confirmed, confirm.number)
        timeout = self._timeout_with(sender)
        timeout.heard()
        if known.timed is not None and known.timed[0] <= confirm.number:
            if known.timed[0] == confirm.number:
                timeout.answer(now - known.timed[1])
            known.timed = None
        for number in [number for number in known.unconfirmed if number <= confirm.number]:
            del known.unconfirmed[number]
        if known.confirmed == known.number:
            known.wanted, known.announced_until_s, known.retry_at_s = False, -NEVER, NEVER
        known.blocked_since_s, known.retry_gap_s = None, 0.0
        self._blocked.discard(sender)
        self._advance(slot, known, now)

    def wanted(self, sender: PeerName, want: Want, now: float) -> None:
        """Handle a request: the reader of an announced state is ready for it."""
        slot = Slot(sender, want.topic, want.key)
        known = self.outgoing.get(slot)
        if known is not None and known.sent() < want.number <= known.number:
            known.wanted = True
            self._advance(slot, known, now)

    def not_sent(self, recipient: PeerName, message: Message, now: float) -> None:
        """Note that the socket had no room or no connection: try again later with the version that is then the newest.
        If a request or confirmation is lost, the other side repeats its own message (rule 5)."""
        if not isinstance(message, State | Announce):
            return
        slot = Slot(recipient, message.topic, message.key)
        known = self.outgoing.get(slot)
        if known is None:
            return
        if isinstance(message, State):
            for confirm in message.confirms:
                self.box.owed.owe(recipient, confirm, now)
            known.unconfirmed.pop(message.number, None)
            known.wanted, known.timed = True, None
            self._note_blocked(recipient, known, now)
        known.announced_until_s = -NEVER
        known.retry_gap_s = min(
            max(2 * known.retry_gap_s, self.limits.retry_interval_s), self.limits.retry_interval_max_s
        )
        known.retry_at_s = now + known.retry_gap_s
        self._deadlines.set(slot, known.due_s())

    def returned(self, peer: PeerName, restarted: bool, now: float) -> None:
        """Handle a peer that is new, restarted or heard again: what was in flight to it is lost or stale. Start
        afresh."""
        self.box.owed.pay(peer)
        for slot, known in self.outgoing.items():
            if slot.peer == peer:
                known.confirmed = 0 if restarted else known.confirmed
                known.unconfirmed.clear()
                known.timed = None
                known.wanted, known.announced_until_s, known.retry_at_s = False, -NEVER, NEVER
                known.blocked_since_s, known.retry_gap_s = None, 0.0
                self._advance(slot, known, now)

    def _advance(self, slot: Slot, known: Outgoing, now: float) -> None:
        """Send or announce the newest version if rule 1 allows it now."""
        if slot.peer in self.partners and known.sent() < known.number:
            pull = known.parcel.mode is Mode.PULL
            if len(known.unconfirmed) >= (1 if pull else self.limits.unconfirmed_max):
                pass
            elif known.wanted or not pull:
                self._send(slot, known, now)
            elif now >= known.announced_until_s:
                announce = Announce(slot.topic, slot.key, known.number, known.parcel.payload.nbytes)
                self.box.out.append((slot.peer, announce))
                known.announced_until_s, known.retry_at_s = now + self.limits.confirm_timeout_s, NEVER
        self._deadlines.set(slot, known.due_s())

    def _send(self, slot: Slot, known: Outgoing, now: float) -> None:
        parcel = known.parcel
        owed = self.box.owed.pay(slot.peer)
        self.box.out.append((slot.peer, State(known.number, parcel.content, owed)))
        timeout_s = self.limits.confirm_timeout_s
        if parcel.payload.nbytes <= self.limits.push_bytes_max:
            timeout_s = self._timeout_with(slot.peer).seconds()
            if known.timed is None and known.number > known.last_sent:
                known.timed = (known.number, now)
        known.last_sent = known.number
        known.unconfirmed[known.number] = now + timeout_s + parcel.payload.nbytes / self.limits.confirm_bytes_per_s
        known.wanted, known.announced_until_s, known.retry_at_s = False, -NEVER, NEVER

    def _note_blocked(self, peer: PeerName, known: Outgoing, now: float) -> None:
        """Report a peer that answers probes but takes no state: most likely its data port is closed."""
        if known.blocked_since_s is None:
            known.blocked_since_s = now
        elif now - known.blocked_since_s >= self.limits.blocked_after_s and peer not in self._blocked:
            self._blocked.add(peer)
            silent_s = now - known.blocked_since_s
            reason = f"lives, but took no state for {silent_s:.0f} s: is its data port (the control port + 1) open?"
            self.events.append(Event(EventKind.WARNING, now, peer, reason))

    def _say_once(self, topic: str, reason: str, now: float) -> None:
        if topic not in self._said:
            self._said.add(topic)
            self.events.append(Event(EventKind.WARNING, now, "", reason))

    def has_something_for(self, peer: PeerName) -> bool:
        """Whether the newest version of some slot has not been confirmed by this peer."""
        return any(slot.peer == peer and known.confirmed < known.number for slot, known in self.outgoing.items())

    def next_timeout(self) -> float:
        """The time at which the first version is overdue or may be tried again."""
        return self._deadlines.next_s()

    def handle_timeout(self, now: float) -> None:
        """Give up on confirmations and announcements that are overdue, and send or announce the newest instead."""
        for slot in self._deadlines.pop_due(now):
            known = self.outgoing[slot]
            known.retry_at_s = NEVER
            overdue = [number for number, due_s in known.unconfirmed.items() if now >= due_s]
            for number in overdue:
                del known.unconfirmed[number]
            if overdue:
                self.box.count(slot.peer).resent += 1
                self._timeout_with(slot.peer).lost()
                known.timed = None  # a confirmation may now answer the first attempt or the second
            known.announced_until_s = -NEVER  # none is open while a version is on the wire: it was the one due
            self._advance(slot, known, now)

    def _timeout_with(self, peer: PeerName) -> RetransmissionTimeout:
        timeout = self.timeouts.get(peer)
        if timeout is None:
            bounds = (self.limits.confirm_timeout_min_s, self.limits.confirm_timeout_s)
            timeout = self.timeouts[peer] = RetransmissionTimeout(*bounds)
        return timeout

"""Delivery of the *state* class: newest wins, keyed (peer, topic, key), paced by confirmation.

Small states are pushed. Large ones are announced, and sent when the reader asks, which it does once its learner has
taken the previous version: a slow reader is never sent more than it can use.

Rules of this file
1. At most `unconfirmed_max` versions of a slot are on the wire to one peer (one, if it is pulled), and at most one
   announcement is open. Sockets buffer far more than one thinks, and what waits in them arrives stale.
2. Only the newest version is kept for sending. Loss, duplication, reordering and slow readers are harmless.
3. Nothing goes to a peer that is not alive; when it returns it is sent the newest version at once, unless it has it.
4. A pushed state is confirmed by the next state that goes the other way, at the latest after `confirm_delay_s`; at
   once when a second version comes before that. Half of all messages, and of their wake-ups, are saved.
5. The sender alone keeps time. Whatever is lost (an announcement, a wish, a state, a confirmation), it says its last
   word again when its patience is over: as long as this peer's confirmations usually take, `confirm_timeout_s` at most.
   The reader answers each announcement, with a confirmation, or with a wish as soon as its learner is ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import Announce, Arrival, Confirm, Message, Mode, Parcel, Slot, State, Want
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.retransmission import RetransmissionTimeout


@dataclass(slots=True)
class Outgoing:
    """The newest parcel for one slot of one recipient, and what of it is on the wire. Numbers are versions."""

    parcel: Parcel
    number: int
    confirmed: int = 0
    last_sent: int = 0
    unconfirmed: dict[int, float] = field(default_factory=dict)
    """Versions on the wire, each with the time at which it is given up."""
    timed: tuple[int, float] | None = None
    """A small version that was sent once, and when: its confirmation tells how long they take."""
    wanted: bool = False
    announced_until_s: float = -NEVER
    """Until when an announcement is open; it is made again then."""
    retry_at_s: float = NEVER
    retry_gap_s: float = 0.0
    blocked_since_s: float | None = None

    def sent(self) -> int:
        """The newest version that has arrived or is on its way."""
        return max(self.unconfirmed, default=self.confirmed)

    def due_s(self) -> float:
        """When something is to be done about this slot, if nothing arrives before."""
        open_until_s = self.announced_until_s if self.announced_until_s > -NEVER else NEVER
        return min(self.retry_at_s, open_until_s, *self.unconfirmed.values())


@dataclass(slots=True)
class Incoming:
    """The newest version that arrived in one slot of one sender, and the newest that it has announced."""

    version: Version
    announced: int = 0
    learner_has_it: bool = True


@dataclass(slots=True)
class LinkCounts:
    """What happened on the way to or from one peer since the start."""

    published: int = 0
    superseded: int = 0
    resent: int = 0
    overtaken: int = 0


@dataclass(slots=True)
class Delivery:
    """Both directions of the state class. `is_alive` says whether a peer may be sent to."""

    limits: Limits
    is_alive: Callable[[PeerName], bool]
    outgoing: dict[Slot, Outgoing] = field(default_factory=dict)
    incoming: dict[Slot, Incoming] = field(default_factory=dict)
    out: list[tuple[PeerName, Message]] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    counts: dict[PeerName, LinkCounts] = field(default_factory=dict)
    _deadlines: Deadlines[Slot] = field(default_factory=Deadlines)
    _awaiting: set[Slot] = field(default_factory=set)
    """Slots of which an announced state waits until the learner has taken the one before it."""
    _timeouts: dict[PeerName, RetransmissionTimeout] = field(default_factory=dict)
    _number: int = 0
    _debts: Deadlines[PeerName] = field(default_factory=Deadlines)
    """When a confirmation has waited long enough, per peer."""
    _owed: dict[PeerName, dict[tuple[str, str], int]] = field(default_factory=dict)
    _blocked: set[PeerName] = field(default_factory=set)
    _too_large: set[str] = field(default_factory=set)

    # --- out -----------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """The learner has news for `slot.peer`; it takes the place of what was not sent yet."""
        if self._is_too_large(parcel, now):
            return
        self._number += 1
        count = self._count(slot.peer)
        count.published += 1
        known = self.outgoing.get(slot)
        if known is None:
            known = self.outgoing[slot] = Outgoing(parcel, self._number)
        else:
            count.superseded += known.sent() < known.number
            known.parcel, known.number = parcel, self._number
        self._advance(slot, known, now)

    def confirmed(self, sender: PeerName, confirm: Confirm, now: float) -> None:
        """A version has arrived over there, and so have, or are lost, those before it: there is room for the next."""
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
        """The reader of an announced state is ready for it."""
        slot = Slot(sender, want.topic, want.key)
        known = self.outgoing.get(slot)
        if known is not None and known.sent() < want.number <= known.number:
            known.wanted = True
            self._advance(slot, known, now)

    def not_sent(self, recipient: PeerName, message: Message, now: float) -> None:
        """The socket had no room or no connection: try again with whatever is newest by then. A lost wish or
        confirmation is made good by the other side (rule 5)."""
        if not isinstance(message, State | Announce):
            return
        slot = Slot(recipient, message.topic, message.key)
        known = self.outgoing.get(slot)
        if known is None:
            return
        if isinstance(message, State):
            for confirm in message.confirms:
                self._owe(recipient, confirm, now)
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
        """A peer is new, restarted or heard again: what was on the way to it is lost or stale. Begin afresh."""
        self._pay(peer)
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
        if self.is_alive(slot.peer) and known.sent() < known.number:
            pull = known.parcel.mode is Mode.PULL
            if len(known.unconfirmed) >= (1 if pull else self.limits.unconfirmed_max):
                pass
            elif known.wanted or not pull:
                self._send(slot, known, now)
            elif now >= known.announced_until_s:
                announce = Announce(slot.topic, slot.key, known.number, known.parcel.payload.nbytes)
                self.out.append((slot.peer, announce))
                known.announced_until_s, known.retry_at_s = now + self.limits.confirm_timeout_s, NEVER
        self._deadlines.set(slot, known.due_s())

    def _send(self, slot: Slot, known: Outgoing, now: float) -> None:
        parcel = known.parcel
        owed = self._pay(slot.peer)
        state = State(slot.topic, slot.key, known.number, parcel.step, parcel.exchange, parcel.payload, owed)
        self.out.append((slot.peer, state))
        timeout_s = self.limits.confirm_timeout_s
        if parcel.payload.nbytes <= self.limits.push_bytes_max:
            timeout_s = self._timeout_with(slot.peer).seconds()
            if known.timed is None and known.number > known.last_sent:
                known.timed = (known.number, now)
        known.last_sent = known.number
        known.unconfirmed[known.number] = now + timeout_s + parcel.payload.nbytes / self.limits.confirm_bytes_per_s
        known.wanted, known.announced_until_s, known.retry_at_s = False, -NEVER, NEVER

    def _is_too_large(self, parcel: Parcel, now: float) -> bool:
        """A payload that no reader would accept is not sent; said once per topic."""
        size, arrays = parcel.payload.nbytes, len(parcel.payload.layout)
        if size <= self.limits.payload_bytes_max and arrays <= self.limits.arrays_max:
            return False
        if parcel.topic not in self._too_large:
            self._too_large.add(parcel.topic)
            reason = (
                f"{parcel.topic} is not sent: {size / 1e6:.1f} MB in {arrays} arrays, and a payload has at most "
                f"{self.limits.payload_bytes_max / 1e6:.1f} MB in {self.limits.arrays_max}; a smaller encoding may help"
            )
            self.events.append(Event(EventKind.WARNING, now, "", reason))
        return True

    def _note_blocked(self, peer: PeerName, known: Outgoing, now: float) -> None:
        """A peer that answers to probes, and that no state can be handed to: most likely a closed data port."""
        if known.blocked_since_s is None:
            known.blocked_since_s = now
        elif now - known.blocked_since_s >= self.limits.blocked_after_s and peer not in self._blocked:
            self._blocked.add(peer)
            silent_s = now - known.blocked_since_s
            reason = f"lives, but took no state for {silent_s:.0f} s: is its data port (the control port + 1) open?"
            self.events.append(Event(EventKind.WARNING, now, peer, reason))

    # --- in ------------------------------------------------------------------------------------------------------

    def arrived(self, sender: PeerName, boot: Boot, state: State, now: float) -> str:
        """A version came: confirm it, and hand it to the learner unless a newer one came before. Why it was not handed
        over, in one word; empty if it was."""
        slot, version = Slot(sender, state.topic, state.key), Version(boot, state.number)
        known = self._incoming(slot, boot)
        self._confirm(sender, state, known is not None, now)
        if known is None:
            return "slots"
        if version <= known.version:
            self._count(sender).overtaken += 1
            return "repeated"
        known.version, known.learner_has_it = version, False
        if known.announced <= state.number:
            self._awaiting.discard(slot)
        arrival = Arrival(sender, slot.topic, version, state.step, state.exchange, state.payload, now, slot.key)
        self.arrivals.append(arrival)
        return ""

    def _confirm(self, sender: PeerName, state: State, may_wait: bool, now: float) -> None:
        """Owe a confirmation, or give it: for large states, and when one for this slot is owed already."""
        owed, slot_of = self._owed.get(sender, {}), (state.topic, state.key)
        small = state.payload.nbytes <= self.limits.push_bytes_max
        if small and may_wait and slot_of not in owed:
            self._owe(sender, Confirm(*slot_of, state.number), now)
        else:
            self.out.append((sender, Confirm(*slot_of, max(state.number, owed.pop(slot_of, 0)))))

    def _confirm_overdue(self, now: float) -> None:
        """Give the confirmations that have found no state to ride on for long enough."""
        for peer in self._debts.pop_due(now):
            self.out += [(peer, confirm) for confirm in self._pay(peer)]

    def _owe(self, peer: PeerName, confirm: Confirm, now: float) -> None:
        owed = self._owed.setdefault(peer, {})
        if not owed:
            self._debts.set(peer, now + self.limits.confirm_delay_s)
        owed.setdefault((confirm.topic, confirm.key), confirm.number)

    def _pay(self, peer: PeerName) -> tuple[Confirm, ...]:
        self._debts.set(peer, NEVER)
        return tuple(Confirm(*slot_of, number) for slot_of, number in self._owed.pop(peer, {}).items())

    def has_something_for(self, peer: PeerName) -> bool:
        """Whether the newest version of some slot has not been confirmed by this peer."""
        return any(slot.peer == peer and known.confirmed < known.number for slot, known in self.outgoing.items())

    def awaits_taking(self) -> bool:
        """Whether an announcement waits until the learner has taken the version before it."""
        return bool(self._awaiting)

    def announced(self, sender: PeerName, boot: Boot, announce: Announce, now: float) -> None:
        """A neighbour has a large state ready. Ask for it now, or as soon as the learner has taken the last one."""
        slot = Slot(sender, announce.topic, announce.key)
        known = self._incoming(slot, boot)
        if known is None:
            return
        known.announced = max(known.announced, announce.number)
        if announce.number <= known.version.number:
            self.out.append((sender, Confirm(slot.topic, slot.key, announce.number)))  # the first one was lost
        else:
            self._ask(slot, known)
            if not known.learner_has_it:
                self._awaiting.add(slot)

    def taken(self, slot: Slot, now: float) -> None:
        """The learner has emptied this slot of its inbox."""
        known = self.incoming.get(slot)
        if known is not None:
            known.learner_has_it = True
            self._awaiting.discard(slot)
            self._ask(slot, known)

    def _ask(self, slot: Slot, known: Incoming) -> None:
        if known.announced > known.version.number and known.learner_has_it and self.is_alive(slot.peer):
            self.out.append((slot.peer, Want(slot.topic, slot.key, known.announced)))

    def forget_processes(self, peer: PeerName) -> None:
        """Its next process may have a lower boot than those before."""
        for slot, known in self.incoming.items():
            if slot.peer == peer:
                known.version, known.announced = Version(Boot(0), 0), 0
                self._awaiting.discard(slot)

    def _incoming(self, slot: Slot, boot: Boot) -> Incoming | None:
        """The row of a slot for this process of its sender; None when the sender has used up its share of rows."""
        known = self.incoming.get(slot)
        if known is None:
            if sum(other.peer == slot.peer for other in self.incoming) >= self.limits.slots_per_peer_max:
                return None
            known = self.incoming[slot] = Incoming(Version(boot, 0))
        if known.version.boot < boot:
            known.version, known.announced = Version(boot, 0), 0
            self._awaiting.discard(slot)
        return known

    # --- time ----------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """When the first version is overdue or may be tried again."""
        return min(self._deadlines.next_s(), self._debts.next_s())

    def handle_timeout(self, now: float) -> None:
        """Give up on confirmations and announcements that are overdue, and send or announce the newest instead."""
        self._confirm_overdue(now)
        for slot in self._deadlines.pop_due(now):
            known = self.outgoing[slot]
            known.retry_at_s = NEVER
            overdue = [number for number, due_s in known.unconfirmed.items() if now >= due_s]
            for number in overdue:
                del known.unconfirmed[number]
            if overdue:
                self._count(slot.peer).resent += 1
                self._timeout_with(slot.peer).lost()
                known.timed = None  # whatever is confirmed now may be the first sending or the second
            known.announced_until_s = -NEVER  # never open while a version is on the wire: it is what was due
            self._advance(slot, known, now)

    def _timeout_with(self, peer: PeerName) -> RetransmissionTimeout:
        timeout = self._timeouts.get(peer)
        if timeout is None:
            bounds = (self.limits.confirm_timeout_min_s, self.limits.confirm_timeout_s)
            timeout = self._timeouts[peer] = RetransmissionTimeout(*bounds)
        return timeout

    def _count(self, peer: PeerName) -> LinkCounts:
        return self.counts.setdefault(peer, LinkCounts())

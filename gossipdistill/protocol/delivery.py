"""Delivery of the *state* class: newest wins, keyed (peer, topic, key), paced by confirmation.

Small states are pushed. Large ones are announced, and sent when the reader asks, which it does once its learner has
taken the previous version: a slow reader is never sent more than it can use.

Rules of this file
1. At most `unconfirmed_max` versions of a slot are on the wire to one peer, at most one announcement is open. Sockets
   buffer far more than one thinks, and what waits in them arrives stale.
2. Only the newest version is kept for sending. Loss, duplication, reordering and slow readers are harmless.
3. Nothing goes to a peer that is not alive; when it returns it is sent the newest version at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import Announce, Arrival, Confirm, Message, Mode, Parcel, Slot, State, Want

_NEVER = float("inf")


@dataclass(slots=True)
class Outgoing:
    """The newest parcel for one slot of one recipient, and what of it is on the wire. Numbers are versions."""

    parcel: Parcel
    number: int
    sent: int = 0
    unconfirmed: dict[int, float] = field(default_factory=dict)
    announced: int = 0
    announced_until_s: float = -_NEVER
    wanted: bool = False
    retry_at_s: float = _NEVER


@dataclass(slots=True)
class Incoming:
    """The newest version that arrived in one slot of one sender, and what it has announced since."""

    version: Version
    announced: int = 0
    asked_until_s: float = -_NEVER
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
    counts: dict[PeerName, LinkCounts] = field(default_factory=dict)
    _number: int = 0

    # --- out -----------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """The learner has news for `slot.peer`; it takes the place of what was not sent yet."""
        self._number += 1
        count = self._count(slot.peer)
        count.published += 1
        known = self.outgoing.get(slot)
        if known is None:
            known = self.outgoing[slot] = Outgoing(parcel, self._number)
        else:
            count.superseded += known.sent < known.number
            known.parcel, known.number = parcel, self._number
        self._advance(slot, known, now)

    def confirmed(self, sender: PeerName, confirm: Confirm, now: float) -> None:
        """A version has arrived over there: there is room for the next."""
        slot = Slot(sender, confirm.topic, confirm.key)
        known = self.outgoing.get(slot)
        if known is not None:
            known.unconfirmed.pop(confirm.number, None)
            if not known.unconfirmed:
                known.retry_at_s = _NEVER
            self._advance(slot, known, now)

    def wanted(self, sender: PeerName, want: Want, now: float) -> None:
        """The reader of an announced state is ready for it."""
        slot = Slot(sender, want.topic, want.key)
        known = self.outgoing.get(slot)
        if known is not None:
            known.wanted = True
            self._advance(slot, known, now)

    def not_sent(self, recipient: PeerName, message: Message, now: float) -> None:
        """The socket had no room or no connection: try again with whatever is newest by then."""
        if isinstance(message, State | Announce):
            known = self.outgoing.get(Slot(recipient, message.topic, message.key))
            if known is None:
                return
            if isinstance(message, State):
                known.unconfirmed.pop(message.number, None)
                known.sent = min(known.sent, message.number - 1)
                known.wanted = True
            else:
                known.announced_until_s = -_NEVER
                known.announced = min(known.announced, message.number - 1)
            known.retry_at_s = now + self.limits.retry_interval_s

    def returned(self, peer: PeerName, now: float) -> None:
        """A peer is new, restarted or heard again: what was on the way to it is lost or stale. Begin afresh."""
        for slot, known in self.outgoing.items():
            if slot.peer == peer:
                known.sent, known.announced, known.announced_until_s = 0, 0, -_NEVER
                known.unconfirmed.clear()
                known.wanted = False
                self._advance(slot, known, now)
        for slot, incoming in self.incoming.items():
            if slot.peer == peer:
                incoming.asked_until_s = -_NEVER

    def _advance(self, slot: Slot, known: Outgoing, now: float) -> None:
        """Send or announce the newest version if rule 1 allows it now."""
        if not self.is_alive(slot.peer) or known.sent >= known.number:
            return
        pull = known.parcel.mode is Mode.PULL
        room = len(known.unconfirmed) < (1 if pull else self.limits.unconfirmed_max)
        if room and (known.wanted or not pull):
            self._send(slot, known, now)
        elif pull and room and known.announced < known.number and now >= known.announced_until_s:
            self.out.append((slot.peer, Announce(slot.topic, slot.key, known.number, known.parcel.payload.nbytes)))
            known.announced, known.announced_until_s = known.number, now + self.limits.confirm_timeout_s
            known.retry_at_s = known.announced_until_s

    def _send(self, slot: Slot, known: Outgoing, now: float) -> None:
        parcel = known.parcel
        state = State(slot.topic, slot.key, known.number, parcel.step, parcel.exchange, parcel.payload)
        self.out.append((slot.peer, state))
        timeout_s = self.limits.confirm_timeout_s + parcel.payload.nbytes / self.limits.confirm_bytes_per_s
        known.sent, known.wanted, known.announced_until_s = known.number, False, -_NEVER
        known.unconfirmed[known.number] = now + timeout_s
        known.retry_at_s = min(known.unconfirmed.values())

    # --- in ------------------------------------------------------------------------------------------------------

    def arrived(self, sender: PeerName, boot: Boot, state: State, now: float) -> None:
        """A version came: confirm it, and hand it to the learner unless a newer one came before."""
        self.out.append((sender, Confirm(state.topic, state.key, state.number)))
        slot, version = Slot(sender, state.topic, state.key), Version(boot, state.number)
        known = self._incoming(slot)
        if known is None:
            return
        if version <= known.version:
            self._count(sender).overtaken += 1
            return
        known.version, known.asked_until_s, known.learner_has_it = version, -_NEVER, False
        arrival = Arrival(sender, slot.topic, version, state.step, state.exchange, state.payload, now, slot.key)
        self.arrivals.append(arrival)

    def announced(self, sender: PeerName, boot: Boot, announce: Announce, now: float) -> None:
        """A neighbour has a large state ready. Ask for it now, or as soon as the learner has taken the last one."""
        slot = Slot(sender, announce.topic, announce.key)
        known = self._incoming(slot)
        if known is None:
            return
        if known.version.boot < boot:
            known.version, known.announced = Version(boot, 0), 0
        known.announced = max(known.announced, announce.number)
        self._ask(slot, known, announce.payload_bytes, now)

    def taken(self, slot: Slot, now: float) -> None:
        """The learner has emptied this slot of its inbox."""
        known = self.incoming.get(slot)
        if known is not None:
            known.learner_has_it = True
            self._ask(slot, known, 0, now)

    def _ask(self, slot: Slot, known: Incoming, payload_bytes: int, now: float) -> None:
        behind = known.announced > known.version.number
        if behind and known.learner_has_it and now >= known.asked_until_s and self.is_alive(slot.peer):
            if payload_bytes > self.limits.payload_bytes_max:
                return
            known.asked_until_s = now + self.limits.confirm_timeout_s + payload_bytes / self.limits.confirm_bytes_per_s
            self.out.append((slot.peer, Want(slot.topic, slot.key)))

    def _incoming(self, slot: Slot) -> Incoming | None:
        """The row of a slot; None when this sender has used up its share of rows."""
        known = self.incoming.get(slot)
        if known is None:
            if sum(other.peer == slot.peer for other in self.incoming) >= self.limits.slots_per_peer_max:
                return None
            known = self.incoming[slot] = Incoming(Version(0, 0))
        return known

    # --- time ----------------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """When the first version is overdue or may be tried again."""
        return min((known.retry_at_s for known in self.outgoing.values()), default=_NEVER)

    def handle_timeout(self, now: float) -> None:
        """Give up on confirmations that are overdue, and send the newest version instead."""
        for slot, known in self.outgoing.items():
            if now < known.retry_at_s:
                continue
            known.retry_at_s = _NEVER
            overdue = [number for number, due_s in known.unconfirmed.items() if now >= due_s]
            for number in overdue:
                del known.unconfirmed[number]
            if overdue:
                self._count(slot.peer).resent += 1
                known.sent = min(known.sent, min(overdue) - 1)
            if known.announced >= known.number and now >= known.announced_until_s:
                known.announced = known.number - 1
            if self.is_alive(slot.peer):
                self._advance(slot, known, now)

    def _count(self, peer: PeerName) -> LinkCounts:
        return self.counts.setdefault(peer, LinkCounts())

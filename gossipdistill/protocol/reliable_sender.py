"""The sender's half of reliable messages: what is in flight, when it is sent again, and what is returned.

The rules are at the head of protocol/reliable_messages.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    DeliveryClass,
    Message,
    Parcel,
    Receipt,
    ReliableMessage,
    Returned,
    Slot,
    StatusQuery,
    Verdict,
)
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.members import Member
from gossipdistill.protocol.parcels import Line, Outbox, Outstanding, oversize
from gossipdistill.protocol.resending import Resending

_DOUBLINGS_MAX = 16
"""An interval is doubled at most this many times: its bound is reached by then. A stream may be refused for ever."""


@dataclass(slots=True)
class ReliableSender:
    """`partners` are the peers that may be sent to now."""

    limits: Limits
    boot: Boot
    partners: Mapping[PeerName, Member]
    box: Outbox
    lines: dict[Slot, Line] = field(default_factory=dict)
    freed: list[Slot] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    written_off: float = 0.0
    """The push-sum weight that was lost with processes that ended, since the start."""
    _deadlines: Deadlines[Slot] = field(default_factory=Deadlines)
    _said: set[tuple[str, str]] = field(default_factory=set)
    resending: Resending = field(init=False)

    def __post_init__(self) -> None:
        self.resending = Resending(self.limits)

    @property
    def lossy(self) -> frozenset[PeerName]:
        """Mass to these peers had to be sent again lately; the same object until that changes."""
        return self.resending.lossy

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """Send a parcel of the learner; the mailbox has checked that there is room."""
        line = self.lines.setdefault(slot, Line())
        one = Outstanding(parcel)
        line.in_flight.append(one)
        problem = oversize(parcel, self.limits)
        if problem:
            self._end(slot, line, one, now, returned=f"not sent: {parcel.topic} has {problem}")
        else:
            self._send(slot, line, one, now)

    def receipt(self, sender: PeerName, receipt: Receipt, now: float) -> None:
        """Handle a receipt. A second verdict on a settled parcel is an echo."""
        self.resending.heard(sender, now)
        slot = Slot(sender, receipt.topic, "")
        line = self.lines.get(slot)
        one = next((o for o in line.in_flight if o.number == receipt.number), None) if line is not None else None
        if line is None or one is None or not one.sendings:
            if line is not None and line.resent == receipt.number:
                self.resending.in_vain(sender, line.resent_bytes)
                line.resent = 0
            return
        if one.sendings == 1 and not one.enquired:  # else it is unknown which attempt it answers
            self.resending.answered(sender, one, now - one.sent_s, receipt.verdict is not Verdict.HELD)
        if receipt.verdict is Verdict.HELD:
            if one.held and one.sendings > 1 and not one.enquired:
                self.resending.in_vain(sender, one.parcel.payload.nbytes)
            if not one.held:
                one.held = True
                one.tries = 0
                wait_s = self.resending.hold_s(sender, one)
                self._due(slot, line, one, max(one.sent_s, now - wait_s / 2) + wait_s)
            elif one.enquired:
                self._due(slot, line, one, now + self.resending.hold_s(sender, one))
        else:
            self.resending.settled(sender, one)
            refused = receipt.verdict is Verdict.REFUSED
            self._end(slot, line, one, now, returned=f"refused by {sender}: {receipt.reason}" if refused else None)

    def not_sent(self, recipient: PeerName, message: Message, now: float) -> None:
        """Note that the socket had no room or no connection. A lost receipt or query is repeated after the next
        timeout."""
        if not isinstance(message, ReliableMessage):
            return
        slot = Slot(recipient, message.topic, "")
        line = self.lines.get(slot, Line())
        for one in line.in_flight:
            if one.number == message.number and not one.held:
                one.sendings -= 1
                one.refusals += 1
                # Waiting mass is half of a learner's weight that nobody can use, until a death is known.
                tried = one.refusals >= self.limits.unsent_tries_max
                if tried and not one.sendings and one.parcel.delivery is DeliveryClass.MASS:
                    self._end(slot, line, one, now, returned=f"no socket takes what is for {recipient}")
                    return
                gap_s = self.limits.retry_interval_s * 2 ** min(one.refusals - 1, _DOUBLINGS_MAX)
                one.tries = 0
                self._due(slot, line, one, now + min(gap_s, self.limits.retry_interval_max_s))

    def lost(self, peer: PeerName, now: float, for_good: bool, why: str) -> None:
        """Note that a peer is dead, or (`for_good`) has left the run or turned us away."""
        self.resending.gone(peer)
        for slot, line in self._lines_to(peer):
            for one in list(line.in_flight):
                if not one.sendings:
                    self._end(slot, line, one, now, returned=f"{peer} {why}")
                elif for_good or one.parcel.delivery is DeliveryClass.STREAM:
                    self._write_off(slot, line, one, now, f"{peer} {why}")
                elif not one.parked:
                    one.parked = True
                    self._due(slot, line, one, NEVER)
                    reason = f"{one.parcel.topic} {one.number} of weight {one.parcel.weight:.4g} waits for it: {why}"
                    self.events.append(Event(EventKind.PARKED, now, peer, reason, one.detail(slot)))

    def parted(self, peer: PeerName, boot: Boot, absorbed: tuple[tuple[str, int], ...] | None, now: float) -> None:
        """Handle the last message of a process: it names what of my mass was absorbed there, and nothing else ever will
        be."""
        for slot, line in self._lines_to(peer) if absorbed is not None else ():
            for one in [one for one in line.in_flight if one.sendings and one.to_boot == boot]:
                if one.parcel.delivery is DeliveryClass.MASS:
                    used = absorbed is not None and (slot.topic, one.number) in absorbed
                    self._end(slot, line, one, now, returned=None if used else f"{peer} has left without it")

    def returned(self, peer: PeerName, now: float) -> None:
        """Handle a peer that is new, restarted or heard again: continue with the same process, write off what went to
        another."""
        living = self.partners.get(peer)
        for slot, line in self._lines_to(peer):
            for one in list(line.in_flight):
                if one.sendings and living is not None and one.to_boot != living.boot:
                    self._write_off(slot, line, one, now, f"{peer} has restarted")
            for one in list(line.in_flight):
                one.parked, one.tries = False, 0
                self._send(slot, line, one, now)

    def _send(self, slot: Slot, line: Line, one: Outstanding, now: float) -> None:
        living = self.partners.get(slot.peer)
        if living is None:
            self._due(slot, line, one, NEVER)  # `returned` or `lost` will be called
            return
        boot = living.boot
        if line.to_boot != boot:
            line.to_boot, line.numbered = boot, 0
        if one.to_boot != boot:
            line.numbered += 1
            one.number, one.to_boot = line.numbered, boot
        if one.held:
            self.box.out.append((slot.peer, boot, StatusQuery(slot.topic, one.number)))
            one.enquired = True
        else:
            self.box.out.append((slot.peer, boot, ReliableMessage(one.number, one.parcel.content)))
            one.sendings, one.sent_s = one.sendings + 1, now
        one.tries += 1
        self._due(slot, line, one, now + self.resending.wait_s(slot.peer, one))

    def _due(self, slot: Slot, line: Line, one: Outstanding, due_s: float) -> None:
        one.due_s = due_s
        self._deadlines.set(slot, min((other.due_s for other in line.in_flight), default=NEVER))

    def _write_off(self, slot: Slot, line: Line, one: Outstanding, now: float, why: str) -> None:
        weight = one.parcel.weight
        self.written_off += weight
        if one.parcel.delivery is DeliveryClass.MASS:
            reason = f"{slot.topic} {one.number} of weight {weight:.4g} ended with the process it was sent to: {why}"
            self.events.append(Event(EventKind.WRITTEN_OFF, now, slot.peer, reason, one.detail(slot)))
        else:
            line.numbered += self.limits.in_flight_stream_max  # so that the recipient sees a gap, and does not wait
        self._end(slot, line, one, now, returned=None)

    def _end(self, slot: Slot, line: Line, one: Outstanding, now: float, returned: str | None) -> None:
        """End a parcel. With `returned`, the reason, its mass is my learner's again."""
        line.in_flight.remove(one)
        line.resent = one.number if one.sendings > 1 and not one.enquired else 0
        line.resent_bytes = one.parcel.payload.nbytes
        self._due(slot, line, one, NEVER)
        self.freed.append(slot)
        if returned is None or one.parcel.delivery is DeliveryClass.STREAM:
            return
        version = Version(self.boot, one.number)
        self.box.received.append(Returned(slot.peer, version, one.parcel.content, returned))
        if (slot.peer, returned) not in self._said and len(self._said) < self.limits.strangers_max:
            self._said.add((slot.peer, returned))
            self.events.append(Event(EventKind.CAME_HOME, now, slot.peer, returned, one.detail(slot)))

    def _lines_to(self, peer: PeerName) -> list[tuple[Slot, Line]]:
        return [(slot, line) for slot, line in self.lines.items() if slot.peer == peer]

    def next_timeout(self) -> float:
        """The time at which the first parcel is to be sent again or queried."""
        return self._deadlines.next_s()

    def handle_timeout(self, now: float) -> None:
        """Send again, or query, what is overdue."""
        for slot in self._deadlines.pop_due(now):
            line = self.lines[slot]
            for one in line.in_flight:
                if now >= one.due_s:
                    if one.sendings and not one.held:
                        self.resending.sent_again(slot.peer, one, now)
                    self._send(slot, line, one, now)

    def has_something_for(self, peer: PeerName) -> bool:
        """Whether something in flight to this peer is not settled."""
        return any(line.in_flight for _, line in self._lines_to(peer))

    def in_flight(self) -> list[tuple[Slot, Outstanding]]:
        """Every parcel that is in flight, held or parked."""
        return [(slot, one) for slot, line in self.lines.items() for one in line.in_flight]

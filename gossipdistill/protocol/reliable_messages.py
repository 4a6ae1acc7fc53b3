"""Delivery of *mass* and *streams*: exactly once, settled by the learner, with a bound on what is unsettled.

The life of a consignment, as its sender sees it

    queued --taken by the socket--> sent --receipt "held"--> held       (from then on enquired after, never sent again)
    sent or held --"absorbed"--> gone        sent or held --"refused"--> home: its mass is the sender's again
    queued --recipient dead or gone, or no socket takes it--> home (a stream waits for a socket that does)
    sent or held --recipient dead--> parked --the same process is back--> sent
                                     parked --a new process, or the name leaves--> written off
    unsettled --recipient says with its last word what it has absorbed--> gone or home

Rules of this file
1. At most `in_flight_mass_max` (`in_flight_stream_max`) of one link and topic are unsettled; the mailbox says busy. To
   a peer that loses much the mailbox uses more topics.
2. Numbers count from 1 per link, topic, process of the sender and process of the recipient. A number that was settled
   is answered with the same verdict again, and never delivered again.
3. What was on the wire to a process that died is never reclaimed: the dead may have absorbed it. It is written off,
   with its weight, when that process is certain not to return. So every estimate stays a weighted mean of true values.
4. Streams carry no weight: what would be parked or go home is dropped instead. What was dropped may still wait for the
   learner over there, in whose place nothing else is taken.
5. What has no receipt is sent again when the patience with this peer is over, and what is held is enquired after when
   the patience with its learner is over: see protocol/resending.py.
6. A learner that does not settle within `held_after_s` is spoken for: "held". So a parcel that was lost is sent again
   after a round trip, not after a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Arrival,
    Consignment,
    DeliveryClass,
    Enquiry,
    Intake,
    Message,
    Parcel,
    Receipt,
    Settlement,
    Slot,
    Verdict,
)
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.parcels import Line, Outstanding, ReceiveWindow
from gossipdistill.protocol.resending import Resending

_DOUBLINGS_MAX = 16
"""Of an interval whose bound is reached by then; a stream may be refused for ever."""


@dataclass(slots=True)
class ReliableMessages:
    """Both directions of mass and streams. `boot_of` names the living process of a peer to send to; None: nobody."""

    limits: Limits
    boot: Boot
    boot_of: Callable[[PeerName], int | None]
    lines: dict[Slot, Line] = field(default_factory=dict)
    windows: dict[Slot, ReceiveWindow] = field(default_factory=dict)
    out: list[tuple[PeerName, int, Message]] = field(default_factory=list)
    """To whom, and to which process of it: numbers begin anew with each."""
    arrivals: list[Arrival] = field(default_factory=list)
    freed: list[Slot] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    written_off: float = 0.0
    """Weight that is lost with processes which ended, since the start."""
    _deadlines: Deadlines[Slot] = field(default_factory=Deadlines)
    _unsaid: Deadlines[tuple[Slot, int]] = field(default_factory=Deadlines)
    """What has come here and of which nothing was said yet."""
    _said: set[tuple[str, str]] = field(default_factory=set)
    intake: Intake = field(default_factory=Intake)
    """What my learner has a use for."""
    _waiting: dict[tuple[Slot, Version], int] = field(default_factory=dict)
    """Memory of what my learner has not settled, of former processes too."""
    resending: Resending = field(init=False)

    def __post_init__(self) -> None:
        self.resending = Resending(self.limits)

    @property
    def lossy(self) -> frozenset[PeerName]:
        """To whom mass has had to be sent again lately; the same object until that changes."""
        return self.resending.lossy

    # --- out -----------------------------------------------------------------------------------------------------

    def publish(self, slot: Slot, parcel: Parcel, now: float) -> None:
        """The learner has posted; the mailbox has seen to it that there was room."""
        line = self.lines.setdefault(slot, Line())
        one = Outstanding(parcel)
        line.in_flight.append(one)
        problem = self._problem(parcel)
        if problem:
            self._end(slot, line, one, now, home=problem)
        else:
            self._send(slot, line, one, now)

    def receipt(self, sender: PeerName, receipt: Receipt, now: float) -> None:
        """The recipient says what became of one. A verdict on what is settled already is an echo."""
        self.resending.heard(sender, now)
        slot = Slot(sender, receipt.topic, "")
        line = self.lines.get(slot)
        one = next((o for o in line.in_flight if o.number == receipt.number), None) if line is not None else None
        if line is None or one is None or not one.sendings:
            if line is not None and line.resent == receipt.number:
                self.resending.in_vain(sender, line.resent_bytes)
                line.resent = 0
            return
        if one.sendings == 1 and not one.enquired:  # else one cannot tell what it answers
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
            self._end(slot, line, one, now, home=f"refused by {sender}: {receipt.reason}" if refused else None)

    def not_sent(self, recipient: PeerName, message: Message, now: float) -> None:
        """The socket had no room or no connection. A lost receipt or enquiry is made good by the next time-out."""
        if not isinstance(message, Consignment):
            return
        slot = Slot(recipient, message.topic, "")
        line = self.lines.get(slot, Line())
        for one in line.in_flight:
            if one.number == message.number and not one.held:
                one.sendings -= 1
                one.refusals += 1
                # Mass that waits is half of a learner's weight kept from everybody, until a death is known.
                tried = one.refusals >= self.limits.unsent_tries_max
                if tried and not one.sendings and one.parcel.delivery is DeliveryClass.MASS:
                    self._end(slot, line, one, now, home=f"no socket takes what is for {recipient}")
                    return
                gap_s = self.limits.retry_interval_s * 2 ** min(one.refusals - 1, _DOUBLINGS_MAX)
                one.tries = 0
                self._due(slot, line, one, now + min(gap_s, self.limits.retry_interval_max_s))

    def lost(self, peer: PeerName, now: float, for_good: bool, why: str) -> None:
        """A peer is dead, or (`for_good`) has left the run or turned us away."""
        self.resending.gone(peer)
        for slot, line in self._lines_to(peer):
            for one in list(line.in_flight):
                if not one.sendings:
                    self._end(slot, line, one, now, home=f"{peer} {why}")
                elif for_good or one.parcel.delivery is DeliveryClass.STREAM:
                    self._write_off(slot, line, one, now, f"{peer} {why}")
                elif not one.parked:
                    one.parked = True
                    self._due(slot, line, one, NEVER)
                    reason = f"{one.parcel.topic} {one.number} of weight {one.parcel.weight:.4g} waits for it: {why}"
                    self.events.append(Event(EventKind.PARKED, now, peer, reason, one.detail(slot)))

    def parted(self, peer: PeerName, boot: Boot, absorbed: tuple[tuple[str, int], ...] | None, now: float) -> None:
        """The last word of a process: what of my mass was absorbed over there, and that nothing else ever will be."""
        for slot, line in self._lines_to(peer) if absorbed is not None else ():
            for one in [one for one in line.in_flight if one.sendings and one.to_boot == boot]:
                if one.parcel.delivery is DeliveryClass.MASS:
                    used = absorbed is not None and (slot.topic, one.number) in absorbed
                    self._end(slot, line, one, now, home=None if used else f"{peer} has left without it")

    def returned(self, peer: PeerName, now: float) -> None:
        """A peer is new, restarted or heard again: send on to the same process, write off what went to another."""
        boot = self.boot_of(peer)
        for slot, line in self._lines_to(peer):
            for one in list(line.in_flight):
                if one.sendings and boot is not None and one.to_boot != boot:
                    self._write_off(slot, line, one, now, f"{peer} has restarted")
            for one in list(line.in_flight):
                one.parked, one.tries = False, 0
                self._send(slot, line, one, now)

    def _send(self, slot: Slot, line: Line, one: Outstanding, now: float) -> None:
        boot = self.boot_of(slot.peer)
        if boot is None:
            self._due(slot, line, one, NEVER)  # `returned` or `lost` will come
            return
        if line.to_boot != boot:
            line.to_boot, line.numbered = boot, 0
        if one.to_boot != boot:
            line.numbered += 1
            one.number, one.to_boot = line.numbered, boot
        if one.held:
            self.out.append((slot.peer, boot, Enquiry(slot.topic, one.number)))
            one.enquired = True
        else:
            parcel = one.parcel
            what = (parcel.step, parcel.exchange, parcel.delivery, parcel.weight, parcel.degree, parcel.payload)
            self.out.append((slot.peer, boot, Consignment(slot.topic, one.number, *what)))
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
            line.numbered += self.limits.in_flight_stream_max  # so that the reader sees a gap, and does not wait
        self._end(slot, line, one, now, home=None)

    def _end(self, slot: Slot, line: Line, one: Outstanding, now: float, home: str | None) -> None:
        """Forget it. With `home`, the reason, its mass is my learner's again."""
        line.in_flight.remove(one)
        line.resent = one.number if one.sendings > 1 and not one.enquired else 0
        line.resent_bytes = one.parcel.payload.nbytes
        self._due(slot, line, one, NEVER)
        self.freed.append(slot)
        if home is None or one.parcel.delivery is DeliveryClass.STREAM:
            return
        parcel, version = one.parcel, Version(self.boot, one.number)
        what = (parcel.topic, version, parcel.step, parcel.exchange, parcel.payload, now, parcel.key)
        mass = (parcel.delivery, parcel.weight, parcel.degree)
        self.arrivals.append(Arrival(slot.peer, *what, *mass, home=True, reason=home))
        if (slot.peer, home) not in self._said and len(self._said) < self.limits.strangers_max:
            self._said.add((slot.peer, home))
            self.events.append(Event(EventKind.CAME_HOME, now, slot.peer, home, one.detail(slot)))

    def _problem(self, parcel: Parcel) -> str:
        """Why no reader would accept this parcel; empty if one would."""
        size, arrays = parcel.payload.nbytes, len(parcel.payload.layout)
        if size <= self.limits.payload_bytes_max and arrays <= self.limits.arrays_max:
            return ""
        bound = f"{self.limits.payload_bytes_max / 1e6:.1f} MB in {self.limits.arrays_max}"
        return f"not sent: {parcel.topic} has {size / 1e6:.1f} MB in {arrays} arrays, and a payload at most {bound}"

    def _lines_to(self, peer: PeerName) -> list[tuple[Slot, Line]]:
        return [(slot, line) for slot, line in self.lines.items() if slot.peer == peer]

    # --- in ------------------------------------------------------------------------------------------------------

    def arrived(self, sender: PeerName, boot: Boot, reliable: Consignment, now: float, unwanted: str = "") -> str:
        """One came, perhaps not for the first time: hand it to the learner once, or refuse it unread because of what is
        `unwanted`, and say what became of it. Why it was not handed over, in one word; empty if it was."""
        window = self._window(sender, boot, reliable.topic)
        if window is None:
            refusal = Receipt(reliable.topic, reliable.number, Verdict.REFUSED, "too many topics")
            self.out.append((sender, boot, refusal))
            return "slots"
        window.stream = reliable.delivery is DeliveryClass.STREAM
        ahead = reliable.number - window.delivered
        if ahead <= 0:
            self._repeat(sender, window, reliable.topic, reliable.number)
            return "repeated"
        if unwanted:
            window.delivered = reliable.number
            window.held.add(reliable.number)
            version = Version(window.boot, reliable.number)
            self.settle(Settlement(sender, reliable.topic, version, absorbed=False, reason=unwanted))
            return "unwanted"
        if self._is_full(window) or self._is_too_much(sender, reliable.payload.memory_bytes):
            if window.stream and ahead > self.limits.in_flight_stream_max:
                window.delivered = reliable.number - 1  # the one after it is not to overtake it
            return "full"
        if window.stream and 1 < ahead <= self.limits.in_flight_stream_max:
            window.early[reliable.number] = reliable  # the one before it is still on its way
        else:
            self._deliver(sender, window, reliable, now)
            while not self._is_full(window) and (following := window.early.pop(window.delivered + 1, None)) is not None:
                self._deliver(sender, window, following, now)
        return ""

    def _is_full(self, window: ReceiveWindow) -> bool:
        """A sender that wrongly took me for dead has given up on frames that still wait for my learner, and goes on. It
        sends again what has no receipt. Of mass no honest sender has more than one on its way."""
        limits = self.limits
        return len(window.held) >= (limits.in_flight_stream_max if window.stream else limits.in_flight_mass_max)

    def _is_too_much(self, sender: PeerName, size: int) -> bool:
        """Whether this would make more bytes of one sender wait for my learner than may. It is sent again later."""
        waits = sum(waiting for (slot, _), waiting in self._waiting.items() if slot.peer == sender)
        for slot, window in self.windows.items():
            if slot.peer == sender:
                waits += sum(one.payload.memory_bytes for one in window.early.values())
        return waits > 0 and waits + size > self.limits.waiting_bytes_max(self.intake.largest)

    def enquired(self, sender: PeerName, boot: Boot, status_query: Enquiry) -> None:
        """The sender of a consignment asks what became of it."""
        window = self._window(sender, boot, status_query.topic)
        if window is not None and status_query.number <= window.delivered:
            self._repeat(sender, window, status_query.topic, status_query.number)

    def settle(self, settlement: Settlement) -> None:
        """The learner's verdict on one arrival."""
        window = self.windows.get(Slot(settlement.sender, settlement.topic, ""))
        boot, number = settlement.version
        self._waiting.pop((Slot(settlement.sender, settlement.topic, ""), settlement.version), None)
        if window is None or window.boot != boot or number not in window.held:
            return
        window.held.remove(number)
        self._unsaid.set((Slot(settlement.sender, settlement.topic, ""), number), NEVER)
        verdict = Verdict.ABSORBED if settlement.absorbed else Verdict.REFUSED
        receipt = window.verdicts[number] = Receipt(settlement.topic, number, verdict, settlement.reason)
        for old in [n for n in window.verdicts if n <= number - self.limits.in_flight_stream_max]:
            del window.verdicts[old]
        self.out.append((settlement.sender, boot, receipt))

    def absorbed_of(self, peer: PeerName, boot: int) -> tuple[tuple[str, int], ...]:
        """What my learner has absorbed of the last parcels of this process, to be said before I end."""
        windows = [
            (slot.topic, window) for slot, window in self.windows.items() if (slot.peer, window.boot) == (peer, boot)
        ]
        kept = [(topic, receipt) for topic, one in windows if not one.stream for receipt in one.verdicts.values()]
        return tuple((topic, receipt.number) for topic, receipt in kept if receipt.verdict is Verdict.ABSORBED)

    def _deliver(self, sender: PeerName, window: ReceiveWindow, reliable: Consignment, now: float) -> None:
        window.delivered = reliable.number
        window.held.add(reliable.number)
        self._unsaid.set((Slot(sender, reliable.topic, ""), reliable.number), now + self.limits.held_after_s)
        window.early = {number: one for number, one in window.early.items() if number > window.delivered}
        c, version = reliable, Version(window.boot, reliable.number)
        what = (c.topic, version, c.step, c.exchange, c.payload, now, "", c.delivery, c.weight, c.degree)
        self.arrivals.append(Arrival(sender, *what))
        self._waiting[Slot(sender, c.topic, ""), version] = c.payload.memory_bytes

    def _repeat(self, sender: PeerName, window: ReceiveWindow, topic: str, number: int) -> None:
        """The verdict again; "held" before there is one. On what was settled long ago nothing: of mass nobody asks.

        Of a stream the sender may, when a receipt was lost and later frames have gone on: that it is done with is all
        that there is to know.
        """
        if number in window.verdicts:
            self.out.append((sender, window.boot, window.verdicts[number]))
        elif number in window.held:
            self.out.append((sender, window.boot, Receipt(topic, number, Verdict.HELD)))
        elif window.stream:
            self.out.append((sender, window.boot, Receipt(topic, number, Verdict.ABSORBED)))

    def forget_processes(self, peer: PeerName) -> None:
        """Its next process may have a lower boot than those before."""
        for slot in [slot for slot in self.windows if slot.peer == peer]:
            self.windows[slot] = ReceiveWindow(Boot(0))

    def _window(self, sender: PeerName, boot: Boot, topic: str) -> ReceiveWindow | None:
        """The shelf of this process of the sender; None when it has used up its share of them."""
        slot = Slot(sender, topic, "")
        window = self.windows.get(slot)
        if window is None:
            if sum(other.peer == sender for other in self.windows) >= self.limits.slots_per_peer_max:
                return None
            window = self.windows[slot] = ReceiveWindow(boot)
        if window.boot < boot:
            window = self.windows[slot] = ReceiveWindow(boot)
        return window

    # --- time and sums -------------------------------------------------------------------------------------------

    def next_timeout(self) -> float:
        """When the first one is to be sent again or enquired after."""
        return min(self._deadlines.next_s(), self._unsaid.next_s())

    def handle_timeout(self, now: float) -> None:
        """Say again, or ask, whatever is overdue; speak for a learner that has not settled yet."""
        for slot, number in self._unsaid.pop_due(now):
            window = self.windows[slot]
            if number in window.held:
                self.out.append((slot.peer, window.boot, Receipt(slot.topic, number, Verdict.HELD)))
        for slot in self._deadlines.pop_due(now):
            line = self.lines[slot]
            for one in line.in_flight:
                if now >= one.due_s:
                    if one.sendings and not one.held:
                        self.resending.sent_again(slot.peer, one, now)
                    self._send(slot, line, one, now)

    def has_something_for(self, peer: PeerName) -> bool:
        """Whether something on the way to this peer is not settled."""
        return any(line.in_flight for _, line in self._lines_to(peer))

    def in_flight(self) -> Iterator[tuple[Slot, Outstanding]]:
        """Everything that is on its way, held or parked."""
        for slot, line in self.lines.items():
            for one in line.in_flight:
                yield slot, one

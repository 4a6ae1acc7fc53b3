"""The recipient's half of reliable messages: delivered once, and answered with what became of it.

The rules are at the head of protocol/reliable_messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Arrival,
    Consignment,
    DeliveryClass,
    Enquiry,
    Intake,
    Receipt,
    Settlement,
    Slot,
    Verdict,
)
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.parcels import Outbox, ReceiveWindow


@dataclass(slots=True)
class ReliableReceiver:
    """What has come of each sender, and what my learner has not settled."""

    limits: Limits
    box: Outbox
    windows: dict[Slot, ReceiveWindow] = field(default_factory=dict)
    intake: Intake = field(default_factory=Intake)
    """It says what my learner has a use for."""
    _unsaid: Deadlines[tuple[Slot, int]] = field(default_factory=Deadlines)
    """What has come here and of which nothing was said yet."""
    _waiting: dict[tuple[Slot, Version], int] = field(default_factory=dict)
    """Memory of what my learner has not settled, of former processes too."""

    def arrived(self, sender: PeerName, boot: Boot, reliable: Consignment, now: float, unwanted: str = "") -> str:
        """One came, perhaps not for the first time: hand it to the learner once, or refuse it unread because of what is
        `unwanted`, and say what became of it. Why it was not handed over, in one word; empty if it was."""
        window = self._window(sender, boot, reliable.topic)
        if window is None:
            refusal = Receipt(reliable.topic, reliable.number, Verdict.REFUSED, "too many topics")
            self.box.out.append((sender, boot, refusal))
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
        """The sender asks what became of a message."""
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
        self.box.out.append((settlement.sender, boot, receipt))

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
        version = Version(window.boot, reliable.number)
        self.box.received.append(Arrival(sender, version, reliable.content, now))
        self._waiting[Slot(sender, reliable.topic, ""), version] = reliable.payload.memory_bytes

    def _repeat(self, sender: PeerName, window: ReceiveWindow, topic: str, number: int) -> None:
        """The verdict again; "held" before there is one. On what was settled long ago nothing: of mass nobody asks.

        Of a stream the sender may, when a receipt was lost and later frames have gone on: that it is done with is all
        that there is to know.
        """
        if number in window.verdicts:
            self.box.out.append((sender, window.boot, window.verdicts[number]))
        elif number in window.held:
            self.box.out.append((sender, window.boot, Receipt(topic, number, Verdict.HELD)))
        elif window.stream:
            self.box.out.append((sender, window.boot, Receipt(topic, number, Verdict.ABSORBED)))

    def forget_processes(self, peer: PeerName) -> None:
        """Its next process may have a lower boot than those before."""
        for slot in [slot for slot in self.windows if slot.peer == peer]:
            self.windows[slot] = ReceiveWindow(Boot(0))

    def _window(self, sender: PeerName, boot: Boot, topic: str) -> ReceiveWindow | None:
        """The receive window for this process of the sender; None when it has used up its share of them."""
        slot = Slot(sender, topic, "")
        window = self.windows.get(slot)
        if window is None:
            if sum(other.peer == sender for other in self.windows) >= self.limits.slots_per_peer_max:
                return None
            window = self.windows[slot] = ReceiveWindow(boot)
        if window.boot < boot:
            window = self.windows[slot] = ReceiveWindow(boot)
        return window

    def next_timeout(self) -> float:
        """When my learner is to be spoken for next."""
        return self._unsaid.next_s()

    def handle_timeout(self, now: float) -> None:
        """Speak for a learner that has not settled yet (rule 6)."""
        for slot, number in self._unsaid.pop_due(now):
            window = self.windows[slot]
            if number in window.held:
                self.box.out.append((slot.peer, window.boot, Receipt(slot.topic, number, Verdict.HELD)))

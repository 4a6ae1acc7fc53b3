"""The recipient's half of reliable messages: each is delivered once, and answered with its verdict.

The rules are at the head of protocol/reliable_messages.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Arrival,
    DeliveryClass,
    Intake,
    Receipt,
    ReliableMessage,
    Settlement,
    Slot,
    StatusQuery,
    Verdict,
)
from gossipdistill.protocol.deadlines import NEVER, Deadlines
from gossipdistill.protocol.parcels import Outbox, ReceiveWindow


@dataclass(slots=True)
class ReliableReceiver:
    """The arrivals of each sender, and those that my learner has not settled."""

    limits: Limits
    box: Outbox
    windows: dict[Slot, ReceiveWindow] = field(default_factory=dict)
    intake: Intake = field(default_factory=Intake)
    """The topics and sizes that my learner can use."""
    _unsaid: Deadlines[tuple[Slot, int]] = field(default_factory=Deadlines)
    """The arrivals of which no receipt was sent yet, with the time at which "held" is due."""
    _waiting: dict[tuple[Slot, Version], int] = field(default_factory=dict)
    """The memory in bytes of what my learner has not settled, of former processes too."""

    def arrived(self, sender: PeerName, boot: Boot, reliable: ReliableMessage, now: float, unwanted: str = "") -> str:
        """Handle a message, perhaps not for the first time: hand it to the learner once, or refuse it unread for the
        reason `unwanted`, and send the verdict. Returns why it was not handed over, in one word; empty if it was."""
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
                window.delivered = reliable.number - 1  # the next one must not overtake it
            return "full"
        if window.stream and 1 < ahead <= self.limits.in_flight_stream_max:
            window.early[reliable.number] = reliable  # the one before it is still in flight
        else:
            self._deliver(sender, window, reliable, now)
            while not self._is_full(window) and (following := window.early.pop(window.delivered + 1, None)) is not None:
                self._deliver(sender, window, following, now)
        return ""

    def _is_full(self, window: ReceiveWindow) -> bool:
        """Whether the window is full. A sender that wrongly took me for dead has given up on frames that still wait for
        my learner, and goes on; it sends again what has no receipt. Of mass no honest sender has more than one in
        flight."""
        limits = self.limits
        return len(window.held) >= (limits.in_flight_stream_max if window.stream else limits.in_flight_mass_max)

    def _is_too_much(self, sender: PeerName, size: int) -> bool:
        """Whether with this message more bytes of one sender would wait for my learner than allowed. It is sent again
        later."""
        waits = sum(waiting for (slot, _), waiting in self._waiting.items() if slot.peer == sender)
        for slot, window in self.windows.items():
            if slot.peer == sender:
                waits += sum(one.payload.memory_bytes for one in window.early.values())
        return waits > 0 and waits + size > self.limits.waiting_bytes_max(self.intake.largest)

    def enquired(self, sender: PeerName, boot: Boot, status_query: StatusQuery) -> None:
        """Answer a query about a message."""
        window = self._window(sender, boot, status_query.topic)
        if window is not None and status_query.number <= window.delivered:
            self._repeat(sender, window, status_query.topic, status_query.number)

    def settle(self, settlement: Settlement) -> None:
        """Handle the learner's verdict on one arrival."""
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
        """The last parcels of this process that my learner has absorbed, to be sent before I end."""
        windows = [
            (slot.topic, window) for slot, window in self.windows.items() if (slot.peer, window.boot) == (peer, boot)
        ]
        kept = [(topic, receipt) for topic, one in windows if not one.stream for receipt in one.verdicts.values()]
        return tuple((topic, receipt.number) for topic, receipt in kept if receipt.verdict is Verdict.ABSORBED)

    def _deliver(self, sender: PeerName, window: ReceiveWindow, reliable: ReliableMessage, now: float) -> None:
        window.delivered = reliable.number
        window.held.add(reliable.number)
        self._unsaid.set((Slot(sender, reliable.topic, ""), reliable.number), now + self.limits.held_after_s)
        window.early = {number: one for number, one in window.early.items() if number > window.delivered}
        version = Version(window.boot, reliable.number)
        self.box.received.append(Arrival(sender, version, reliable.content, now))
        self._waiting[Slot(sender, reliable.topic, ""), version] = reliable.payload.memory_bytes

    def _repeat(self, sender: PeerName, window: ReceiveWindow, topic: str, number: int) -> None:
        """Send the verdict again, "held" before there is one. Nothing is sent for mass that was settled long ago: no
        sender queries it.

        For a stream the sender may query it, when a receipt was lost and later frames were sent: all that is known is
        that it is done.
        """
        if number in window.verdicts:
            self.box.out.append((sender, window.boot, window.verdicts[number]))
        elif number in window.held:
            self.box.out.append((sender, window.boot, Receipt(topic, number, Verdict.HELD)))
        elif window.stream:
            self.box.out.append((sender, window.boot, Receipt(topic, number, Verdict.ABSORBED)))

    def forget_processes(self, peer: PeerName) -> None:
        """Forget the processes of a peer: its next one may have a lower boot than those before."""
        for slot in [slot for slot in self.windows if slot.peer == peer]:
            self.windows[slot] = ReceiveWindow(Boot(0))

    def _window(self, sender: PeerName, boot: Boot, topic: str) -> ReceiveWindow | None:
        """The receive window for this process of the sender; None when the sender has used up its number of windows."""
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
        """The time at which the next "held" is due."""
        return self._unsaid.next_s()

    def handle_timeout(self, now: float) -> None:
        """Send "held" for arrivals that the learner has not settled yet (rule 6)."""
        for slot, number in self._unsaid.pop_due(now):
            window = self.windows[slot]
            if number in window.held:
                self.box.out.append((slot.peer, window.boot, Receipt(slot.topic, number, Verdict.HELD)))

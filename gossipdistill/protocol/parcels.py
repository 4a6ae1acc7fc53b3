"""The records of parcels of mass and streams in flight, at their sender and at their recipient."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Arrival, Message, Parcel, Receipt, Received, ReliableMessage, Slot
from gossipdistill.protocol.deadlines import NEVER
from gossipdistill.protocol.owed_confirmations import OwedConfirmations


@dataclass(slots=True)
class Outbox:
    """The messages that both halves of reliable messages send, in order, and what they have for the learner."""

    out: list[tuple[PeerName, int, Message]] = field(default_factory=list)
    """Each message has its recipient and that peer's boot: numbers start anew with each process."""
    received: list[Received] = field(default_factory=list)


@dataclass(slots=True)
class Outstanding:
    """A parcel that its recipient has not settled, sent as `number` to the process `to_boot` (both 0 before it is
    sent)."""

    parcel: Parcel
    number: int = 0
    to_boot: int = 0
    sendings: int = 0
    """The number of attempts that a socket accepted; after the first, the parcel may have arrived."""
    refusals: int = 0
    """The number of attempts that no socket accepted."""
    held: bool = False
    enquired: bool = False
    tries: int = 0
    """The number of consecutive attempts to send it or, once it is held, to query it."""
    parked: bool = False
    sent_s: float = 0.0
    due_s: float = NEVER

    def detail(self, slot: Slot) -> dict[str, str | int | float]:
        """The detail of an event about it: enough to trace it through the files of both ends."""
        return {"topic": slot.topic, "number": self.number, "to_boot": self.to_boot, "weight": self.parcel.weight}


@dataclass(slots=True)
class Line:
    """One outgoing link and topic: the last number given to that process, and the unsettled parcels, oldest first."""

    to_boot: int = 0
    numbered: int = 0
    resent: int = 0
    """The last number that was settled, if it was sent more than once and never queried. A second receipt for it shows
    that nothing was lost."""
    resent_bytes: int = 0
    in_flight: list[Outstanding] = field(default_factory=list)


@dataclass(slots=True)
class ReceiveWindow:
    """One incoming link and topic, for one process of the sender. `verdicts` are kept for the last few numbers."""

    boot: int
    delivered: int = 0
    stream: bool = False
    held: set[int] = field(default_factory=set)
    """These numbers were delivered, and my learner has not settled them."""
    early: dict[int, ReliableMessage] = field(default_factory=dict)
    verdicts: dict[int, Receipt] = field(default_factory=dict)


@dataclass(slots=True)
class LinkCounts:
    """Counts of messages to or from one peer since the start."""

    published: int = 0
    superseded: int = 0
    resent: int = 0
    overtaken: int = 0


@dataclass(slots=True)
class StateOutbox:
    """The messages that both halves of states send, in order, what they have for the learner, and their counts."""

    owed: OwedConfirmations
    out: list[tuple[PeerName, Message]] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    counts: dict[PeerName, LinkCounts] = field(default_factory=dict)

    def count(self, peer: PeerName) -> LinkCounts:
        """The counts of this peer."""
        return self.counts.setdefault(peer, LinkCounts())


def oversize(parcel: Parcel, limits: Limits) -> str:
    """Why no reader would accept this payload, in words; empty if one would."""
    size, arrays = parcel.payload.nbytes, len(parcel.payload.layout)
    if size <= limits.payload_bytes_max and arrays <= limits.arrays_max:
        return ""
    bound = f"{limits.payload_bytes_max / 1e6:.1f} MB in {limits.arrays_max}"
    return f"{size / 1e6:.1f} MB in {arrays} arrays, and a payload has at most {bound}"

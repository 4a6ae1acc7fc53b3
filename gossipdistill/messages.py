"""The messages between peers, and what passes between the learner and the network of one peer.

Rules of this file
1. Every class is frozen; nothing here computes, waits or does input or output.
2. A payload is opaque to the network side: it has `nbytes` and is carried unchanged. Its array layout is for learners.

Down: a strategy makes `Parcel`s, the mailbox hands them to the protocol, which turns them into `State` messages for
each recipient. Up: a `State` message becomes an `Arrival` for the learner.

The messages by which peers meet, probe one another and leave are in `presence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Self

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.presence import Ack, Address, Enrolments, Greeting, Here, Leave, Nack, Ping, PingRequest, Refusal


class Mode(StrEnum):
    """The way in which a state is sent."""

    PUSH = "push"
    PULL = "pull"


class DeliveryClass(StrEnum):
    """What the network promises for a payload (law 4).

    *state*: newest wins; loss, duplication and reordering are harmless. *mass*: conserved, so it arrives exactly once,
    with one unsettled parcel per link and topic; on a lossy link the mailbox uses a few topics. *stream*: like mass and
    in order, but without weight; two unsettled parcels, since a neighbour in lockstep may be one round ahead.
    """

    STATE = "state"
    MASS = "mass"
    STREAM = "stream"


class ArrayLayout(NamedTuple):
    """One array inside a payload's body; arrays lie one after another in layout order."""

    name: str
    shape: tuple[int, ...]
    encoding: str
    nbytes: int
    dtype: str = "float32"
    """The type of the entries before encoding and after decoding: one of those that `wire/encodings/raw` carries, as
    numpy and torch name it."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Encoded arrays: a layout and the bytes it describes."""

    layout: tuple[ArrayLayout, ...]
    body: bytes | memoryview

    @property
    def nbytes(self) -> int:
        """Length of the body in bytes."""
        return len(self.body)

    @property
    def memory_bytes(self) -> int:
        """An upper estimate of the memory in bytes that it takes: the body, and about 1 kB for itself and for each
        array."""
        return self.nbytes + 1024 * (1 + len(self.layout))


@dataclass(frozen=True, slots=True)
class Content:
    """What a strategy sends to neighbours. It is carried unchanged to the strategies that read it.

    A *state* is a value, never an increment. Mass and streams have no key. `step` and `exchange` are the sender's own
    counts; `weight` is the push-sum weight that travels with mass (float64); `degree` is the number of the sender's
    living neighbours, from which symmetric mixing weights are made.
    """

    topic: str
    payload: Payload
    step: int
    exchange: int
    key: str = ""
    delivery: DeliveryClass = DeliveryClass.STATE
    weight: float = 0.0
    degree: int = 0


class Carrier:
    """An object with a `content`, whose fields can be read as its own."""

    __slots__ = ()
    content: Content

    def with_content(self, **changes: Any) -> Self:
        """A copy with these fields of its content changed."""
        return replace(self, content=replace(self.content, **changes))  # type: ignore[type-var]

    @property
    def topic(self) -> str:
        """The topic."""
        return self.content.topic

    @property
    def payload(self) -> Payload:
        """The arrays."""
        return self.content.payload

    @property
    def step(self) -> int:
        """The number of steps that its sender had made."""
        return self.content.step

    @property
    def exchange(self) -> int:
        """The number of the exchange, counted by its sender."""
        return self.content.exchange

    @property
    def key(self) -> str:
        """The key that tells several states of one topic apart."""
        return self.content.key

    @property
    def delivery(self) -> DeliveryClass:
        """The delivery class."""
        return self.content.delivery

    @property
    def weight(self) -> float:
        """The push-sum weight."""
        return self.content.weight

    @property
    def degree(self) -> int:
        """The number of its sender's living neighbours."""
        return self.content.degree


@dataclass(frozen=True, slots=True)
class Parcel(Carrier):
    """A content for some neighbours. A parcel of mass or of a stream has one recipient; `mode` concerns states only."""

    to: tuple[PeerName, ...]
    content: Content
    mode: Mode = Mode.PUSH


class Slot(NamedTuple):
    """Newest wins per slot: `peer` is the recipient on the way out and the sender on the way in."""

    peer: PeerName
    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Arrival(Carrier):
    """An arrival at the learner from a neighbour; `arrived_s` is a reading of *my* monotonic clock.

    Mass and streams are to be settled, each arrival once.
    """

    sender: PeerName
    version: Version
    content: Content
    arrived_s: float

    @property
    def peer(self) -> PeerName:
        """The other end of its link."""
        return self.sender


@dataclass(frozen=True, slots=True)
class Returned(Carrier):
    """My own parcel for `recipient`, which was not absorbed there for this `reason`. Its mass is mine again, and there
    is nothing to settle."""

    recipient: PeerName
    version: Version
    content: Content
    reason: str

    @property
    def peer(self) -> PeerName:
        """The other end of its link."""
        return self.recipient


Received = Arrival | Returned
"""A mailbox holds these for its learner."""


def arrivals_of(received: Iterable[Received]) -> list[Arrival]:
    """The arrivals among these, without returned parcels."""
    return [one for one in received if isinstance(one, Arrival)]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The learner's verdict on one arrival of mass or of a stream. Refused mass returns to its sender."""

    sender: PeerName
    topic: str
    version: Version
    absorbed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Complaint:
    """The learner has refused a payload of `sender`, for this reason in one word. It counts as an offence."""

    sender: PeerName
    reason: str


@dataclass(frozen=True, slots=True)
class Intake:
    """What a learner can use, as it tells its network.

    `topics` are those that its strategy reads or posts, None while they are not known yet. `largest` is the size in
    bytes of the largest payload that it has posted.
    """

    topics: frozenset[str] | None = None
    largest: int = 0

    def knows(self, topic: str) -> bool:
        """Whether the learner can use this topic. Mass has lanes: those of "a" are "a", "a.2", "a.3" and so on."""
        lane_of, _, lane = topic.rpartition(".")
        return self.topics is None or topic in self.topics or (lane_of in self.topics and lane in _LANES)


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What the network knows about the others, as one immutable snapshot for the learner."""

    expected: int = 0
    alive: Set[PeerName] = frozenset()
    done: frozenset[PeerName] = frozenset()
    gone: frozenset[PeerName] = frozenset()
    statuses: Mapping[PeerName, str] = field(default_factory=dict)
    places: Mapping[PeerName, int] = field(default_factory=dict)
    muted: frozenset[PeerName] = frozenset()
    """These living peers are muted now. They are given no mass either: none would come back."""
    unheard: frozenset[PeerName] = frozenset()
    """Nothing was ever heard from these peers."""
    lossy: frozenset[PeerName] = frozenset()
    """Mass to these peers had to be sent more than once lately."""


_LANES = frozenset("23456789")


# --- what travels on the control socket -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Announce:
    """I have a newer state than you have confirmed, of this size: ask for it when you are ready."""

    topic: str
    key: str
    number: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Want:
    """Send me your newest state of this slot. `number` is that of the announcement that this answers, so that a late or
    duplicated request is not taken for one for the next version."""

    topic: str
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """This version of the slot has arrived (used or not)."""

    topic: str
    key: str
    number: int


class Verdict(StrEnum):
    """The state of a parcel of mass or of a stream at its recipient. Append only: the words are on the wire."""

    HELD = "held"
    """It has arrived; the learner has not settled it yet."""
    ABSORBED = "absorbed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The verdict on parcel `number` of this topic, and why."""

    topic: str
    number: int
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Asks for the verdict on a parcel that I know you hold. Answered by a `Receipt`."""

    topic: str
    number: int


# --- what travels on the data socket ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State(Carrier):
    """One version of one slot. `confirms` are piggybacked: states of the recipient that arrived here before."""

    number: int
    content: Content
    confirms: tuple[Confirm, ...] = ()


@dataclass(frozen=True, slots=True)
class ReliableMessage(Carrier):
    """One parcel of mass or of a stream: numbered from 1 per link, topic and boot of its sender, and resent until a
    receipt arrives."""

    number: int
    content: Content


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a large body, from byte `offset` on. The message that the body belongs to was sent before on the same
    connection: a `State` or a `ReliableMessage` with a layout of more bytes than its own body has."""

    delivery: DeliveryClass
    topic: str
    key: str
    number: int
    offset: int
    body: bytes | memoryview


Message = (
    Greeting
    | Refusal
    | Announce
    | Want
    | Confirm
    | Leave
    | State
    | Ping
    | PingRequest
    | Ack
    | Nack
    | Receipt
    | StatusQuery
    | ReliableMessage
    | Piece
    | Here
    | Enrolments
)

_IN_FILES: dict[type, str] = {ReliableMessage: "Consignment", StatusQuery: "Enquiry"}


def word_of(message: Message) -> str:
    """The name of this kind of message in the files of a run and in transcripts. It stays what it was in the first
    release, whatever the class is called."""
    return _IN_FILES.get(type(message), type(message).__name__)


FEATURES: tuple[str, ...] = ()
"""These are the features that this release understands beyond its wire version; its greetings name them. A feature is a
word of 1 to 32 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit, and is never given another meaning."""

FEATURE_OF: dict[type, str] = {}
"""A peer must have named this feature before a message of this kind is sent to it. A kind without an entry is part of
the wire version."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with its sender, the sender's process and its recipient.

    `to` is empty when only an address is known, and `to_boot` is 0 when no process of that name was heard yet. A
    message to the predecessor of a restarted process is not for its successor: old confirmations and refusals would be
    false.
    """

    sender: PeerName
    boot: Boot
    to: str
    to_boot: int
    message: Message


@dataclass(frozen=True, slots=True)
class Transmit:
    """An outgoing envelope, with the control address of its recipient."""

    address: Address
    envelope: Envelope

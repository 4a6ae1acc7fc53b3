"""The vocabulary: what peers say to one another, and what passes between the learner and the network of one peer.

Rules of this file
1. Every class is frozen; nothing here computes, waits or reaches out.
2. A payload is opaque to the network wing: it has `nbytes` and is carried as it is. Its array layout is for learners.

Two staircases use these words. Down: a strategy makes `Parcel`s, the mailbox hands them to the protocol, which turns
them into `State` messages for each recipient. Up: a `State` message becomes an `Arrival` for the learner.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gossipdistill.ids import Boot, PeerName, Version


class Address(NamedTuple):
    """Where a peer listens: control on `port`, data on `port + 1`. Port 0: the launcher picks two free ones.

    Without host and port (`NOWHERE`): a peer that nobody can reach. It dials out, and links serve both ways.
    """

    host: str
    """Host name, IPv4 address, or IPv6 address without brackets."""
    port: int

    @property
    def data_port(self) -> int:
        """Port of the data socket; 0 while the control port is 0."""
        return self.port + 1 if self.port else 0

    def __str__(self) -> str:
        if self == NOWHERE:
            return "nowhere"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


NOWHERE = Address("", 0)
"""Where a peer listens that nobody can reach."""


class Mode(StrEnum):
    """How a state travels."""

    PUSH = "push"
    PULL = "pull"


class DeliveryClass(StrEnum):
    """What the network promises for a payload (law 4).

    *state*: newest wins; loss, duplication and reordering are harmless. *mass*: conserved, so it arrives exactly once,
    with one unsettled parcel per link and topic. *stream*: as mass and in order, without weight; two unsettled parcels,
    since a neighbour in lockstep may be one round ahead.
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


@dataclass(frozen=True, slots=True)
class Payload:
    """Encoded arrays: a layout and the bytes it describes."""

    layout: tuple[ArrayLayout, ...]
    body: bytes | memoryview

    @property
    def nbytes(self) -> int:
        """Length of the body in bytes."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A learner's news for some neighbours.

    A *state* says what is, never what to add. A parcel of *mass* or of a *stream* has one recipient and no key;
    `weight` is the push-sum weight that travels with it (float64), `degree` the number of the sender's living
    neighbours, from which symmetric mixing weights are made. `mode` concerns states only.
    """

    to: tuple[PeerName, ...]
    topic: str
    payload: Payload
    step: int
    exchange: int
    mode: Mode = Mode.PUSH
    key: str = ""
    delivery: DeliveryClass = DeliveryClass.STATE
    weight: float = 0.0
    degree: int = 0


class Slot(NamedTuple):
    """Newest wins per slot: `peer` is the recipient on the way out and the sender on the way in."""

    peer: PeerName
    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the learner receives from a neighbour; `arrived_s` is a reading of *my* monotonic clock.

    Mass and streams are to be settled, each arrival once. With `home` it is my own parcel for `sender` that comes back
    (`reason` says why): its mass is mine again, and there is nothing to settle.
    """

    sender: PeerName
    topic: str
    version: Version
    step: int
    exchange: int
    payload: Payload
    arrived_s: float
    key: str = ""
    delivery: DeliveryClass = DeliveryClass.STATE
    weight: float = 0.0
    degree: int = 0
    home: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The learner's verdict on one arrival of mass or of a stream. Refused mass goes home to its sender."""

    sender: PeerName
    topic: str
    version: Version
    absorbed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What the network knows about the others, as one immutable snapshot for the learner."""

    expected: int = 0
    alive: Set[PeerName] = frozenset()
    done: frozenset[PeerName] = frozenset()
    gone: frozenset[PeerName] = frozenset()
    statuses: Mapping[PeerName, str] = field(default_factory=dict)
    places: Mapping[PeerName, int] = field(default_factory=dict)


# --- what travels on the control socket -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach a peer, as told by another."""

    name: PeerName
    address: Address
    place: int


@dataclass(frozen=True, slots=True)
class Greeting:
    """First word of every process to every other. `fingerprint` must be equal on both sides, entry by entry."""

    address: Address
    place: int
    fingerprint: Mapping[str, str]
    contacts: tuple[Contact, ...] = ()
    reply_wanted: bool = True


class ClaimKind(StrEnum):
    """What is said of a member. Append only: the words travel."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Claim:
    """What `by` says of the process `boot` of `name`; rides on probes and their answers.

    Of two claims about one process the one with the higher `refutation` holds, and of equals the worse. Only the
    process itself raises its refutation. `address` and `place` (none and 0 where a roster tells) introduce a newcomer.
    """

    name: PeerName
    boot: int
    refutation: int
    kind: ClaimKind
    by: PeerName
    address: Address | None = None
    place: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `number` comes back in the `Ack`; `step` and `done` are the sender's own progress; so is
    `refutation`, a number that nobody else may raise."""

    number: int
    step: int
    done: bool
    claims: tuple[Claim, ...] = ()
    refutation: int = 0


@dataclass(frozen=True, slots=True)
class PingRequest:
    """I get no answer from `target`: ask it for me. `number` comes back in the `Ack` or the `Nack`."""

    number: int
    target: PeerName
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Ack:
    """Answers a `Ping`; with `about`, a `PingRequest` whose target has answered, as the process `about_boot`."""

    number: int
    step: int
    done: bool
    claims: tuple[Claim, ...] = ()
    about: str = ""
    about_boot: int = 0
    refutation: int = 0


@dataclass(frozen=True, slots=True)
class Nack:
    """Answers a `PingRequest` whose target has not answered yet: it is not the link between us that fails."""

    number: int
    claims: tuple[Claim, ...] = ()


class RefusalCode(StrEnum):
    """Why a peer was turned away. Append only: the words travel."""

    WIRE_VERSION = "wire_version"
    FINGERPRINT = "fingerprint"
    NOT_IN_ROSTER = "not_in_roster"
    SUPERSEDED = "superseded"
    WRONG_NAME = "wrong_name"
    PLACE_TAKEN = "place_taken"


@dataclass(frozen=True, slots=True)
class Refusal:
    """I do not talk to you, and this is why. `detail` names what differs, with both values; `asked` is the name that
    was looked for, when that is what is wrong."""

    code: RefusalCode
    detail: str
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """I have a newer state than you have confirmed, of this size: ask when you are ready."""

    topic: str
    key: str
    number: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Want:
    """Send me your newest state of this slot. `number` is the announcement that this answers, so that a late or doubled
    wish is not taken for a wish for the version after."""

    topic: str
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class Confirm:
    """This version of the slot has arrived (used or not)."""

    topic: str
    key: str
    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """Last word of a process that ends; `crashed`: not on purpose, so that it may be back."""

    reason: str
    crashed: bool = False


class Verdict(StrEnum):
    """What became of a consignment. Append only: the words travel."""

    HELD = "held"
    """It is here; its learner has not looked yet."""
    ABSORBED = "absorbed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the consignment `number` of this topic, and why."""

    topic: str
    number: int
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Enquiry:
    """What became of a consignment of which I know that you hold it? Answered by a `Receipt`."""

    topic: str
    number: int


# --- what travels on the data socket ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """One version of one slot, with its payload. `confirms` ride along: what arrived from the recipient before."""

    topic: str
    key: str
    number: int
    step: int
    exchange: int
    payload: Payload
    confirms: tuple[Confirm, ...] = ()


@dataclass(frozen=True, slots=True)
class Consignment:
    """One parcel of mass or of a stream: numbered from 1 per link, topic and boot of its sender, resent until a
    receipt comes."""

    topic: str
    number: int
    step: int
    exchange: int
    delivery: DeliveryClass
    weight: float
    degree: int
    payload: Payload


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a large body that begins at byte `offset` of it. The message that the body belongs to, a `State` or a
    `Consignment` with a layout of more bytes than its own body has, went before on the same connection."""

    delivery: DeliveryClass
    topic: str
    key: str
    number: int
    offset: int
    body: bytes | memoryview


Message = (
    Greeting | Refusal | Announce | Want | Confirm | Leave | State
    | Ping | PingRequest | Ack | Nack | Receipt | Enquiry | Consignment | Piece
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who says it, from which process, to whom, and what.

    `to` is empty when only an address is known, and `to_boot` is 0 when no process of that name was heard yet. What is
    addressed to the predecessor of a restarted process is not for its successor: old confirmations and refusals lie.
    """

    sender: PeerName
    boot: Boot
    to: str
    to_boot: int
    message: Message


@dataclass(frozen=True, slots=True)
class Transmit:
    """An envelope on its way out, with the control address of its recipient."""

    address: Address
    envelope: Envelope

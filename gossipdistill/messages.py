"""The vocabulary: what peers say to one another, and what passes between the learner and the network of one peer.

Rules of this file
1. Every class is frozen; nothing here computes, waits or reaches out.
2. A payload is opaque to the network wing: it has `nbytes` and is carried as it is. Its array layout is for learners.

Two staircases use these words. Down: a strategy makes `Parcel`s, the mailbox hands them to the protocol, which turns
them into `State` messages for each recipient. Up: a `State` message becomes an `Arrival` for the learner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gossipdistill.ids import Boot, PeerName, Version


class Address(NamedTuple):
    """Where a peer listens: control on `port`, data on `port + 1`. Port 0: the launcher picks two free ones."""

    host: str
    """Host name, IPv4 address, or IPv6 address without brackets."""
    port: int

    @property
    def data_port(self) -> int:
        """Port of the data socket; 0 while the control port is 0."""
        return self.port + 1 if self.port else 0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Mode(StrEnum):
    """How a state travels."""

    PUSH = "push"
    PULL = "pull"


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
    """A learner's news for some neighbours, of the *state* class: it says what is, never what to add."""

    to: tuple[PeerName, ...]
    topic: str
    payload: Payload
    step: int
    exchange: int
    mode: Mode = Mode.PUSH
    key: str = ""


class Slot(NamedTuple):
    """Newest wins per slot: `peer` is the recipient on the way out and the sender on the way in."""

    peer: PeerName
    topic: str
    key: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A neighbour's state as the learner receives it; `arrived_s` is a reading of *my* monotonic clock."""

    sender: PeerName
    topic: str
    version: Version
    step: int
    exchange: int
    payload: Payload
    arrived_s: float
    key: str = ""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What the network knows about the others, as one immutable snapshot for the learner."""

    expected: int = 0
    alive: frozenset[PeerName] = frozenset()
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


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I am here, at this step of mine; `done` once my own training has ended and I only serve."""

    step: int
    done: bool


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
    """Last word of a process that ends on purpose."""

    reason: str


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


Message = Greeting | Heartbeat | Refusal | Announce | Want | Confirm | Leave | State


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

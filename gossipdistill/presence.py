"""The messages by which peers meet, probe one another and leave.

Each is a control message of its own, or a part of one. Rules as in `messages`: every class is frozen, and nothing here
computes, waits or does input or output. Messages about states, mass and streams are in `messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gossipdistill.ids import PeerName


class Address(NamedTuple):
    """The address at which a peer listens: control on `port`, data on `port + 1`. With port 0 the launcher picks two
    free ones.

    Without host and port (`NOWHERE`) nobody can dial the peer. It dials the others, and links serve both ways.
    """

    host: str
    """This is a host name, an IPv4 address, or an IPv6 address without brackets."""
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
"""The address of a peer that nobody can dial."""


# --- meeting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer's name, address and place, as told by another peer."""

    name: PeerName
    address: Address
    place: int


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first message of every process to every other. `fingerprint` must be equal on both sides, entry by entry.

    `features` names what this process understands beyond its wire version. It is no part of the fingerprint, so a
    difference causes no refusal, and a reader ignores names that it does not know.
    """

    address: Address
    place: int
    fingerprint: Mapping[str, str]
    contacts: tuple[Contact, ...] = ()
    reply_wanted: bool = True
    features: tuple[str, ...] = ()


class RefusalCode(StrEnum):
    """Why a peer was turned away. Append only: the words are on the wire.

    `PLACE_TAKEN` with the refused peer's name in `asked`: another process has that name, and answers. The refused one
    tries again.
    """

    WIRE_VERSION = "wire_version"
    FINGERPRINT = "fingerprint"
    NOT_IN_ROSTER = "not_in_roster"
    SUPERSEDED = "superseded"
    WRONG_NAME = "wrong_name"
    PLACE_TAKEN = "place_taken"
    ENROLMENT = "enrolment"


@dataclass(frozen=True, slots=True)
class Refusal:
    """I do not exchange with you, for this reason. `detail` names what differs, with both values; `asked` is the name
    that was looked for, when that is what is wrong.

    `wire_version` is that of the other side, None where it is mine. A refusal that I send is written in its recipient's
    version, and one that arrives names its writer's version.
    """

    code: RefusalCode
    detail: str
    asked: str = ""
    wire_version: int | None = field(default=None, compare=False)
    newer_boot: int = 0
    """With `SUPERSEDED`, this is the boot of the process that the writer takes for the newer one, and `newer_at` is its
    address. It is a hint and no proof; 0 means that nothing is said."""
    newer_at: Address = NOWHERE


@dataclass(frozen=True, slots=True)
class Here:
    """The connection that this arrived through leads back to me. It is sent on a data socket that carries nothing else,
    so that payloads can be sent to a peer that nobody can dial."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The key of `name` is `key` (40 characters of Z85). The record is written by the process `boot` of that peer.
    `proof`, an HMAC in hexadecimal, proves that it has the run's join secret."""

    name: PeerName
    key: str
    boot: int
    proof: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolments:
    """The peers that may take part in `run` besides those of the roster. Every reader checks every record itself."""

    run: str
    records: tuple[Enrolment, ...]


# --- watching over one another -----------------------------------------------------------------------------------


class ClaimKind(StrEnum):
    """The status that a claim gives a member. Append only: the words are on the wire."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Claim:
    """What `by` claims about the process `boot` of `name`; piggybacked on probes and their answers.

    Of two claims about one process the one with the higher `incarnation` holds, and of equal ones the worse. Only the
    process itself raises its incarnation. `address` and `place` (None and 0 where a roster has them) introduce a
    newcomer.
    """

    name: PeerName
    boot: int
    incarnation: int
    kind: ClaimKind
    by: PeerName
    address: Address | None = None
    place: int = 0


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `number` comes back in the `Ack`. `step`, `done` and `incarnation` are the sender's own; only the
    sender raises its incarnation."""

    number: int
    step: int
    done: bool
    claims: tuple[Claim, ...] = ()
    incarnation: int = 0


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
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Nack:
    """Answers a `PingRequest` whose target has not answered yet: the link to the relay works."""

    number: int
    claims: tuple[Claim, ...] = ()


# --- parting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leave:
    """The last message of a process that ends. `crashed` says that it did not end on purpose, so that it may be back.

    `absorbed` are the last parcels of mass from the recipient that were absorbed here, as (topic, number). No other of
    them will be absorbed later. None means that nothing is said about them.
    """

    reason: str
    crashed: bool = False
    absorbed: tuple[tuple[str, int], ...] | None = None

"""Who is there and where: the words by which peers meet, watch over one another and part.

Each is a message of its own on the control socket, or a part of one. Rules as in `messages`: every class is frozen, and
nothing here computes, waits or reaches out. What is said about states, mass and streams is in `messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gossipdistill.ids import PeerName


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


# --- meeting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach a peer, as told by another."""

    name: PeerName
    address: Address
    place: int


@dataclass(frozen=True, slots=True)
class Greeting:
    """First word of every process to every other. `fingerprint` must be equal on both sides, entry by entry.

    `features` say what this process understands beyond its wire version. They are no part of the fingerprint, so a
    difference refuses nobody, and a name that is not known means nothing to its reader.
    """

    address: Address
    place: int
    fingerprint: Mapping[str, str]
    contacts: tuple[Contact, ...] = ()
    reply_wanted: bool = True
    features: tuple[str, ...] = ()


class RefusalCode(StrEnum):
    """Why a peer was turned away. Append only: the words travel.

    `PLACE_TAKEN` with `asked` as the name of the one refused: another process has that name, and answers. It tries on.
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
    """I do not talk to you, and this is why. `detail` names what differs, with both values; `asked` is the name that
    was looked for, when that is what is wrong.

    `wire_version` is that of the other, None where it is mine: what I say to it is written in its own, and a refusal
    that came names that of its writer.
    """

    code: RefusalCode
    detail: str
    asked: str = ""
    wire_version: int | None = field(default=None, compare=False)
    newer_boot: int = 0
    """With `SUPERSEDED`, the process that its writer takes for the newer one, and below where that listens. It is a
    hint and no proof: 0 where nothing is said."""
    newer_at: Address = NOWHERE


@dataclass(frozen=True, slots=True)
class Here:
    """The connection that this came through leads back to me. Said on a data socket that carries nothing else, so that
    one whom nobody can dial can be sent payloads."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The key of `name` is `key` (40 characters of Z85): written by its process `boot`, which proves by `proof`, an
    HMAC in hexadecimal, that it has the run's join secret."""

    name: PeerName
    key: str
    boot: int
    proof: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolments:
    """Who may take part in `run` besides those of the roster; each checks each record for itself."""

    run: str
    records: tuple[Enrolment, ...]


# --- watching over one another -----------------------------------------------------------------------------------


class ClaimKind(StrEnum):
    """What is said of a member. Append only: the words travel."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Claim:
    """What `by` says of the process `boot` of `name`; rides on probes and their answers.

    Of two claims about one process the one with the higher `incarnation` holds, and of equals the worse. Only the
    process itself raises its refutation. `address` and `place` (none and 0 where a roster tells) introduce a newcomer.
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
    """Are you there? `number` comes back in the `Ack`; `step` and `done` are the sender's own progress; so is
    `incarnation`, a number that nobody else may raise."""

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
    """Answers a `PingRequest` whose target has not answered yet: it is not the link between us that fails."""

    number: int
    claims: tuple[Claim, ...] = ()


# --- parting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leave:
    """Last word of a process that ends; `crashed`: not on purpose, so that it may be back.

    `absorbed` are the last parcels of mass from the one whom it is said to that were absorbed here, as (topic, number):
    no other of them ever will be. None: nothing is said of that.
    """

    reason: str
    crashed: bool = False
    absorbed: tuple[tuple[str, int], ...] | None = None

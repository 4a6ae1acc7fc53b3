"""What was found out about a roster, one of its peers and the others: frozen, so that checks are functions of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gossipdistill.machine.lookups import LookUp
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import PeerEntry, Roster


class Verdict(StrEnum):
    """How well it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says of one thing. `advice` says what to do, and is empty where nothing is to be done."""

    verdict: Verdict
    about: str
    found: str
    advice: str = ""


def ok(about: str, found: str) -> Finding:
    """It is well."""
    return Finding(Verdict.OK, about, found)


def warning(about: str, found: str, advice: str) -> Finding:
    """It will run, but perhaps not as meant."""
    return Finding(Verdict.WARNING, about, found, advice)


def problem(about: str, found: str, advice: str) -> Finding:
    """It will not run."""
    return Finding(Verdict.PROBLEM, about, found, advice)


@dataclass(frozen=True, slots=True)
class Port:
    """One port of this peer. `problem` is empty when it can be listened on; `holder` is who has it, if that shows."""

    number: int
    problem: str = ""
    holder: str = ""
    by_gossip: bool = False
    """Whether a worker or a doctor answers there."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers to a worker, and what is installed on it."""

    cpus: int
    omp_threads: str | None
    """As the environment says it."""
    open_files_max: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Keys:
    """What was found out about keys. No secret is in it, only where one lies."""

    needed: bool
    """Whether workers would ask for them."""
    secret: str = ""
    """The file of this peer's secret, if it is in order."""
    problem: str = ""
    advice: str = ""
    missing: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    """Peers from whose address somebody called with a key that is not trusted, and that key."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What came of one other peer. Times are in seconds; None where it was not measured."""

    kind: str = ""
    """Who was met: "doctor", "worker", or "" for nobody."""
    reached: bool = False
    """It has answered to a connection that this machine opened."""
    reaches_me: bool = False
    """It has opened a connection to this machine."""
    answered_as: str = ""
    """The name of the peer that was met."""
    versions: Mapping[str, str] = field(default_factory=dict)
    wire_version: str = ""
    round_trips_s: tuple[float, ...] = ()
    clock_ahead_s: float | None = None
    small_s: float | None = None
    large_bytes: int = 0
    large_s: float | None = None
    large_wanted: bool = True
    """False where so many others are in the roster that a large transfer to each would take too long."""
    dial_error: str = ""
    """Why a bare connection was not made, when nobody was met."""

    @property
    def round_trip_s(self) -> float | None:
        """The median, or None."""
        return statistics.median(self.round_trips_s) if self.round_trips_s else None


@dataclass(frozen=True, slots=True)
class Case:
    """All that checks may look at."""

    where: str
    roster: Roster
    machine: Machine
    name: str = ""
    """Which peer this machine is; "" when that is not known."""
    named: bool = False
    """Whether the user has said so."""
    listen: Address = NOWHERE
    advertise: Address = NOWHERE
    bound_host: str = ""
    """The address that `listen` stands for on this machine."""
    here: tuple[str, ...] = ()
    """Peers whose address is on this machine, by their look-ups."""
    look_ups: Mapping[str, LookUp] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    meetings: Mapping[str, Meeting] = field(default_factory=dict)
    """By name, in roster order; empty when nobody was called."""
    waited_s: float = 0.0
    keys: Keys | None = None

    @property
    def sealed(self) -> bool:
        """Whether the others are met with keys, as workers would meet."""
        return self.keys is not None and self.keys.needed and not self.keys.problem and bool(self.keys.secret)

    @property
    def others(self) -> tuple[PeerEntry, ...]:
        """All peers but this one."""
        return tuple(entry for entry in self.roster.peer if entry.name != self.name)

    @property
    def listens(self) -> bool:
        """Whether both ports of this peer could be had, so that others can reach it."""
        return bool(self.ports) and all(not port.problem for port in self.ports)

    def command_for(self, name: str) -> str:
        """What to type on the machine of `name`."""
        return f"gossipdistill doctor --peers {self.where} --name {name}"

"""The facts found about a roster, one of its peers and the others. They are frozen, so that checks are functions of
them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gossipdistill.machine.lookups import LookUp
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.roster import PeerEntry, Roster


class Verdict(StrEnum):
    """The verdict of one finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of one check about one thing. `advice` says what to do; it is empty if nothing is to be done."""

    verdict: Verdict
    about: str
    found: str
    advice: str = ""


def ok(about: str, found: str) -> Finding:
    """A finding that all is well."""
    return Finding(Verdict.OK, about, found)


def warning(about: str, found: str, advice: str) -> Finding:
    """A finding that a run will work, but perhaps not as intended."""
    return Finding(Verdict.WARNING, about, found, advice)


def problem(about: str, found: str, advice: str) -> Finding:
    """A finding that a run will not work."""
    return Finding(Verdict.PROBLEM, about, found, advice)


@dataclass(frozen=True, slots=True)
class Port:
    """One port of this peer. `problem` is empty if it can be listened on. `holder` is the process that has it, if the
    system shows it."""

    number: int
    problem: str = ""
    holder: str = ""
    by_gossip: bool = False
    """Whether a worker or a doctor answers there."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers to a worker, and the versions installed on it."""

    cpus: int
    omp_threads: str | None
    """The value of OMP_NUM_THREADS in the environment; None if it is not set."""
    open_files_max: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Keys:
    """The facts found about keys. It holds no secret, only the path of one."""

    needed: bool
    """Whether workers would require keys."""
    secret: str = ""
    """The file of this peer's secret, if it is usable."""
    problem: str = ""
    advice: str = ""
    missing: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)
    """The peers from whose address a call came with a key that is not trusted, each with that key."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """The result of meeting one other peer. Times are in seconds; None where nothing was measured."""

    kind: str = ""
    """The kind of process that was met: "doctor", "worker", or "" for none."""
    reached: bool = False
    """It has answered on a connection that this machine opened."""
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
    """False where the roster is so large that a large transfer to each peer would take too long."""
    dial_error: str = ""
    """Where no process was met, it says why a plain TCP connection failed."""

    @property
    def round_trip_s(self) -> float | None:
        """The median, or None."""
        return statistics.median(self.round_trips_s) if self.round_trips_s else None


@dataclass(frozen=True, slots=True)
class Case:
    """All facts that checks may use."""

    where: str
    roster: Roster
    machine: Machine
    name: str = ""
    """The name of the peer that this machine is; "" if it is not known."""
    named: bool = False
    """Whether the user has given that name."""
    listen: Address = NOWHERE
    advertise: Address = NOWHERE
    bound_host: str = ""
    """The IP address that `listen` means on this machine."""
    here: tuple[str, ...] = ()
    """The names of peers whose address, as looked up, is on this machine."""
    look_ups: Mapping[str, LookUp] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    meetings: Mapping[str, Meeting] = field(default_factory=dict)
    """The meetings by peer's name, in roster order; empty if no peer was called."""
    waited_s: float = 0.0
    keys: Keys | None = None

    @property
    def sealed(self) -> bool:
        """Whether the connections use keys, as those of workers would."""
        return self.keys is not None and self.keys.needed and not self.keys.problem and bool(self.keys.secret)

    @property
    def others(self) -> tuple[PeerEntry, ...]:
        """All peers except this one."""
        return tuple(entry for entry in self.roster.peer if entry.name != self.name)

    @property
    def listens(self) -> bool:
        """Whether both ports of this peer could be bound, so that others can reach it."""
        return bool(self.ports) and all(not port.problem for port in self.ports)

    def command_for(self, name: str) -> str:
        """The command to type on the machine of the peer `name`."""
        return f"gossipdistill doctor --peers {self.where} --name {name}"

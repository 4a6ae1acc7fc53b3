"""The policies that tell a launcher which faults to inject into the workers of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gossipdistill.events import Event
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.records import FaultRecord, PeerRecord, VerdictRecord
from gossipdistill.observe.told import Told


@dataclass(frozen=True, slots=True)
class SignalTo:
    """Send this signal to the newest process of a peer."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class StartAgain:
    """Restart a peer whose process has ended; it resumes from its checkpoint."""

    name: str


Do = Event | SignalTo | StartAgain
"""An action of a launcher. An event is shown, and written into the events of the run."""


class Injection(Protocol):
    """Says which faults are injected, and judges the outcome at the end. Times are seconds since training began, on the
    launcher's clock."""

    def due(self, now_s: float, children: Mapping[str, Child]) -> list[Do]:
        """The actions that are due by now, in order."""

    def next_s(self) -> float:
        """When the next action is due; infinite for never."""

    def heard(self, child: Child, record: Told, now_s: float) -> None:
        """A worker has sent a record."""

    def stopped(self, name: str) -> bool:
        """Whether this peer was ended on purpose and not restarted. Such a peer is neither lost nor restarted."""

    def awaits_restart(self) -> bool:
        """Whether a restart is still pending, so that the run is not over although no process lives."""

    def faults(self) -> list[FaultRecord]:
        """The course of each fault, as in `summary.json`."""

    def expectations(self, peers: Iterable[PeerRecord], trouble: str | None) -> list[VerdictRecord]:
        """The verdicts, as in `summary.json`, from the entries of the peers. `trouble` says why the run was cut
        short."""


class NoFaults:
    """No faults are injected."""

    def due(self, now_s: float, children: Mapping[str, Child]) -> list[Do]:
        """Nothing."""
        return []

    def next_s(self) -> float:
        """Never."""
        return math.inf

    def heard(self, child: Child, record: Told, now_s: float) -> None:
        """Ignored."""

    def stopped(self, name: str) -> bool:
        """No."""
        return False

    def awaits_restart(self) -> bool:
        """No."""
        return False

    def faults(self) -> list[FaultRecord]:
        """None."""
        return []

    def expectations(self, peers: Iterable[PeerRecord], trouble: str | None) -> list[VerdictRecord]:
        """None."""
        return []

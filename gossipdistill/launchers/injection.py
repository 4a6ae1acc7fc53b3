"""What is done to the workers of a run so that they fail: what a launcher is given as its policy of faults."""

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
    """Start a peer again whose process has ended; it goes on from its checkpoint."""

    name: str


Do = Event | SignalTo | StartAgain
"""What a launcher is to do; an event is to be told, and noted in the run."""


class Injection(Protocol):
    """Says what is done to the workers, and judges at the end what became of it. Times are in seconds since the
    release of the run, on the launcher's clock."""

    def due(self, now_s: float, children: Mapping[str, Child]) -> list[Do]:
        """What is to be done by now, in this order."""

    def next_s(self) -> float:
        """When something is to be done next; infinite for never."""

    def heard(self, child: Child, record: Told, now_s: float) -> None:
        """A worker said something."""

    def stopped(self, name: str) -> bool:
        """Whether this peer was ended on purpose and not started again: no loss, and nothing to restart."""

    def awaits_restart(self) -> bool:
        """Whether a peer is still to be started again, so that the run is not over though no process lives."""

    def faults(self) -> list[FaultRecord]:
        """What became of each fault, as in `summary.json`."""

    def expectations(self, peers: Iterable[PeerRecord], trouble: str | None) -> list[VerdictRecord]:
        """The verdicts, as in `summary.json`, from the entries of the peers; `trouble`: why the run was cut short."""


class NoFaults:
    """Nothing is done to anybody."""

    def due(self, now_s: float, children: Mapping[str, Child]) -> list[Do]:
        """Nothing."""
        return []

    def next_s(self) -> float:
        """Never."""
        return math.inf

    def heard(self, child: Child, record: Told, now_s: float) -> None:
        """Of no interest."""

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

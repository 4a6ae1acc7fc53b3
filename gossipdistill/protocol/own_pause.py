"""Notices that this process itself was stopped (SIGSTOP, a suspended laptop), and does not count that time as silence
of others."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.events import EventKind
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.probe import Prober
from gossipdistill.protocol.table import Table, Timer


@dataclass(slots=True)
class OwnPause:
    """Compares the clock with the time at which it was to be read."""

    table: Table
    prober: Prober
    due_s: float | None = None
    """The clock reading at which the next check was due, None before the first."""
    _said_s: float = float("-inf")

    def forgive(self, now: float) -> None:
        """Shift the clocks of all members by the time in which this process was stopped: that silence is nobody's
        fault."""
        limits = self.table.limits
        if self.due_s is None or now - self.due_s < limits.pause_forgiven_s:
            return
        pause_s = now - self.due_s
        self.prober.forgive()
        for member in self.table.rows.values():
            member.heard_s = min(member.heard_s + pause_s, now)  # some may have been heard since the stop
            case = member.suspicion
            if case is not None and member.status is Status.SUSPECT:
                case.since_s = min(case.since_s + pause_s, now)
                case.verifications = 0
                self.table.timers.set(Timer("suspicion", member.name), case.deadline_s())
        if now - self._said_s >= limits.pause_said_every_s:
            self._said_s = now
            reason = f"this process itself was held up for {pause_s:.1f} s; nobody is suspected for that time"
            self.table.note(EventKind.WARNING, "", reason, now)

"""What one peer believes of the others: for the driver, the learner, results and checks."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.ids import PeerName
from gossipdistill.messages import Neighbourhood
from gossipdistill.protocol.directory import Present
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.table import GONE, Table

_SNAPSHOT_EVERY_S = 0.25


@dataclass(slots=True)
class View:
    """A read-only view of a table. It changes only the time of the next snapshot."""

    table: Table

    def status_of(self, name: PeerName) -> Status | None:
        """The status of a member; None for a stranger. In a large roster UNHEARD means presumed present."""
        table = self.table
        member = table.rows.get(name)
        if member is not None:
            return member.status
        return Status.UNHEARD if table.directory.get(name) is not None and name != table.me.name else None

    def member_name(self, name: str) -> PeerName:
        """The name of a member; "" for a stranger: strangers choose their names, and are counted as one."""
        return PeerName(name) if self.status_of(PeerName(name)) is not None else PeerName("")

    def is_alive(self, name: PeerName) -> bool:
        """Whether there is exchange with this peer now: we hear one another."""
        return name in self.table.partners

    def boot_of(self, name: PeerName) -> int | None:
        """The boot of this peer's process that there is exchange with now."""
        member = self.table.partners.get(name)
        return member.boot if member is not None else None

    def is_present(self, name: PeerName) -> bool:
        """Whether this member counts as living: it was heard, or it is in a large roster and not known to be absent."""
        table, member = self.table, self.table.rows.get(name)
        if not table.presumes:
            return member is not None and member.status is Status.ALIVE and not member.unreachable
        known = name in table.directory.places or member is not None
        return known and name not in table.absent and name != table.me.name

    def features_of(self, name: str) -> frozenset[str]:
        """The features that the greeting of this member's process named; empty where none was accepted."""
        member = self.table.find(name)
        return member.features if member is not None and member.accepted else frozenset()

    def neighbourhood(self) -> Neighbourhood | None:
        """The table as a snapshot for the learner; None when nothing changed since the last call.

        In a large run, changes that concern no partner of mine are reported together, less often as more members are
        absent, so that snapshots take a bounded share of the time.
        """
        table, pace = self.table, self.table.pace
        if not pace.changed or (table.presumes and not pace.urgent and pace.now_s < pace.due_s):
            return None
        pace.changed = pace.urgent = False
        pace.due_s = pace.now_s + _SNAPSHOT_EVERY_S * (1 + len(table.absent) / 64)
        rows = table.rows.values()
        done = frozenset(m.name for m in rows if m.done)
        gone = frozenset(m.name for m in rows if m.status in GONE)
        unheard = frozenset(m.name for m in rows if m.status is Status.UNHEARD)
        statuses = {m.name: f"{m.status.value}: {m.reason}" for m in rows}
        if table.presumes and table.closed:
            present = Present(table.directory.places, frozenset(table.absent | {table.me.name}))
            return Neighbourhood(table.expected, present, done, gone, statuses, table.directory.places, unheard=unheard)
        here = (Status.ALIVE, Status.UNHEARD) if table.presumes else (Status.ALIVE,)
        alive = frozenset(m.name for m in rows if m.status in here and not m.unreachable)
        places = {m.name: m.place for m in rows} | {table.me.name: table.me.place}
        return Neighbourhood(table.expected, alive, done, gone, statuses, places, unheard=unheard)

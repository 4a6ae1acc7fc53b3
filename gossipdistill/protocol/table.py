"""The table of members: one shared roster, and rows for the members that differ from it.

Rules of this file
1. In a small run every member has a row, is greeted at the start, and is not alive before it was heard. Members of a
   larger roster are *presumed present*: a row is made when there is exchange with one, or when one is suspected, dead,
   gone, turned away or restarted, and is dropped when it says no more than the roster.
2. One event per change of state, with the reason in words.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Message
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.deadlines import Deadlines
from gossipdistill.protocol.directory import Directory
from gossipdistill.protocol.members import Identity, Member, Status

GONE = (Status.DEAD, Status.LEFT, Status.REFUSED)
Detail = dict[str, str | int | float]


class Outbound(NamedTuple):
    """An outgoing message: `to` names its recipient ("": only the address is known), `to_boot` that peer's process (0:
    any)."""

    to: str
    to_boot: int
    address: Address
    message: Message


class Timer(NamedTuple):
    """What is due, and the member that it is about."""

    what: str
    name: str = ""


@dataclass(slots=True)
class SnapshotPace:
    """When the learner gets the next snapshot: at once after an urgent change, otherwise from `due_s` on."""

    changed: bool = True
    urgent: bool = True
    due_s: float = 0.0
    now_s: float = 0.0
    """The time at which something last changed or was checked."""


@dataclass(slots=True)
class Table:
    """Rows, and the results of their changes: messages, events, news for delivery.

    With `closed` only the members of the directory (a roster) may join; otherwise any name may, up to `expected`.
    """

    me: Identity
    limits: Limits
    expected: int
    closed: bool
    directory: Directory
    chance: random.Random
    presumes: bool = False
    proven: bool = False
    """With keys, the sender under a name has that name's key."""
    rows: dict[PeerName, Member] = field(default_factory=dict)
    order: list[PeerName] = field(default_factory=list)
    """The names learned without a roster, in the order in which they arrived."""
    dead: OrderedDict[PeerName, None] = field(default_factory=OrderedDict)
    """These members are called now and then, least recently called first."""
    suspects: dict[PeerName, None] = field(default_factory=dict)
    unreachable: dict[PeerName, None] = field(default_factory=dict)
    partners: dict[PeerName, Member] = field(default_factory=dict)
    """The rows of the members that parcels may be exchanged with now."""
    timers: Deadlines[Timer] = field(default_factory=Deadlines)
    out: list[Outbound] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pace: SnapshotPace = field(default_factory=SnapshotPace)
    lost: list[tuple[PeerName, bool, str]] = field(default_factory=list)
    """The members that became dead, or (True) left or were refused, since the owner last asked, and why."""
    back: list[tuple[PeerName, bool]] = field(default_factory=list)
    """The members that exchange began (again) with since the owner last asked, and whether each is another process."""
    absent: set[PeerName] = field(default_factory=set)
    """These members are suspect, gone or unreachable."""

    def find(self, name: str) -> Member | None:
        """The row of a member, if it has one."""
        return self.rows.get(PeerName(name))

    def row(self, name: str, now: float) -> Member | None:
        """The row of a member, created if necessary; None for a stranger."""
        known = self.rows.get(PeerName(name))
        if known is not None or name == self.me.name:
            return known
        contact = self.directory.get(name)
        return self.add(contact, now) if contact is not None else None

    def add(self, contact: Contact, now: float) -> Member:
        """A new row, with nothing heard yet."""
        member = Member(contact.name, contact.address, contact.place, heard_s=now)
        self.rows[contact.name] = member
        if not self.closed:
            self.order.append(contact.name)
        if self.presumes:
            self.timers.set(Timer("drop", contact.name), now + self.limits.business_s)
        self.pace.changed = True
        return member

    def drop(self, name: str, needed: bool, now: float) -> None:
        """Drop a row that says no more than the roster, once it is not `needed`."""
        member = self.find(name)
        if member is None or member.status not in (Status.UNHEARD, Status.ALIVE):
            return
        contact = self.directory.get(name)
        if needed or member.unreachable or contact is None or contact.address != member.address:
            self.timers.set(Timer("drop", name), now + self.limits.business_s)
            return
        del self.rows[member.name]
        self.partners.pop(member.name, None)
        self.timers.set(Timer("greet", name), float("inf"))

    def names(self) -> tuple[PeerName, ...] | list[PeerName]:
        """The names that are probed in turn, perhaps including my own."""
        return self.directory.names if self.closed else self.order

    def address_of(self, name: str) -> Address | None:
        """The address of a member."""
        member = self.find(name)
        contact = member if member is not None else self.directory.get(name)
        return contact.address if contact is not None and name != self.me.name else None

    def living(self) -> int:
        """The number of members that are present as far as I know, including me."""
        if self.presumes:
            return max(self.expected - len(self.absent), 1)
        return 1 + sum(member.status is Status.ALIVE for member in self.rows.values())

    def say(self, member: Member, message: Message) -> None:
        """Queue a message to the known process of a member."""
        self.out.append(Outbound(member.name, member.boot, member.address, message))

    def become(
        self, member: Member, status: Status, kind: EventKind, reason: str, now: float, detail: Detail | None = None
    ) -> None:
        """Change the status of a member, with one event."""
        member.status, member.reason = status, reason
        # A member that left by its own last message is not called; if only others say so, it may be a lie about a
        # member that I was cut off from. In a large run all that left are called: once back, they do not greet all.
        called = status is Status.DEAD or (status is Status.LEFT and (self.presumes or not member.last_word))
        for names, kept in ((self.dead, called), (self.suspects, status is Status.SUSPECT)):
            if kept:
                names[member.name] = None
            else:
                names.pop(member.name, None)
        if status in GONE:
            # Only its own last message is certain: others may say it of a process that was stopped.
            for_good = status is Status.REFUSED or (status is Status.LEFT and member.last_word)
            self.lost.append((member.name, for_good, reason))
            self.pace.urgent = True
        self.note(kind, member.name, reason, now, detail)
        self.settle(member, now)

    def reset(self, member: Member, status: Status, now: float) -> None:
        """As `become`, without an event: there is no suspicion any more."""
        member.status, member.suspicion, member.unreachable, member.declined = status, None, False, False
        self.dead.pop(member.name, None)
        self.suspects.pop(member.name, None)
        self.settle(member, now)

    def settle(self, member: Member, now: float) -> None:
        """After any change of a row: update the exchange partners, and which rows are kept."""
        pace = self.pace
        pace.changed, pace.now_s = True, now
        if self.presumes and now < pace.due_s:
            self.timers.set(Timer("snapshot"), pace.due_s)
        if member.unreachable:
            self.unreachable[member.name] = None
        else:
            self.unreachable.pop(member.name, None)
        absent = member.status in (Status.SUSPECT, *GONE) or member.unreachable
        (self.absent.add if absent else self.absent.discard)(member.name)
        if member.in_business() == (member.name in self.partners):
            return
        self.pace.urgent = True
        if member.in_business():
            self.partners[member.name] = member
            self.back.append((member.name, False))
        else:
            del self.partners[member.name]

    def note(self, kind: EventKind, name: str, reason: str, now: float, detail: Detail | None = None) -> None:
        """Write an event about a member."""
        self.events.append(Event(kind, now, name, reason, detail or {}))


def table_at_start(
    me: Identity, expected: int, closed: bool, contacts: Sequence[Contact], limits: Limits, chance: random.Random
) -> Table:
    """The table at the start of a run: without rows."""
    if not closed:
        contacts = ()
    directory = contacts if isinstance(contacts, Directory) else Directory(contacts)
    size = len(directory) if closed else expected
    return Table(me, limits, expected, closed, directory, chance, presumes=size > limits.greeted_at_start_max)

"""The table of members: one shared roster, and rows for the members that differ from it.

Rules of this file
1. In a small run everybody has a row, is greeted at the start, and is not alive before it was heard. Of a larger roster
   the members are *presumed present*: a row is made when there is business with one, or when one is suspected, dead,
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
    """A message on its way out: to whom ("": only the address is known), to which process of it (0: any)."""

    to: str
    to_boot: int
    address: Address
    message: Message


class Timer(NamedTuple):
    """What is due, and about whom."""

    what: str
    name: str = ""


@dataclass(slots=True)
class SnapshotPace:
    """When the learner is told next: as soon as something has changed that is urgent, or else from `due_s` on."""

    changed: bool = True
    urgent: bool = True
    due_s: float = 0.0
    now_s: float = 0.0
    """This is when something changed last, or was looked at."""


@dataclass(slots=True)
class Table:
    """Rows, and what comes of their changes: messages, events, news for delivery.

    With `closed` only the members of the directory may join (a roster); without, any name may, up to `expected`.
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
    """Names learned without a roster, in the order in which they came."""
    dead: OrderedDict[PeerName, None] = field(default_factory=OrderedDict)
    """Who is called every now and then, longest ago first."""
    suspects: dict[PeerName, None] = field(default_factory=dict)
    unreachable: dict[PeerName, None] = field(default_factory=dict)
    partners: dict[PeerName, Member] = field(default_factory=dict)
    """The rows of those with whom parcels may travel now."""
    timers: Deadlines[Timer] = field(default_factory=Deadlines)
    out: list[Outbound] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pace: SnapshotPace = field(default_factory=SnapshotPace)
    lost: list[tuple[PeerName, bool, str]] = field(default_factory=list)
    """Who became dead, or (True) left or was refused, since the owner looked last, and why."""
    back: list[tuple[PeerName, bool]] = field(default_factory=list)
    """Who came (back) into business since the owner looked last, and whether as another process."""
    absent: set[PeerName] = field(default_factory=set)
    """These are suspect, gone or not to be reached."""

    def find(self, name: str) -> Member | None:
        """The row of a member, if it has one."""
        return self.rows.get(PeerName(name))

    def row(self, name: str, now: float) -> Member | None:
        """The row of a member, made if need be; None for a stranger."""
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
        """Forget a row that says no more than the roster, once it is not `needed`."""
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
        """Everybody whom probes go round, myself perhaps included."""
        return self.directory.names if self.closed else self.order

    def address_of(self, name: str) -> Address | None:
        """Where a member listens."""
        member = self.find(name)
        contact = member if member is not None else self.directory.get(name)
        return contact.address if contact is not None and name != self.me.name else None

    def living(self) -> int:
        """How many are here as far as I know, with me."""
        if self.presumes:
            return max(self.expected - len(self.absent), 1)
        return 1 + sum(member.status is Status.ALIVE for member in self.rows.values())

    def say(self, member: Member, message: Message) -> None:
        """To that process of it which I know."""
        self.out.append(Outbound(member.name, member.boot, member.address, message))

    def become(
        self, member: Member, status: Status, kind: EventKind, reason: str, now: float, detail: Detail | None = None
    ) -> None:
        """A change of state, said once."""
        member.status, member.reason = status, reason
        # Of who has left by its own last word nothing else is to be expected; that others say so may be a lie about one
        # that I was cut off from. In a large run all who left are called: back again, they do not greet everybody.
        called = status is Status.DEAD or (status is Status.LEFT and (self.presumes or not member.last_word))
        for names, kept in ((self.dead, called), (self.suspects, status is Status.SUSPECT)):
            if kept:
                names[member.name] = None
            else:
                names.pop(member.name, None)
        if status in GONE:
            # Certain is only its own last word: others may say it of one that was stopped.
            for_good = status is Status.REFUSED or (status is Status.LEFT and member.last_word)
            self.lost.append((member.name, for_good, reason))
            self.pace.urgent = True
        self.note(kind, member.name, reason, now, detail)
        self.settle(member, now)

    def reset(self, member: Member, status: Status, now: float) -> None:
        """As `become`, without an event: there is no case against it any more."""
        member.status, member.suspicion, member.unreachable, member.declined = status, None, False, False
        self.dead.pop(member.name, None)
        self.suspects.pop(member.name, None)
        self.settle(member, now)

    def settle(self, member: Member, now: float) -> None:
        """After any change of a row: who is in business, and what is to be kept."""
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
        """An event about a member."""
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

"""One simulated process: a real peer, a real mailbox, a learner that is stepped, and a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gossipdistill.ids import PeerName
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Envelope
from gossipdistill.presence import Address
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import Send

NEVER = float("inf")
BACKLOG_MAX = 4096
"""The sockets of a paused process hold this many messages; later ones are lost."""
HANDLING_S = 0.0005
"""An ordinary network thread takes this many seconds to get to a message; a slow process takes `slowdown` times
that."""


class Stepper(Protocol):
    """A learner: it posts to and takes from the mailbox that it was made with, and never waits."""

    def step(self, now: float) -> float | None:
        """Make one step at clock reading `now` of its process; returns the seconds until the next one, or None when it
        is done."""


@dataclass(slots=True)
class Launch:
    """The arguments of a learner: its name and place, the number of its process among those of that name, and its
    mailbox."""

    name: PeerName
    place: int
    incarnation: int
    mailbox: Mailbox


@runtime_checkable
class Leaver(Protocol):
    """A learner that has work to do when its process is asked to end."""

    def part(self, now: float) -> None:
        """Start ending: from now on each step is for that, until one returns None."""


@runtime_checkable
class Newcomer(Protocol):
    """A learner that may ask the others for their model before its first step."""

    @property
    def catches_up(self) -> bool:
        """Whether it is asking now."""


Spawn = Callable[[Launch], Stepper | None]
"""A function that makes the learner of a process that starts; None means a process without one."""


@dataclass(slots=True, eq=False)
class Host:
    """A process from start to end. Times are virtual seconds since the start of the world, unless `local`."""

    name: PeerName
    place: int
    address: Address
    boot: int
    incarnation: int
    peer: Peer
    mailbox: Mailbox
    send: Send = lambda transmit: None
    """This passes a message of its peer to the network."""
    stepper: Stepper | None = None
    started_s: float = 0.0
    clock_offset_s: float = 0.0
    """Its monotonic clock is this many seconds ahead of the world's."""
    running: bool = True
    paused: bool = False
    paused_s: float = 0.0
    slowdown: float = 1.0
    """Its steps and its network thread take this many times as long."""
    backlog: list[Envelope] = field(default_factory=list)
    """These messages wait in its sockets while it is paused."""
    overdue_step: bool = False
    leaving: str = ""
    """The reason why it was asked to end, while its learner finishes its work."""
    timer_s: float = NEVER
    woken: bool = False
    steps: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def wake(self) -> None:
        """Note that the learner has left something in the mailbox."""
        self.woken = True

    def local(self, now_s: float) -> float:
        """The reading of its own clock."""
        return now_s + self.clock_offset_s


def nobody(launch: Launch) -> None:
    """A process without a learner."""


def address_of(place: int) -> Address:
    """The address of the peer at this place; no such machine exists."""
    return Address(f"10.{place >> 14}.{place >> 7 & 127}.{place & 127}", 7400)

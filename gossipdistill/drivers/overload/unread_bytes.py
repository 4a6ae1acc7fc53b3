"""Bytes that came on a connection and were not read yet: how much each connection holds of us. A value machine.

libzmq bounds the size of a frame, but not the number of frames of a message: all of them wait in memory until the last
has come. Nor is there a bound on the messages that wait to be read (see `Sockets`), so there is one here. What came, as
the kernel counts it, less what was handed over is what waits. Encryption and heartbeats come too, and are forgiven at a
rate.

Rules of this file
1. A connection that sends more messages than it may, and has a backlog at that, is cut off: small messages take far
   more memory than bytes on the wire.
2. A connection for data of which more waits than `unread_bytes_max` is paused until most of it has been read: bodies
   may come faster than they are read. One for control with `unread_control_bytes_max` is cut off.
3. One that is paused and not read within `paused_s_max` holds a message that does not end, and is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossipdistill.limits import Limits

_FRAMING_BYTES = 64
"""By which a frame grows on the wire, sealed or not; and more."""
_FORGIVEN_BYTES_PER_S = 4096.0
_READ_SHARE = 0.25
"""A paused connection goes on when no more than this of `unread_bytes_max` waits."""


class Measure(StrEnum):
    """What is to be done with a connection."""

    CUT = "cut"
    PAUSE = "pause"
    GO_ON = "go on"


@dataclass(slots=True)
class UnreadBytes:
    """One connection. Counts are since the look that saw it first, or since it was made if that is known."""

    inode: int | None
    """Not known before the first look."""
    came_before: int = 0
    delivered: int = 0
    forgiven: float = 0.0
    looked_s: float = 0.0
    sender: str = ""
    """Who spoke through it last."""
    in_excess: int = 0
    """Messages since the last look that were dropped unread, for its sender has sent more than it may."""
    paused_s: float | None = None
    """Since when it is paused."""


@dataclass(slots=True)
class UnreadLedger:
    """All connections by file descriptor, those of the last look."""

    limits: Limits
    by_fd: dict[int, UnreadBytes] = field(default_factory=dict)
    is_watched: bool = False
    """Whether somebody looks; else nothing need be noted."""

    def delivered(self, fd: int, frames: int, size: int, sender: str, unread: bool = False) -> None:
        """A message of so many frames and bytes was handed over, or dropped `unread`."""
        account = self.by_fd.get(fd)
        if account is None:
            account = self.by_fd[fd] = UnreadBytes(None)
        account.delivered += size + _FRAMING_BYTES * frames
        account.sender = sender or account.sender
        account.in_excess += unread

    def look(self, fd: int, inode: int, came: int, now: float) -> int:
        """How many bytes wait on this connection, of which `came` have come since it was made."""
        account = self.by_fd.get(fd)
        if account is None or account.inode not in (None, inode):
            # What of it was handed over before is not known. Of a new one that is next to nothing.
            account = self.by_fd[fd] = UnreadBytes(inode, came, looked_s=now)
            return 0
        if account.inode is None:
            account.inode, account.looked_s = inode, now
        account.forgiven += _FORGIVEN_BYTES_PER_S * (now - account.looked_s)
        account.looked_s = now
        waits = came - account.came_before - account.delivered - account.forgiven
        if waits < 0:
            account.forgiven += waits  # nobody saves up: what is forgiven is what was due
            waits = 0
        return int(waits)

    def judge(self, fd: int, waits: int, is_data: bool, now: float) -> Measure | None:
        """What to do with a connection that was just looked at; None for nothing new."""
        account, limits = self.by_fd[fd], self.limits
        floods, account.in_excess = account.in_excess > 0 and waits > limits.backlog_bytes_max, 0
        if floods:
            return Measure.CUT
        if account.paused_s is not None:
            if waits <= _READ_SHARE * limits.unread_bytes_max:
                account.paused_s = None
                return Measure.GO_ON
            return Measure.CUT if now - account.paused_s > limits.paused_s_max else None
        if waits <= (limits.unread_bytes_max if is_data else limits.unread_control_bytes_max):
            return None
        return self.pause(fd, now) if is_data else Measure.CUT

    def pause(self, fd: int, now: float) -> Measure:
        """Of a connection that was looked at."""
        self.by_fd[fd].paused_s = now
        return Measure.PAUSE

    def is_paused(self, fd: int) -> bool:
        """Whether nothing more comes on this connection for now."""
        return fd in self.by_fd and self.by_fd[fd].paused_s is not None

    def keep(self, fds: set[int]) -> None:
        """Forget all others."""
        for fd in [fd for fd in self.by_fd if fd not in fds]:
            del self.by_fd[fd]

    def has_spoken(self, fd: int, inode: int) -> bool:
        """Whether somebody with a name has spoken on this connection."""
        account = self.by_fd.get(fd)
        return account is not None and account.inode in (None, inode) and bool(account.sender)

    def sender_of(self, fd: int) -> str:
        """Who spoke through it last; "" for nobody yet."""
        account = self.by_fd.get(fd)
        return account.sender if account is not None else ""


@dataclass(slots=True)
class Backlog:
    """How much memory has grown since all that had come was last read. It sees also what waits of connections that have
    ended meanwhile, and how much memory messages take that are small on the wire."""

    _base: int | None = None

    def look(self, resident: int | None, is_behind: bool) -> int:
        """In bytes; 0 where nothing waits, or memory cannot be told. `resident` is without bodies that are being put
        together."""
        if resident is None:
            return 0
        if not is_behind or self._base is None:
            self._base = resident
        return max(0, resident - self._base)

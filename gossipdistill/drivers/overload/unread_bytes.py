"""Bytes that arrived on a connection and are unread: how much memory each connection holds. A value machine.

libzmq bounds the size of a frame, but not the number of frames of a message: all of them wait in memory until the last
has arrived. Nor is there a bound on the messages that wait to be read (see `Sockets`), so there is one here. Waiting
bytes are the bytes that arrived, as counted by the kernel, minus those that were handed over. Encryption and heartbeats
arrive too, and are deducted at a fixed rate.

Rules of this file
1. A connection that exceeds its message rate and also has a backlog is cut off: small messages take far more memory
   than bytes on the wire.
2. A data connection with more than `unread_bytes_max` waiting is paused until most of it has been read: bodies may
   arrive faster than they are read. A control connection with `unread_control_bytes_max` is cut off.
3. A connection that is paused and not read within `paused_s_max` holds a message that does not end, and is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gossipdistill.limits import Limits

_FRAMING_BYTES = 64
"""A frame grows by at most this on the wire, sealed or not."""
_FORGIVEN_BYTES_PER_S = 4096.0
_READ_SHARE = 0.25
"""A paused connection continues when at most this share of `unread_bytes_max` waits."""


class Measure(StrEnum):
    """What to do with a connection."""

    CUT = "cut"
    PAUSE = "pause"
    GO_ON = "go on"


@dataclass(slots=True)
class UnreadBytes:
    """One connection. Counts start at the check that saw it first, or at its creation if that is known."""

    inode: int | None
    """The inode is None before the first check."""
    came_before: int = 0
    delivered: int = 0
    forgiven: float = 0.0
    looked_s: float = 0.0
    sender: str = ""
    """The peer that spoke on it last."""
    in_excess: int = 0
    """The number of messages since the last check that were dropped unread because their sender exceeded its rate."""
    paused_s: float | None = None
    """The time since which it is paused; None if it is not."""


@dataclass(slots=True)
class UnreadLedger:
    """All connections of the last check, by file descriptor."""

    limits: Limits
    by_fd: dict[int, UnreadBytes] = field(default_factory=dict)
    is_watched: bool = False
    """This says whether checks are made; without them nothing needs to be noted."""

    def delivered(self, fd: int, frames: int, size: int, sender: str, unread: bool = False) -> None:
        """Note that a message of `frames` frames and `size` bytes was handed over, or dropped `unread`."""
        account = self.by_fd.get(fd)
        if account is None:
            account = self.by_fd[fd] = UnreadBytes(None)
        account.delivered += size + _FRAMING_BYTES * frames
        account.sender = sender or account.sender
        account.in_excess += unread

    def look(self, fd: int, inode: int, came: int, now: float) -> int:
        """The number of bytes that wait on this connection, of which `came` have arrived since it was made."""
        account = self.by_fd.get(fd)
        if account is None or account.inode not in (None, inode):
            # What was handed over before is not known. On a new connection that is next to nothing.
            account = self.by_fd[fd] = UnreadBytes(inode, came, looked_s=now)
            return 0
        if account.inode is None:
            account.inode, account.looked_s = inode, now
        account.forgiven += _FORGIVEN_BYTES_PER_S * (now - account.looked_s)
        account.looked_s = now
        waits = came - account.came_before - account.delivered - account.forgiven
        if waits < 0:
            account.forgiven += waits  # unused deductions do not accumulate
            waits = 0
        return int(waits)

    def judge(self, fd: int, waits: int, is_data: bool, now: float) -> Measure | None:
        """What to do with a connection that was just checked; None means no change."""
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
        """Pause a connection that was just checked."""
        self.by_fd[fd].paused_s = now
        return Measure.PAUSE

    def is_paused(self, fd: int) -> bool:
        """Whether this connection is paused now."""
        return fd in self.by_fd and self.by_fd[fd].paused_s is not None

    def keep(self, fds: set[int]) -> None:
        """Forget all connections except these."""
        for fd in [fd for fd in self.by_fd if fd not in fds]:
            del self.by_fd[fd]

    def has_spoken(self, fd: int, inode: int) -> bool:
        """Whether a peer with a name has spoken on this connection."""
        account = self.by_fd.get(fd)
        return account is not None and account.inode in (None, inode) and bool(account.sender)

    def sender_of(self, fd: int) -> str:
        """The peer that spoke on it last; "" for none yet."""
        account = self.by_fd.get(fd)
        return account.sender if account is not None else ""


@dataclass(slots=True)
class Backlog:
    """The growth of memory since the last time when all arrivals were read. It includes waiting bytes of connections
    that have ended meanwhile, and the memory of messages that are small on the wire."""

    _base: int | None = None

    def look(self, resident: int | None, is_behind: bool) -> int:
        """The growth in bytes; 0 where nothing waits, or memory is not known. `resident` excludes bodies that are being
        assembled."""
        if resident is None:
            return 0
        if not is_behind or self._base is None:
            self._base = resident
        return max(0, resident - self._base)

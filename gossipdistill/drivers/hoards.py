"""Bytes that came on a connection and made no message: how much each connection holds of us. A value machine.

libzmq bounds the size of a frame and the number of messages in a queue, but not the number of frames of a message: all
of them wait in memory until the last has come. What came, as the kernel counts it, less what was handed over is what
waits. Encryption and heartbeats come too, and are forgiven at a rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_FRAMING_BYTES = 64
"""By which a frame grows on the wire, sealed or not; and more."""
_FORGIVEN_BYTES_PER_S = 4096.0


@dataclass(slots=True)
class Hoard:
    """One connection. Counts are since the look that saw it first, or since it was made if that is known."""

    inode: int | None
    """Not known before the first look."""
    came_before: int = 0
    delivered: int = 0
    forgiven: float = 0.0
    looked_s: float = 0.0
    sender: str = ""
    """Who spoke through it last."""


@dataclass(slots=True)
class Hoards:
    """All connections by file descriptor, those of the last look."""

    hoard_bytes_max: int
    by_fd: dict[int, Hoard] = field(default_factory=dict)

    def delivered(self, fd: int, frames: int, size: int, sender: str) -> None:
        """A message of so many frames and bytes was handed over."""
        hoard = self.by_fd.get(fd)
        if hoard is None:
            hoard = self.by_fd[fd] = Hoard(None)
        hoard.delivered += size + _FRAMING_BYTES * frames
        hoard.sender = sender

    def look(self, fd: int, inode: int, came: int, now: float) -> int:
        """How many bytes wait on this connection, of which `came` have come since it was made."""
        hoard = self.by_fd.get(fd)
        if hoard is None or hoard.inode not in (None, inode):
            # What of it was handed over before is not known. Of a new one that is next to nothing.
            hoard = self.by_fd[fd] = Hoard(inode, came, looked_s=now)
            return 0
        if hoard.inode is None:
            hoard.inode, hoard.looked_s = inode, now
        hoard.forgiven += _FORGIVEN_BYTES_PER_S * (now - hoard.looked_s)
        hoard.looked_s = now
        waits = came - hoard.came_before - hoard.delivered - hoard.forgiven
        if waits < 0:
            hoard.forgiven += waits  # nobody saves up: what is forgiven is what was due
            waits = 0
        return int(waits)

    def keep(self, fds: set[int]) -> None:
        """Forget all others."""
        for fd in [fd for fd in self.by_fd if fd not in fds]:
            del self.by_fd[fd]

    def is_too_much(self, waits: int) -> bool:
        """Whether no honest connection holds so much."""
        return waits > self.hoard_bytes_max

    def sender_of(self, fd: int) -> str:
        """Who spoke through it last; "" for nobody yet."""
        hoard = self.by_fd.get(fd)
        return hoard.sender if hoard is not None else ""

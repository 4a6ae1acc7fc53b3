"""Memory for large bodies that arrive in pieces; it is reused as soon as it is no longer viewed.

Fresh memory is expensive: the first touch of 100 MB took 50 ms where copying them took 7, because the system hands out
each page singly and zeroed. A buffer is free when no view of it is left, which Python itself reports: a viewed object
cannot change its size. Buffers are mapped, so that one takes memory only as bytes arrive, and in large pages where the
system has them: 135 MB took 33 ms of CPU instead of the 90 ms of a `bytearray`, which fills itself with zeros first.

libzmq allocates the frames of the pieces and returns them to the allocator of C. glibc gives free memory at the end of
its heap back to the system as soon as it exceeds twice the largest block ever returned to it: two pieces. A reader that
is a little late then touches the same pages afresh again and again: for 100 MB the median was 500 to 5,000 page faults
in some processes and none in others, by chance. Hence `keep_freed`.

After a flood of pieces it was much more: up to 600 MB of unused memory, below a block in use, was kept for the rest of
the run. Hence `Freed`.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
from dataclasses import dataclass

_KEPT_BYTES_MAX = 31 << 20
"""Only smaller blocks than 32 MiB change what glibc keeps: it returns larger ones in any case."""


def keep_freed(size: int) -> None:
    """Make the allocator keep about `size` returned bytes, at most 62 MiB, for the next allocation.

    Returning one block of half that size, none of which was touched, is enough; every process that has returned a large
    array has done the same. Without glibc it does nothing.
    """
    bytes(min(size // 2, _KEPT_BYTES_MAX))


@dataclass(slots=True)
class Freed:
    """After more than `bytes_max` have waited to be read, gives the unused memory of the allocator of C back to the
    system. Without glibc it does nothing."""

    bytes_max: int
    _most: int = 0
    """The largest number of bytes that waited since memory was last given back."""

    def look(self, waits: int) -> None:
        """Note the number of waiting bytes; to be called regularly. Giving back takes about 10 ms for 100 MB, so it
        needs a cause: what a learner frees at each step is for its next step."""
        self._most = max(self._most, waits)
        if self._most <= self.bytes_max or waits > self.bytes_max // 4:
            return
        self._most = 0
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(slots=True, eq=False)
class _Known:
    """A buffer, and the time since which it has been idle."""

    memory: mmap.mmap
    idle_since_s: float | None = None


class Buffers:
    """Hands out writable views. Idle buffers take at most `idle_bytes_max` in all, and are kept for `idle_s` seconds: a
    peer that exchanges less often has that memory for other uses meanwhile."""

    def __init__(self, idle_bytes_max: int, idle_s: float = math.inf) -> None:
        self._idle_bytes_max, self._idle_s = idle_bytes_max, idle_s
        self.known: list[_Known] = []
        self._looked_s = -math.inf

    def allocate(self, size: int) -> memoryview:
        """A writable view of `size` bytes, with arbitrary content."""
        idle = [known for known in self.known if _is_idle(known.memory)]
        fitting = [known for known in idle if size <= len(known.memory) <= 2 * size]
        chosen = min(fitting, key=lambda known: len(known.memory)) if fitting else _Known(_fresh(size))
        if not fitting:
            self.known.append(chosen)
        chosen.idle_since_s = None
        self._trim([known for known in idle if known is not chosen])
        return memoryview(chosen.memory)[:size]

    def mapped_bytes(self) -> int:
        """The bytes that are handed out or idle, whether they were touched or not."""
        return sum(len(known.memory) for known in self.known)

    def rest(self, now: float) -> None:
        """Give back buffers that were idle for `idle_s` (within a quarter of it); to be called regularly."""
        if not self.known or now - self._looked_s < self._idle_s / 4:
            return
        self._looked_s = now
        for known in list(self.known):
            if not _is_idle(known.memory):
                known.idle_since_s = None
            elif known.idle_since_s is None:
                known.idle_since_s = now
            elif now - known.idle_since_s >= self._idle_s:
                self._give_back(known)

    def _trim(self, idle: list[_Known]) -> None:
        """Give back idle buffers beyond the bound, the oldest first."""
        excess = sum(len(known.memory) for known in idle) - self._idle_bytes_max
        for known in idle:
            if excess <= 0:
                break
            excess -= len(known.memory)
            self._give_back(known)

    def _give_back(self, known: _Known) -> None:
        self.known.remove(known)
        known.memory.close()


def _fresh(size: int) -> mmap.mmap:
    """Memory that no other process shares.

    Raises:
        MemoryError: where there is none.
    """
    try:
        buffer = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size} bytes to be had: {error.strerror}") from None
    with contextlib.suppress(AttributeError, OSError):  # only on Linux, and not with every kernel
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _is_idle(buffer: mmap.mmap) -> bool:
    try:
        buffer.resize(len(buffer))
    except BufferError:
        return False
    except SystemError:  # no system call for it here; for a viewed buffer it would have been a BufferError
        return True
    except AttributeError:
        return False
    return True

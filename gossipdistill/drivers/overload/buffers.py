"""Memory for large bodies that come in pieces, used again as soon as nobody looks at it any more.

Fresh memory is dear: the first touch of 100 MB took 50 ms where copying them took 7, because the system hands each page
out singly and zeroed. A buffer is free when no view of it is left, which Python itself says: what is viewed cannot
change its size. Buffers are mapped, so that one takes memory only as bytes come, and in large pages where there are
any: 135 MB took 33 ms of CPU instead of the 90 ms of a `bytearray`, which fills itself with zeros first.

The frames that the pieces come in are allocated by libzmq, and returned to the allocator of C. glibc hands what is free
at the end of its heap back to the system as soon as that is more than twice the largest block ever returned to it: two
pieces. A reader that is a little late then touches the same pages afresh again and again: for 100 MB the median was 500
to 5,000 page faults in some processes and none in others, by luck. Hence `keep_freed`.

After a flood of pieces there was much more: up to 600 MB that nobody used, below a block that somebody did, stayed for
the rest of the run. Hence `Freed`.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
from dataclasses import dataclass

_KEPT_BYTES_MAX = 31 << 20
"""Blocks from 32 MiB on leave no trace in glibc: it means to return them whatever was returned before."""


def keep_freed(size: int) -> None:
    """Have the allocator keep about `size` bytes that were returned to it, at most 62 MiB, for the next who needs them.

    Returning one block of half that size, none of which was touched, is all that it takes; it is what any process does
    that has returned a large array. Elsewhere than under glibc it does nothing.
    """
    bytes(min(size // 2, _KEPT_BYTES_MAX))


@dataclass(slots=True)
class Freed:
    """After more than `bytes_max` have waited to be read, gives back to the system what the allocator of C holds and
    nobody uses. Elsewhere than under glibc it does nothing."""

    bytes_max: int
    _most: int = 0
    """The most that has waited since memory was last given back."""

    def look(self, waits: int) -> None:
        """To be told now and then how many bytes wait. Giving back takes about 10 ms for 100 MB, so nothing is done
        without cause: what a learner frees at each step is for its next."""
        self._most = max(self._most, waits)
        if self._most <= self.bytes_max or waits > self.bytes_max // 4:
            return
        self._most = 0
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(slots=True, eq=False)
class _Known:
    """A buffer, and since when it has been seen idle."""

    memory: mmap.mmap
    idle_since_s: float | None = None


class Buffers:
    """Hands out writable views. What lies idle is at most `idle_bytes_max` in all, and for `idle_s` seconds: whoever
    exchanges more rarely than that has the memory for itself meanwhile."""

    def __init__(self, idle_bytes_max: int, idle_s: float = math.inf) -> None:
        self._idle_bytes_max, self._idle_s = idle_bytes_max, idle_s
        self.known: list[_Known] = []
        self._looked_s = -math.inf

    def allocate(self, size: int) -> memoryview:
        """A writable view of `size` bytes, whose content is whatever was there before."""
        idle = [known for known in self.known if _is_idle(known.memory)]
        fitting = [known for known in idle if size <= len(known.memory) <= 2 * size]
        chosen = min(fitting, key=lambda known: len(known.memory)) if fitting else _Known(_fresh(size))
        if not fitting:
            self.known.append(chosen)
        chosen.idle_since_s = None
        self._trim([known for known in idle if known is not chosen])
        return memoryview(chosen.memory)[:size]

    def mapped_bytes(self) -> int:
        """All that is handed out or idle, whether it was touched or not."""
        return sum(len(known.memory) for known in self.known)

    def rest(self, now: float) -> None:
        """To be called now and then: give back what nobody has looked at for `idle_s`, to a quarter of it."""
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
        """Give back what lies idle beyond the bound, the longest known first."""
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
    """Memory of this process alone.

    Raises:
        MemoryError: where there is none.
    """
    try:
        buffer = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size} bytes to be had: {error.strerror}") from None
    with contextlib.suppress(AttributeError, OSError):  # of Linux, and not of every kernel
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _is_idle(buffer: mmap.mmap) -> bool:
    try:
        buffer.resize(len(buffer))
    except BufferError:
        return False
    except SystemError:  # no system call for it here; of one that is looked at, this is not even tried
        return True
    except AttributeError:
        return False
    return True

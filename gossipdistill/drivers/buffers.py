"""Memory for large bodies that come in pieces, used again as soon as nobody looks at it any more.

Fresh memory is dear: the first touch of 100 MB took 50 ms where copying them took 7, because the system hands each page
out singly and zeroed. A buffer is free when no view of it is left, which Python itself says: what is viewed cannot
change its size.

The frames that the pieces come in are allocated by libzmq, and returned to the allocator of C. glibc hands what is free
at the end of its heap back to the system as soon as that is more than twice the largest block ever returned to it: two
pieces. A reader that is a little late then touches the same pages afresh again and again: for 100 MB the median was 500
to 5,000 page faults in some processes and none in others, by luck. Hence `keep_freed`.
"""

from __future__ import annotations

_KEPT_BYTES_MAX = 31 << 20
"""Blocks from 32 MiB on leave no trace in glibc: it means to return them whatever was returned before."""


def keep_freed(size: int) -> None:
    """Have the allocator keep about `size` bytes that were returned to it, at most 62 MiB, for the next who needs them.

    Returning one block of half that size, none of which was touched, is all that it takes; it is what any process does
    that has returned a large array. Elsewhere than under glibc it does nothing.
    """
    bytes(min(size // 2, _KEPT_BYTES_MAX))


class Buffers:
    """Hands out writable views. What lies idle is at most `idle_bytes_max` in all."""

    def __init__(self, idle_bytes_max: int) -> None:
        self._idle_bytes_max = idle_bytes_max
        self._known: list[bytearray] = []

    def allocate(self, size: int) -> memoryview:
        """A writable view of `size` bytes, whose content is whatever was there before."""
        idle = [buffer for buffer in self._known if _is_idle(buffer)]
        fitting = [buffer for buffer in idle if size <= len(buffer) <= 2 * size]
        chosen = min(fitting, key=len) if fitting else bytearray(size)
        if not fitting:
            self._known.append(chosen)
        self._trim([buffer for buffer in idle if buffer is not chosen])
        return memoryview(chosen)[:size]

    def _trim(self, idle: list[bytearray]) -> None:
        """Give back what lies idle beyond the bound, the longest known first."""
        excess = sum(map(len, idle)) - self._idle_bytes_max
        for buffer in idle:
            if excess <= 0:
                break
            excess -= len(buffer)
            self._known = [other for other in self._known if other is not buffer]


def _is_idle(buffer: bytearray) -> bool:
    try:
        buffer.append(buffer.pop())
    except BufferError:
        return False
    return True

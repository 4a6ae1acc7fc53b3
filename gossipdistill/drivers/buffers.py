"""Memory for large bodies that come in pieces, used again as soon as nobody looks at it any more.

Fresh memory is dear: the first touch of 100 MB took 50 ms where copying them took 7, because the system hands each page
out singly and zeroed. A buffer is free when no view of it is left, which Python itself says: what is viewed cannot
change its size.
"""

from __future__ import annotations


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

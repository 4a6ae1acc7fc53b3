"""A network wire that is long, thin or lossy: `python wire.py NEAR FAR DELAY_S LOSS BYTES_PER_S`.

It joins two TAP interfaces, which it makes where it is started, says `ready`, and carries each Ethernet frame from the
one to the other after so many seconds, one after another at that rate (0: as fast as they come), and with that
probability of losing it, drawn from a fixed seed. It needs nothing of the kernel but TAP, so it works where `tc netem`
is not built in. Whoever started it moves the interfaces to where they belong; the wire keeps hold of both ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
"""Of <linux/if_tun.h>."""
_FRAME_BYTES_MAX = 65_600
_QUEUE_S = 0.5
"""What would wait longer for its turn on a thin wire is lost, as in a router."""


def tap(name: str) -> int:
    """One end: a file descriptor on which Ethernet frames come and go."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return end


def carry(ends: tuple[int, int], delay_s: float, loss: float, bytes_per_s: float) -> None:
    """Carry frames in both directions for ever."""
    other = dict(zip(ends, reversed(ends), strict=True))
    on_the_way: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    free_at_s = dict.fromkeys(ends, 0.0)
    draws = random.Random(0)
    while True:
        now = time.monotonic()
        due = [frames[0][0] for frames in on_the_way.values() if frames]
        readable, _, _ = select.select(ends, [], [], max(min(due) - now, 0.0) if due else None)
        now = time.monotonic()
        for end in readable:
            to = other[end]
            frame = os.read(end, _FRAME_BYTES_MAX)
            if draws.random() < loss or free_at_s[to] > now + _QUEUE_S:
                continue
            free_at_s[to] = max(free_at_s[to], now) + (len(frame) / bytes_per_s if bytes_per_s else 0.0)
            on_the_way[to].append((free_at_s[to] + delay_s, frame))
        for end, frames in on_the_way.items():
            while frames and frames[0][0] <= now:
                try:
                    os.write(end, frames.popleft()[1])
                except (BlockingIOError, OSError):
                    continue  # an interface that is down takes nothing


if __name__ == "__main__":
    near, far = tap(sys.argv[1]), tap(sys.argv[2])
    print("ready", flush=True)
    carry((near, far), *map(float, sys.argv[3:6]))

"""The names and numbers that all layers share.

Two numbers are never mixed. `Boot` changes once per process start and orders versions; `number` counts what one
process published since its boot. A version is compared as the pair, so that a restarted peer is always newer.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

PeerName = NewType("PeerName", str)
"""A peer name matches `[a-z0-9][a-z0-9._-]{0,63}`: safe as a folder name, a routing identity and a host name."""

Boot = NewType("Boot", int)
"""A boot is chosen once per process start. It is the larger of wall-clock milliseconds and 1 more than the highest boot
ever heard for my name."""

PEER_NAME_RULE = "1 to 64 of a-z, 0-9, '.', '_', '-', beginning with a letter or digit"
_PEER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Version(NamedTuple):
    """Orders the states of one sender: first by process, then by publication of that process."""

    boot: int
    number: int


def is_peer_name(text: str) -> bool:
    """Whether `text` may name a peer."""
    return _PEER_NAME.fullmatch(text) is not None


def next_boot(wall_clock_s: float, highest_heard: int = 0) -> Boot:
    """The boot of a process that starts now, above every boot that was ever heard for its name."""
    return Boot(max(int(wall_clock_s * 1000), highest_heard + 1))

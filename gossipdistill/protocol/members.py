"""Who a peer is: the nouns of membership."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Address


class Status(StrEnum):
    """What I believe of a member."""

    UNHEARD = "unheard"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who I am: `place` is my index in the roster (or of my shard), `address` where others reach me."""

    name: PeerName
    boot: Boot
    address: Address
    place: int
    fingerprint: Mapping[str, str]


@dataclass(slots=True)
class Member:
    """What I know of one other peer. Times are readings of my clock in seconds.

    `met`: it has addressed this process of mine by its boot, so it has accepted me. Before, it would not listen.
    """

    name: PeerName
    address: Address
    place: int
    status: Status = Status.UNHEARD
    boot: int = 0
    met: bool = False
    heard_s: float = 0.0
    step: int = 0
    done: bool = False
    greet_at_s: float = 0.0
    greet_gap_s: float = 0.0
    reason: str = "nothing heard yet"


_VALUE_SHOWN_MAX = 80


def fingerprint_difference(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """What differs between two fingerprints, in words; empty when nothing does."""
    names = sorted(set(mine) | set(theirs))
    parts = [
        f"{name[:_VALUE_SHOWN_MAX]}: {_shown(mine.get(name))} here, {_shown(theirs.get(name))} there"
        for name in names
        if mine.get(name) != theirs.get(name)
    ]
    return "; ".join(parts)


def _shown(value: str | None) -> str:
    return "none" if value is None else value[:_VALUE_SHOWN_MAX]

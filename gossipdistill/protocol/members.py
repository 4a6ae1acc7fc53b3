"""What is known of a peer: the data types of membership."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import FEATURES
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.protocol.suspicion import Suspicion


class Status(StrEnum):
    """The status that I believe a member to have."""

    UNHEARD = "unheard"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Identity:
    """My own identity: `place` is my index in the roster (or of my shard), `address` is where others reach me,
    `features` is what my greetings name."""

    name: PeerName
    boot: Boot
    address: Address
    place: int
    fingerprint: Mapping[str, str]
    features: tuple[str, ...] = FEATURES

    def can_dial(self, address: Address) -> bool:
        """Whether one of us can open a link to the other."""
        return address != NOWHERE or self.address != NOWHERE


@dataclass(slots=True)
class Member:
    """What I know of one other peer. Times are readings of my clock in seconds.

    `accepted`: the greeting of its process `boot` was in order. `met`: it has addressed this process of mine by its
    boot, so it has accepted me. Before that it would ignore my messages.
    """

    name: PeerName
    address: Address
    place: int
    status: Status = Status.UNHEARD
    boot: int = 0
    accepted: bool = False
    met: bool = False
    features: frozenset[str] = frozenset()
    """The features that the accepted greeting of its process `boot` named, known here or not."""
    heard_s: float = 0.0
    step: int = 0
    done: bool = False
    reason: str = "nothing heard yet"
    incarnation: int = -1
    """The highest incarnation of this process that it, or an accepted claim, has named; -1 means none yet."""
    suspicion: Suspicion | None = None
    """The suspicion against it, while it is suspect, or dead without its own last message."""
    unreachable: bool = False
    """It answers others, and has not been heard by me for a while."""
    last_word: bool = False
    """It has told me itself that it ends."""
    declined: bool = False
    """Its own message made it REFUSED. If the same process addresses me later, it has accepted me after all."""
    probed_s: float = float("-inf")
    greet_at_s: float = 0.0
    greet_gap_s: float = 0.0
    hinted_s: float = float("-inf")
    """The time at which it was last greeted or probed because of what a third peer said."""

    def in_business(self) -> bool:
        """Whether parcels are exchanged: we hear one another."""
        return self.status is Status.ALIVE and self.met and not self.unreachable


_VALUE_SHOWN_MAX = 80


def fingerprint_difference(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """The differences between two fingerprints, in words; empty when there are none."""
    names = sorted(set(mine) | set(theirs))
    parts = [
        f"{name[:_VALUE_SHOWN_MAX]}: {_shown(mine.get(name))} here, {_shown(theirs.get(name))} there"
        for name in names
        if mine.get(name) != theirs.get(name)
    ]
    return "; ".join(parts)


def _shown(value: str | None) -> str:
    return "none" if value is None else value[:_VALUE_SHOWN_MAX]

"""Which peers take mass and never give any: a peer that only absorbs would drain all others of their weight.

- On a link that is used both ways within a cycle of the schedule, mass comes back: an honest peer publishes every few
  of its own steps, however slow it is, and a link takes the next parcel only when the last one is absorbed. A peer that
  has absorbed `UNANSWERED_MAX` parcels of mine in a row and given none back gets nothing for `PAUSE_S` seconds, and it
  is named. Then it is tried again. Before that, a peer with `DRY_MAX` unanswered parcels gets no share that would leave
  me less than `DRY_WEIGHT`.
- A one-way link has no such rule: a successor on a directed ring never gives back. But as long as nothing has come from
  any peer for `DRY_MAX` of my exchanges, no split leaves me less than `DRY_WEIGHT`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from gossipdistill.ids import PeerName

UNANSWERED_MAX = 20
PAUSE_S = 30.0
DRY_MAX = 3
DRY_WEIGHT = 0.25


@dataclass(slots=True)
class Reciprocity:
    """One peer's count of what it gave and got."""

    unanswered: Counter[PeerName] = field(default_factory=Counter)
    paused: dict[PeerName, float] = field(default_factory=dict)
    """A peer is given nothing until this clock reading (s)."""
    dry: int = 0
    """This counts my exchanges since anything came."""

    def came(self, sender: PeerName) -> None:
        """Mass of this peer was absorbed."""
        self.dry = 0
        self.unanswered.pop(sender, None)
        self.paused.pop(sender, None)

    def gave(self, to: Set[PeerName], two_way: Set[str], now_s: float) -> list[PeerName]:
        """Count a parcel that has left for each of these. Returns those that are given nothing from now on."""
        self.dry += 1
        self.unanswered.update(name for name in to if name in two_way)
        found = sorted(name for name in to if self.unanswered[name] >= UNANSWERED_MAX)
        for name in found:
            self.unanswered[name] = 0
            self.paused[name] = now_s + PAUSE_S
        return found

    def welcome(self, free: Sequence[PeerName], weight: float, now_s: float) -> tuple[PeerName, ...]:
        """The peers among those with `free` links that are given a share of this weight."""
        to = [name for name in free if not now_s < self.paused.get(name, -math.inf)]
        if weight < DRY_WEIGHT * (1 + len(to)):
            to = [name for name in to if self.unanswered[name] < DRY_MAX]
        return () if self.dry >= DRY_MAX and weight < DRY_WEIGHT * (1 + len(to)) else tuple(to)

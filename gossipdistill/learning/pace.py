"""How often a peer steps and gets messages, by its own clock, and the age at which these have gone stale.

A horizon in seconds that suits steps of 20 ms leaves hardly a word in use where a step takes two seconds. So, unless
`exchange.stale_after_s` is set, the horizon of one sender's words follows the pace:

    horizon = max(FLOOR_S, PERIODS * words * max(gap of that sender, every_steps * gap between my own steps))

Each gap is the second largest of the last `KEPT` ones. One pause (a suspended machine, a split, a lost message) counts
for nothing, and words that come in pairs do not pass for a quick rhythm. A straggler has a long horizon and is not
forgotten between two of its words; a dead peer is forgotten `PERIODS` of its own periods after its last word. A peer
that is slow itself does not call old what has waited for it during one step. `words` is the number of messages that
make a whole. Times are arguments, so the rule is the same in virtual time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FLOOR_S = 30.0
"""A word that is younger than this (s) has not gone stale, however quick the pace."""
PERIODS = 5
"""A teacher whose words come at a steady rhythm weighs 0.9 in the mean, and still 0.6 when one of them is lost."""
KEPT = 5


@dataclass(slots=True)
class Gaps:
    """The last times between two events of one kind, in seconds."""

    last_s: float | None = None
    usual_s: float = 0.0
    """It is the second largest of the last `KEPT` gaps (s); the only one, where there is one; 0 where there is none."""
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def look(self, at_s: float) -> None:
        """Note that the event has happened once more."""
        if self.last_s is not None and at_s > self.last_s:
            self._gaps.append(at_s - self.last_s)
            self.usual_s = sorted(self._gaps)[max(len(self._gaps) - 2, 0)]
        self.last_s = at_s if self.last_s is None else max(at_s, self.last_s)


@dataclass(slots=True)
class Paces:
    """The gaps between the steps of one peer, and between the words of each sender as they arrive."""

    steps: Gaps = field(default_factory=Gaps)
    senders: dict[str, Gaps] = field(default_factory=dict)

    def heard(self, sender: str, arrived_s: float) -> None:
        """A word of this sender has come."""
        self.senders.setdefault(sender, Gaps()).look(arrived_s)

    def period_s(self, every_steps: int, sender: str | None = None) -> float:
        """The usual interval in seconds between two words of `sender`, or between two exchanges of mine, `every_steps`
        of my own steps apart, if that is longer. Without a sender: between two words of the most frequent sender."""
        if sender is None:
            gap_s = min((gaps.usual_s for gaps in self.senders.values()), default=0.0)
        else:
            gap_s = self.senders[sender].usual_s if sender in self.senders else 0.0
        return max(gap_s, every_steps * self.steps.usual_s)

    def horizon_s(self, every_steps: int, sender: str | None = None, words: int = 1) -> float:
        """The age in seconds at which a word of `sender`, or of the most frequent sender, has no weight any more."""
        return max(FLOOR_S, PERIODS * words * self.period_s(every_steps, sender))

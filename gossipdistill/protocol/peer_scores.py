"""The behaviour of others: which messages of each peer were turned away and why, and which peers are muted because of
it.

Rules of this file
1. What is turned away is counted by (peer, reason), and reported once for each; nothing of it has reached the learner.
2. An *offence* is what no honest peer does, whatever its network does to it: a payload of NaN, a wrong shape, a flood.
   A peer has a credit of `offences_max`, and one is forgiven every `penalty_forgiven_s`.
3. A peer that has used up its credit is *muted* for `mute_s`, each time for twice as long, up to `mute_max_s`. Its
   mutes are forgotten when it has not been muted for `mute_forgotten_s`. The mute ends by itself, with full credit.
4. A muted peer keeps its place: its probes are answered, and what it says of itself is believed. Its states and
   announcements are dropped, its mass is refused whole, so that it returns to its owner.
5. What happens to honest peers is no offence: duplicates and overtaken versions are only counted, up to the number that
   a bad network causes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.protocol.deadlines import Deadlines
from gossipdistill.protocol.token_bucket import TokenBucket

MUTED, REPLAY = "muted", "replay"
_NEVER_YET = float("-inf")


@dataclass(slots=True)
class Record:
    """The offences of one peer."""

    credit: TokenBucket
    repeats: TokenBucket
    offences: Counter[str] = field(default_factory=Counter)
    """The number of offences since it was last muted, by reason."""
    mutes: int = 0
    began_s: float = _NEVER_YET
    until_s: float = _NEVER_YET
    dropped: int = 0
    """The number of messages that were dropped since it was last muted."""


@dataclass(slots=True)
class PeerScores:
    """The records of all members. `turned_away` counts messages by (peer, reason); strangers are counted under the name
    ""."""

    limits: Limits
    turned_away: Counter[tuple[str, str]] = field(default_factory=Counter)
    muted: frozenset[PeerName] = frozenset()
    """These peers are muted until `handle_timeout` ends it."""
    events: list[Event] = field(default_factory=list)
    _records: dict[PeerName, Record] = field(default_factory=dict)
    _ends: Deadlines[PeerName] = field(default_factory=Deadlines)

    @property
    def turned_away_in_words(self) -> dict[str, int]:
        """The counts by "peer: reason"; ": reason" for those of strangers."""
        return {f"{name}: {reason}": count for (name, reason), count in sorted(self.turned_away.items())}

    def turn_away(self, name: str, reason: str, now: float, problem: str = "") -> None:
        """Count a message that was not accepted. With a `problem`, in words, the first of its kind is an event."""
        self.turned_away[name, reason] += 1
        if problem and self.turned_away[name, reason] == 1:
            self.events.append(Event(EventKind.QUARANTINED, now, name, problem, {"code": reason}))

    def offend(self, name: PeerName, reason: str, now: float, weight: int = 1) -> None:
        """Count an offence of this member; it weighs as much as `weight` offences."""
        record = self._record(name)
        if now < record.until_s:
            return  # in flight to me, or in my inbox, when it was muted
        record.offences[reason] += 1
        if not record.credit.spend(weight, now):
            self._mute(name, record, now)

    def repeat(self, name: PeerName, now: float) -> None:
        """Count a message that had arrived before, or after a newer version: as when a confirmation was lost."""
        self.turn_away(name, "repeated", now)
        if not self._record(name).repeats.spend(1, now):
            problem = f"sends again what has come: more than {self.limits.repeats_per_s:g} times a second"
            self.turn_away(name, REPLAY, now, problem)
            self.offend(name, REPLAY, now)

    def mutes(self, name: PeerName, now: float) -> bool:
        """Whether this member is muted now."""
        record = self._records.get(name)
        return record is not None and now < record.until_s

    def drop(self, name: PeerName, now: float) -> None:
        """Count a dropped message of a muted member."""
        self._record(name).dropped += 1
        self.turn_away(name, MUTED, now)

    def next_timeout(self) -> float:
        """The time at which the next mute ends."""
        return self._ends.next_s()

    def handle_timeout(self, now: float) -> None:
        """Report the peers whose mute has ended."""
        for name in self._ends.pop_due(now):
            record = self._records[name]
            reason = f"listened to again after {now - record.began_s:.0f} s; {record.dropped} messages were turned away"
            self.events.append(Event(EventKind.UNMUTED, now, name, reason, {"dropped": record.dropped}))
            record.dropped = 0
            self.muted -= {name}

    def _mute(self, name: PeerName, record: Record, now: float) -> None:
        limits = self.limits
        if now - record.until_s > limits.mute_forgotten_s:
            record.mutes = 0
        mute_s = min(limits.mute_s * 2.0 ** min(record.mutes, 32), limits.mute_max_s)
        record.mutes += 1
        record.began_s, record.until_s = now, now + mute_s
        self._ends.set(name, record.until_s)
        self.muted |= {name}
        refused = ", ".join(f"{reason} x{count}" for reason, count in record.offences.most_common())
        reason = f"not listened to for {mute_s:.0f} s, since too much of it was refused: {refused}"
        self.events.append(Event(EventKind.MUTED, now, name, reason, {"mute_s": mute_s, "mutes": record.mutes}))
        record.offences.clear()
        record.credit.renew()
        record.repeats.renew()

    def _record(self, name: PeerName) -> Record:
        record = self._records.get(name)
        if record is None:
            limits = self.limits
            credit = TokenBucket(1.0 / limits.penalty_forgiven_s, limits.offences_max)
            repeats = TokenBucket(limits.repeats_per_s, limits.repeats_max)
            record = self._records[name] = Record(credit, repeats)
        return record

"""Lockstep: which frames of the round in progress are still to come, and which peers are no longer worth waiting for.

A *round* is one exchange. After my frames of a round are posted, the next step awaits those of the neighbours. A peer
that keeps me waiting for `timeout_s`, is gone and comes back, or joins later, is not awaited until a frame of it is
heard again. That frame may be of an old round. But a peer that is behind jumps to the round of its neighbours, so that
its next frame is in step, and it is awaited from my next round on. So a slow peer slows its neighbours, as lockstep
does, and a silent one costs them one time-out.

One that sends a frame, keeps me waiting, sends another and keeps me waiting again is not awaited for `timeout_s` after
the second time, then for 3, 7, 15 and so on, up to `UNAWAITED_MAX` times that: in the end it costs one part in as many.
Its frames are used when they come in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import TypeVar

from gossipdistill.ids import PeerName

T = TypeVar("T")

UNAWAITED_MAX = 63
"""A peer is not awaited for at most this many `timeout_s`. One that was not late for twice as long begins anew."""
AHEAD_MAX = 1
"""A neighbour in step has sent at most one round more than I: it cannot begin the one after without me."""


@dataclass(slots=True)
class Lockstep:
    """The rounds of one peer. Times are readings of its clock in seconds."""

    timeout_s: float
    round: int | None = None
    """My last frames are of this round; None before the first, when no peer is awaited."""
    recipients: tuple[PeerName, ...] = ()
    waited_s: float = 0.0
    """I have waited this time (s) for others since the start."""
    late: dict[PeerName, int] = field(default_factory=dict)
    """This counts, for each peer, how often it was given up."""
    _strikes: dict[PeerName, tuple[int, float]] = field(default_factory=dict)
    """These are, for each peer, how often it was late lately, and when last (s)."""
    _newest: dict[PeerName, int] = field(default_factory=dict)
    _met: set[PeerName] = field(default_factory=set)
    _excused: set[PeerName] = field(default_factory=set)
    _behind: set[PeerName] = field(default_factory=set)
    _since_s: float | None = None

    def posted(self, number: int, recipients: Iterable[PeerName]) -> None:
        """My frames of round `number` have gone to these."""
        first = self.round is None
        self.round, self.recipients = number, tuple(recipients)
        # They get these frames, and can jump to them; of the earlier ones they may have none, and wait for me.
        self._excused -= self._behind
        self._behind.clear()
        for name in self.recipients:
            if name not in self._met:
                self._met.add(name)
                if not first and name not in self._newest:
                    self._excused.add(name)

    def heard(self, sender: PeerName, number: int) -> None:
        """A frame of round `number` has come."""
        self._newest[sender] = number
        if self.round is None or number >= self.round:
            self._excused.discard(sender)
        else:
            self._behind.add(sender)

    def awaited(self, now: float, here: Set[PeerName]) -> frozenset[PeerName]:
        """The peers that are `here` (living, and training) and whose frame of my round is still to come."""
        missing: list[PeerName] = []
        for name in self.recipients:
            if name not in here:
                self._excused.add(name)
            elif name in self._excused or self._is_unawaited(name, now):
                continue
            elif self.round is not None and self._newest.get(name, -1) < self.round:
                missing.append(name)
        if missing and self._since_s is None:
            self._since_s = now
        waited_s = now - self._since_s if self._since_s is not None else 0.0
        if missing and waited_s < self.timeout_s:
            return frozenset(missing)
        for name in missing:
            self._excused.add(name)
            self.late[name] = self.late.get(name, 0) + 1
            strikes, last_s = self._strikes.get(name, (0, now))
            self._strikes[name] = (1 if now - last_s > 2 * UNAWAITED_MAX * self.timeout_s else strikes + 1, now)
        self.waited_s += waited_s
        self._since_s = None
        return frozenset()

    def _is_unawaited(self, name: PeerName, now: float) -> bool:
        strikes, last_s = self._strikes.get(name, (0, 0.0))
        return strikes > 1 and now - last_s < self.timeout_s * min(2 ** min(strikes - 1, 32) - 1, UNAWAITED_MAX)

    def catch_up(self) -> int | None:
        """The number that my next frames should have, when at least half of my neighbours are out of my reach ahead.

        It is that of their last ones: to overtake them would make them jump in turn.
        """
        if self.round is None:
            return None
        ahead = sorted(n for n in (self._newest.get(r, -1) for r in self.recipients) if n > self.round + AHEAD_MAX)
        if not ahead or 2 * len(ahead) < len(self.recipients):
            return None
        self.recipients = ()
        return ahead[(len(ahead) - 1) // 2]


class Without(Set[T]):
    """All of one set but those of another, without a copy."""

    def __init__(self, whole: Set[T], left_out: Set[T]) -> None:
        self._whole, self._left_out = whole, left_out

    def __contains__(self, name: object) -> bool:
        return name in self._whole and name not in self._left_out

    def __iter__(self) -> Iterator[T]:
        return (name for name in self._whole if name not in self._left_out)

    def __len__(self) -> int:
        return sum(1 for _ in self)

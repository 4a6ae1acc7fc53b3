"""Dissemination: claims are piggybacked on probes and their answers, each on a bounded number of messages.

Rules of this file
1. The newest claim about a member replaces the one before it.
2. The claim that has been sent least goes first, and is dropped when it was sent often enough (SWIM, Das et al. 2002,
   4.1).
3. The claim that a process has ended is kept for *reminders*, a few on each message in turn, until it is dropped: a
   member that missed the claim would find out only when its own probes come round, up to two rounds of all members
   later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import islice

from gossipdistill.ids import PeerName
from gossipdistill.presence import Claim, ClaimKind

_ENDED = (ClaimKind.DEAD, ClaimKind.LEFT)


@dataclass(slots=True)
class Disseminated:
    """One claim and the number of messages that have carried it; None means that it was replaced."""

    claim: Claim | None
    told: int = 0


@dataclass(slots=True)
class Piggyback:
    """The claims that I still send."""

    _queue: deque[Disseminated] = field(default_factory=deque)
    _by_name: dict[PeerName, Disseminated] = field(default_factory=dict)
    _ended: dict[PeerName, Claim] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._by_name)

    def tell(self, claim: Claim) -> None:
        """Send this claim from the next message on."""
        self.drop(claim.name)
        item = self._by_name[claim.name] = Disseminated(claim)
        self._queue.appendleft(item)
        if claim.kind in _ENDED:
            self._ended[claim.name] = claim
        if len(self._queue) > 2 * len(self._by_name) + 16:
            self._queue = deque(kept for kept in self._queue if kept.claim is not None)

    def drop(self, name: PeerName) -> None:
        """Send no more claims about this member."""
        before = self._by_name.pop(name, None)
        if before is not None:
            before.claim = None
        self._ended.pop(name, None)

    def remind(self, count: int, ended: Container[PeerName]) -> tuple[Claim, ...]:
        """Up to `count` claims about members that have `ended`, least recently sent first; claims about members that
        are back are dropped."""
        claims: list[Claim] = []
        for name in list(islice(self._ended, count)):
            claim = self._ended.pop(name)
            if name in ended:
                self._ended[name] = claim
                claims.append(claim)
        return tuple(claims)

    def pick(self, count_max: int, tellings_max: int) -> tuple[Claim, ...]:
        """Up to `count_max` claims for one message; each is sent at most `tellings_max` times."""
        picked: list[Claim] = []
        for _ in range(min(len(self._queue), 2 * count_max)):
            if len(picked) == count_max:
                break
            item = self._queue.popleft()
            if item.claim is None:
                continue
            picked.append(item.claim)
            item.told += 1
            if item.told < tellings_max:
                self._queue.append(item)
            else:
                del self._by_name[item.claim.name]
        return tuple(picked)

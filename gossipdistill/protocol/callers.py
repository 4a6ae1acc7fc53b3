"""How often a member may greet, and how often it may restart: greetings beyond these rates are not read.

Each greeting is answered. One of a new process is a restart: what was in flight to the process before it is written
off. A member that has restarted too often is believed later: it greets again, and until then its last process that was
believed is the valid one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.presence import Address
from gossipdistill.protocol.token_bucket import TokenBucket

GREETINGS, STARTS = "greetings", "starts"
"""The reasons under which unread greetings are counted."""


@dataclass(slots=True)
class _Caller:
    """The tokens that one member has left, and its newest process that was believed."""

    greetings: TokenBucket
    starts: TokenBucket
    boot: int = 0


@dataclass(slots=True)
class Callers:
    """The tokens that every member has left, for its known address and for all others separately: without keys, a
    caller that uses its name from another address takes none of its tokens."""

    limits: Limits
    _callers: dict[tuple[PeerName, bool], _Caller] = field(default_factory=dict)

    def turn_away(self, name: PeerName, boot: int, at: Address, known: Address, now: float) -> str:
        """Why this greeting is not read, in one word; empty if it is read."""
        key, limits = (name, at == known), self.limits
        caller = self._callers.get(key)
        if caller is None:
            greetings = TokenBucket(limits.greetings_per_s_max, limits.greetings_at_once_max)
            caller = self._callers[key] = _Caller(greetings, TokenBucket(1.0 / limits.start_again_s, limits.starts_max))
        if not caller.greetings.spend(1.0, now):
            return GREETINGS
        if boot > caller.boot:
            if caller.boot and not caller.starts.spend(1.0, now):
                return STARTS
            caller.boot = boot
        return ""

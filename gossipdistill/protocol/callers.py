"""How often a member may greet, and how often it may start anew: what is beyond that is not looked at.

Each greeting is answered. One of a new process is a restart: what was on its way to the process before it is written
off. A member that has started anew too often is believed later: it greets again, and until then its last process that
was believed is the one that counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.presence import Address
from gossipdistill.protocol.token_bucket import TokenBucket

GREETINGS, STARTS = "greetings", "starts"
"""The reasons under which those that were not looked at are counted."""


@dataclass(slots=True)
class _Caller:
    """What one member has left, and its newest process that was believed."""

    greetings: TokenBucket
    starts: TokenBucket
    boot: int = 0


@dataclass(slots=True)
class Callers:
    """What every member has left, at the address at which it is known and elsewhere: who calls under its name from
    somewhere else, where there are no keys, takes nothing from it."""

    limits: Limits
    _callers: dict[tuple[PeerName, bool], _Caller] = field(default_factory=dict)

    def turn_away(self, name: PeerName, boot: int, at: Address, known: Address, now: float) -> str:
        """Why this greeting is not looked at, in one word; empty if it is."""
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

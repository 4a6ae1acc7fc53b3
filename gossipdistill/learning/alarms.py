"""Events about a peer's place among the others: it trains without gossip, or the living peers are no longer
connected."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from gossipdistill.events import Event, EventKind
from gossipdistill.learning.ledger import Ledger
from gossipdistill.messages import Neighbourhood
from gossipdistill.topology import Connection

SILENCE_S = 4.0
"""An event gives the reason after this time (s) of training without an exchange, so that it is seen within five
seconds. Where exchanges are further apart, it comes after `PERIODS` of their usual intervals."""
PERIODS = 2


@dataclass(slots=True)
class Silence:
    """Notices when nothing from neighbours is used any more, and when something is again."""

    silent: bool = False

    def look(
        self, now: float, since_s: float, ledger: Ledger, neighbourhood: Neighbourhood, period_s: float = 0.0
    ) -> Event | None:
        """An event when training has gone on without gossip for too long, and one when gossip begins again; nothing is
        missed before `since_s`. `period_s` is the usual interval between two exchanges."""
        last_s = max((link.last_exchange_s or 0.0 for link in ledger.links.values()), default=0.0)
        silent_s = now - max(last_s, since_s)
        if self.silent == (silent_s >= max(SILENCE_S, PERIODS * period_s)):
            return None
        self.silent = not self.silent
        if not self.silent:
            return Event(EventKind.EXCHANGING, now, "", "learning from neighbours again")
        head = f"training but not gossiping: nothing new of a neighbour was used for {silent_s:.0f} s; "
        return Event(EventKind.NO_EXCHANGE, now, "", head + _why(ledger, neighbourhood))


def _why(ledger: Ledger, neighbourhood: Neighbourhood) -> str:
    if ledger.quarantined:
        refused = ", ".join(f"{key} x{count}" for key, count in ledger.quarantined.items())
        return f"payloads were refused ({refused})"
    if not neighbourhood.alive:
        others = "; ".join(f"{name} {status}" for name, status in sorted(neighbourhood.statuses.items()))
        return f"nobody is there ({others or 'no other peer is known'})"
    if neighbourhood.alive <= neighbourhood.done:
        return "all living neighbours are done training"
    names = ", ".join(sorted(neighbourhood.alive)[:8])
    return f"{names} live, but have not published anything new, or none is my neighbour in this topology"


def connection_event(connection: Connection, living: Set[str], now: float) -> Event | None:
    """An event when the living no longer form one graph in which news gets round, and one when they do again."""
    change = connection.look(set(living))
    if change is None:
        return None
    kind = EventKind.CONNECTED if change.connected else EventKind.DISCONNECTED
    return Event(kind, now, "", change.reason(), {"groups": len(change.groups)})

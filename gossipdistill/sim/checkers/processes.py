"""Who may go on: of all processes of one name the newest, whatever is said to those before it."""

from __future__ import annotations

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.sim.checkers.base import Checker, Weather
from gossipdistill.sim.host import Host


class NewestLives(Checker):
    """A process holds itself superseded, and ends, only if a newer one of its name has been started.

    What others say to a process that has ended may reach its successor, at the same address: above all that it has been
    superseded, in answer to a late greeting.
    """

    duty = "the newest process of a name is never superseded"

    def __init__(self, weather: Weather) -> None:
        super().__init__(weather)
        self._newest: dict[PeerName, int] = {}

    def on_start(self, now_s: float, host: Host) -> None:
        self._newest[host.name] = max(host.boot, self._newest.get(host.name, 0))

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if event.kind is EventKind.SUPERSEDED and host.boot >= self._newest.get(host.name, 0):
            self.violate(now_s, f"{host.name} is the newest of its name, and ends: {event.reason}")

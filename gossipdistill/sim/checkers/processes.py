"""Processes of one name: the newest may continue, whatever is sent to those before it, and few are believed at once."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.sim.checkers.base import Checker, Conditions
from gossipdistill.sim.host import Host


class NewestLives(Checker):
    """A process holds itself superseded, and ends, only if a newer one of its name has been started.

    Messages of others to a process that has ended may reach its successor, at the same address: above all that it has
    been superseded, in answer to a late greeting.
    """

    duty = "the newest process of a name is never superseded"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._newest: dict[PeerName, int] = {}

    def on_start(self, now_s: float, host: Host) -> None:
        self._newest[host.name] = max(host.boot, self._newest.get(host.name, 0))

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if host.name in self.conditions.bent:
            return  # it may have called itself newer
        if event.kind is EventKind.SUPERSEDED and host.boot >= self._newest.get(host.name, 0):
            self.violate(now_s, f"{host.name} is the newest of its name, and ends: {event.reason}")


@dataclass(slots=True)
class _Believed:
    """The processes of one name that a peer has taken to be alive: their number, the last one, and the time of the
    first."""

    boot: int
    since_s: float
    count: int = 1


class StartsBounded(Checker):
    """No peer believes more processes of one name than `starts_max` after the first, and one every `start_again_s`:
    with each, what was in flight to the one before is written off."""

    duty = "few starts are believed"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._believed: dict[tuple[PeerName, int, str], _Believed] = {}

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if event.kind not in (EventKind.JOINED, EventKind.RETURNED):
            return
        boot, limits = host.peer.view.boot_of(PeerName(event.peer)) or 0, self.conditions.limits
        known = self._believed.setdefault((host.name, host.boot, event.peer), _Believed(boot, now_s))
        if boot <= known.boot:
            return
        known.boot = boot
        known.count += 1
        bound = 1 + limits.starts_max + (now_s - known.since_s) / limits.start_again_s
        if known.count > bound:
            passed = f"{known.count} processes of {event.peer} within {now_s - known.since_s:.1f} s"
            self.violate(now_s, f"{host.name} has believed {passed}")

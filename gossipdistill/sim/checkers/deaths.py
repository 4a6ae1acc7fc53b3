"""The basis of a death: a probe of the process's own, whatever others say."""

from __future__ import annotations

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope, Transmit
from gossipdistill.presence import Leave, Ping, Refusal
from gossipdistill.sim.checkers.base import Checker, Conditions
from gossipdistill.sim.host import Host

_Viewer = tuple[PeerName, int, PeerName]
"""A viewer is a process, by name and boot, and the peer that it views."""


class DeathsProbed(Checker):
    """With faults or without, a process declares a peer dead only if it has pinged it since it last heard from it, or
    got its last message. Messages to its own predecessor, or from a process that has a successor, do not count as
    heard."""

    duty = "no death is believed on hearsay"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self.founded = 0
        """The number of deaths that were declared after a ping of the process's own."""
        self._pinged_s: dict[_Viewer, float] = {}
        self._heard_s: dict[_Viewer, float] = {}
        self._newest: dict[_Viewer, int] = {}
        """The newest process of the peer that each viewer has heard from."""
        self._accepted: dict[_Viewer, int] = {}
        """The process of the peer that was last taken to be alive."""
        self._parted: set[_Viewer] = set()

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        if isinstance(transmit.envelope.message, Ping):
            self._pinged_s[host.name, host.boot, PeerName(transmit.envelope.to)] = now_s

    def on_deliver(self, now_s: float, host: Host, envelope: Envelope) -> None:
        if isinstance(envelope.message, Refusal):
            return  # without keys any process may have sent it, and it is no sign of life
        viewer = (host.name, host.boot, envelope.sender)
        newest = self._newest[viewer] = max(envelope.boot, self._newest.get(viewer, 0))
        if envelope.to_boot not in (0, host.boot) or envelope.boot < newest:
            return
        if isinstance(envelope.message, Leave):
            self._parted.add(viewer)
        else:
            self._heard_s[viewer] = now_s

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        viewer = (host.name, host.boot, PeerName(event.peer))
        if event.kind in (EventKind.JOINED, EventKind.RETURNED):
            self._accepted[viewer] = self._newest.get(viewer, 0)
        if event.kind is not EventKind.DEAD or {host.name, event.peer} & self.conditions.bent:
            return
        if viewer in self._parted:
            self._parted.discard(viewer)
            return
        newest = self._newest.get(viewer, 0)
        if self._accepted.get(viewer, newest) != newest:
            return  # without keys its successor has to wait for that
        never = float("-inf")
        if self._pinged_s.get(viewer, never) < self._heard_s.get(viewer, never) or viewer not in self._pinged_s:
            self.violate(now_s, f"{host.name} declares {event.peer} dead without a ping of its own: {event.reason}")
        self.founded += 1

"""The arrivals at a learner: states only get newer, and each parcel of mass or of a stream arrives once."""

from __future__ import annotations

from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName, Version
from gossipdistill.messages import Arrival, DeliveryClass, Received, Returned, Settlement, Slot
from gossipdistill.sim.checkers.base import Checker, Conditions
from gossipdistill.sim.host import Host
from gossipdistill.sim.world import World

_Which = tuple[str, int, str, str, Version]
"""An arrival is identified by (recipient, its boot, sender, topic, version); two processes of different names may have
one boot."""


class VersionsRise(Checker):
    """No learner gets a state that is older than one it had, nor a frame of a stream out of order or without the one
    before it. Where frames were written off, the gap is larger than the number that may be in flight."""

    duty = "no version goes backwards"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._newest: dict[tuple[str, int, Slot, DeliveryClass], tuple[Version, int]] = {}
        self._boots: dict[tuple[str, int, str], int] = {}

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        if isinstance(received, Arrival) and received.sender not in self.conditions.bent:
            self._look_at(now_s, host, received)

    def _look_at(self, now_s: float, host: Host, arrival: Arrival) -> None:
        if arrival.delivery is DeliveryClass.MASS:
            return  # parcels of mass may arrive in any order
        key = (host.name, host.boot, Slot(arrival.sender, arrival.topic, arrival.key), arrival.delivery)
        version, exchange = self._newest.get(key, (Version(0, 0), 0))
        same_process = version.boot == arrival.version.boot
        if arrival.version <= version or (same_process and arrival.exchange <= exchange):
            self.violate(
                now_s,
                f"{host.name} was handed {arrival.topic} {arrival.version} (exchange {arrival.exchange}) of "
                f"{arrival.sender} after {version} (exchange {exchange})",
            )
        if arrival.delivery is DeliveryClass.STREAM:
            ahead = arrival.version.number - (version.number if same_process else 0)
            if 1 < ahead <= self.conditions.limits.in_flight_stream_max:
                self.violate(
                    now_s, f"{host.name} was handed {arrival.topic} {arrival.version} and not the frame before it"
                )
        self._newest[key] = (arrival.version, arrival.exchange)

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if event.kind not in (EventKind.JOINED, EventKind.RETURNED):
            return
        key, boot = (host.name, host.boot, event.peer), host.peer.view.boot_of(PeerName(event.peer)) or 0
        if 0 < boot < self._boots.get(key, 0):
            self.violate(now_s, f"{host.name} goes back to process {boot} of {event.peer} from {self._boots[key]}")
        self._boots[key] = max(boot, self._boots.get(key, 0))

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self._newest = {key: value for key, value in self._newest.items() if key[:2] != (host.name, host.boot)}


class OnceSettled(Checker):
    """Every parcel of mass or of a stream is handed to a learner once, and settled once."""

    duty = "every arrival settled once"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._settled: dict[_Which, bool] = {}
        """Every parcel that was handed to a learner, and whether it is settled."""

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        if received.delivery is DeliveryClass.STATE or isinstance(received, Returned):
            return
        which = (host.name, host.boot, received.sender, received.topic, received.version)
        if which in self._settled:
            self.violate(now_s, f"{_named(which)} was handed to the learner twice")
        self._settled[which] = False

    def on_settle(self, now_s: float, host: Host, settlement: Settlement) -> None:
        which = (host.name, host.boot, settlement.sender, settlement.topic, settlement.version)
        if which not in self._settled:
            self.violate(now_s, f"{_named(which)} was settled, and the learner was never handed it")
        elif self._settled[which]:
            self.violate(now_s, f"{_named(which)} was settled twice")
        self._settled[which] = True

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        self._settled = {which: done for which, done in self._settled.items() if which[:2] != (host.name, host.boot)}

    def at_end(self, now_s: float, world: World) -> None:
        waiting = {
            (host.name, host.boot, received.peer, received.topic, received.version)
            for host in world.hosts.values()
            for received in host.mailbox.waiting()
        }
        for which, settled in self._settled.items():
            if not settled and which not in waiting:
                self.violate(now_s, f"{_named(which)} was taken from the mailbox and never settled")


def _named(which: _Which) -> str:
    name, boot, sender, topic, version = which
    return f"{topic} {version.number} of {sender}/{version.boot} to {name}/{boot}"

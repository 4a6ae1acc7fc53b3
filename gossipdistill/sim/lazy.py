"""A lazy member: it takes without giving. Its network part is honest except for messages that it never sends, and
requests that it sends for ever."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from gossipdistill.ids import PeerName
from gossipdistill.messages import Announce, Confirm, Envelope, Receipt, State, Transmit, Want
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World


@dataclass
class Lazy(Observer):
    """The processes of `name` confirm no state and give no receipt, so that streams and mass stay open. They announce
    states and never send them, and keep asking for each state that they have received."""

    name: PeerName
    world: World | None = None
    withheld: int = 0

    def on_start(self, now_s: float, host: Host) -> None:
        if host.name != self.name:
            return
        honest = host.peer.transmits
        # Only this call drains the peer.
        host.peer.transmits = lambda: [one for one in map(self._bent, honest()) if one is not None]  # type: ignore[method-assign]

    def _bent(self, transmit: Transmit) -> Transmit | None:
        message = transmit.envelope.message
        if isinstance(message, State):
            said = Announce(message.topic, message.key, message.number, message.payload.nbytes)
            transmit = replace(transmit, envelope=replace(transmit.envelope, message=said))
        elif isinstance(message, Confirm | Receipt):
            self.withheld += 1
            return None
        return transmit

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        message, world = transmit.envelope.message, self.world
        lazy = world.hosts.get(self.name) if world is not None else None
        if world is None or lazy is None or transmit.envelope.to != self.name or not isinstance(message, State):
            return
        wish = Want(message.topic, message.key, message.number)
        word = Envelope(self.name, lazy.peer.me.boot, host.name, host.boot, wish)
        for after_s in (0.05, 0.5, 1.0):
            world.at(world.now + after_s, partial(world.inject, host.name, word))

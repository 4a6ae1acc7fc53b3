"""Observers of a simulated world: the hooks that the world calls, all of them optional.

The world calls only the hooks that a class defines, so an observer costs only what it uses. `now_s` is seconds of
virtual time since the start of the world, the same for all; `Arrival.arrived_s` and `Event.at_s` are readings of the
clock of their process, and have a meaning only there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gossipdistill.events import Event
from gossipdistill.faults import ActKind
from gossipdistill.messages import Envelope, Parcel, Received, Settlement, Slot, Transmit

if TYPE_CHECKING:
    from gossipdistill.sim.host import Host
    from gossipdistill.sim.world import World


class Observer:
    """Override the hooks that you need."""

    def on_start(self, now_s: float, host: Host) -> None:
        """A process has started."""

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        """A process has ended: `killed`, `left` or `superseded`. Its peer and mailbox can still be read."""

    def on_step(self, now_s: float, host: Host, pause_s: float | None) -> None:
        """The learner has made a step, and makes the next one after `pause_s` (None: it is done)."""

    def on_post(self, now_s: float, host: Host, slot: Slot, parcel: Parcel) -> None:
        """The network has collected this parcel from the mailbox."""

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        """The peer sends this; the network decides whether it arrives."""

    def on_deliver(self, now_s: float, host: Host, envelope: Envelope) -> None:
        """The peer is about to receive this."""

    def on_received(self, now_s: float, host: Host, received: Received) -> None:
        """An arrival was put into the mailbox for the learner."""

    def on_settle(self, now_s: float, host: Host, settlement: Settlement) -> None:
        """The learner's verdict on an arrival was handed to the peer."""

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        """The peer reports an event."""

    def on_fault(self, now_s: float, kind: ActKind, peer: str) -> None:
        """The fault plan acts on a process."""

    def on_tick(self, now_s: float, world: World) -> None:
        """Once per `World.tick_s` of virtual time."""

    def at_end(self, now_s: float, world: World) -> None:
        """The run has ended."""


def hooks(observers: list[Observer], name: str) -> list[Callable[..., Any]]:
    """The bound methods called `name` of those observers whose class defines it."""
    return [getattr(one, name) for one in observers if getattr(type(one), name) is not getattr(Observer, name)]


class Hooks:
    """The hooks to call, by name."""

    def __init__(self) -> None:
        self.look_for([])

    def look_for(self, observers: list[Observer]) -> None:
        """Call the hooks of these observers from now on."""
        self.on_start = hooks(observers, "on_start")
        self.on_end = hooks(observers, "on_end")
        self.on_step = hooks(observers, "on_step")
        self.on_post = hooks(observers, "on_post")
        self.on_transmit = hooks(observers, "on_transmit")
        self.on_deliver = hooks(observers, "on_deliver")
        self.on_received = hooks(observers, "on_received")
        self.on_settle = hooks(observers, "on_settle")
        self.on_event = hooks(observers, "on_event")
        self.on_fault = hooks(observers, "on_fault")
        self.on_tick = hooks(observers, "on_tick")

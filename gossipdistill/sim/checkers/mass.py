"""Mass is conserved: what was brought in is held, in flight, or lost with a process.

A mass is a vector (w, x...). Every process with a learner of mass brings one in; let E be the sum of what was brought
in. At any time

    held + under way + lost = E        to 1e-9 in each component

    held        what the learners of living processes hold, and what was returned and lies in their mailboxes
    under way   every parcel that its living sender has not settled (`in_flight()`: queued, sent, held or parked),
                except those that the recipient has absorbed: their receipt is still on its way, their mass is held
    lost        what ended with processes: what they held and what they had under way that nobody had absorbed, and
                what was written off unabsorbed. If such a parcel is absorbed after all (it was in the network, or in an
                inbox), it is lost no more

The checker knows both ends of every link, which no peer does: it tells parcels apart by (sender, its boot, recipient,
its boot, topic, number).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from gossipdistill.events import Event, EventKind
from gossipdistill.messages import DeliveryClass, Payload, ReliableMessage, Returned, Settlement, Slot, Transmit
from gossipdistill.protocol.parcels import Outstanding
from gossipdistill.sim.checkers.base import Checker, Conditions
from gossipdistill.sim.host import Host
from gossipdistill.sim.world import World

TOLERANCE = 1e-9

Mass = tuple[float, ...]
Which = tuple[str, int, str, int, str, int]
"""A parcel is identified by (sender, its boot, recipient, its boot, topic, number)."""


@runtime_checkable
class Weighty(Protocol):
    """A learner that holds mass and can report it."""

    def mass(self) -> Mass:
        """(w, x...), the mass that it holds now."""

    def mass_of(self, payload: Payload, weight: float) -> Mass:
        """(w, x...) of one parcel; as many components as `mass`."""


class MassConserved(Checker):
    """See the head of this file."""

    duty = "mass conserved"

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self.brought: Mass = ()
        self.lost: Mass = ()
        self.error = 0.0
        """The largest deviation seen."""
        self._sent: dict[Which, Mass] = {}
        self._absorbed: set[Which] = set()
        self._orphans: dict[Which, Mass] = {}

    # --- what happens --------------------------------------------------------------------------------------------

    def on_start(self, now_s: float, host: Host) -> None:
        if isinstance(host.stepper, Weighty):
            self.brought = _sum((self.brought, host.stepper.mass()))

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        envelope, message = transmit.envelope, transmit.envelope.message
        if (
            isinstance(message, ReliableMessage)
            and message.delivery is DeliveryClass.MASS
            and isinstance(host.stepper, Weighty)
        ):
            which = (host.name, host.boot, envelope.to, envelope.to_boot, message.topic, message.number)
            if which not in self._sent:
                self._sent[which] = host.stepper.mass_of(message.payload, message.weight)

    def on_settle(self, now_s: float, host: Host, settlement: Settlement) -> None:
        if not settlement.absorbed:
            return
        boot, number = settlement.version
        which = (settlement.sender, boot, host.name, host.boot, settlement.topic, number)
        orphan = self._orphans.pop(which, None)
        if orphan is not None:
            self.lost = _sum((self.lost, _minus(orphan)))
        elif which in self._sent:
            self._absorbed.add(which)

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        if event.kind is not EventKind.WRITTEN_OFF:
            return
        detail = event.detail
        to_boot, number = int(detail["to_boot"]), int(detail["number"])
        self._lose((host.name, host.boot, event.peer, to_boot, str(detail["topic"]), number))

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        if not isinstance(host.stepper, Weighty):
            return
        self.lost = _sum((self.lost, *_held(host, host.stepper)))
        for slot, one in _under_way(host):
            if one.number:
                self._lose(_which(host, slot, one))
            else:
                self.lost = _sum((self.lost, host.stepper.mass_of(one.parcel.payload, one.parcel.weight)))

    def _lose(self, which: Which) -> None:
        """Note that its sender has dropped it: it is lost, unless it was absorbed."""
        mass = self._sent.pop(which, None)
        if which in self._absorbed:
            self._absorbed.discard(which)
        elif mass is not None:
            self.lost = _sum((self.lost, mass))
            self._orphans[which] = mass

    # --- the sum -------------------------------------------------------------------------------------------------

    def on_tick(self, now_s: float, world: World) -> None:
        self.check(now_s, world)

    def at_end(self, now_s: float, world: World) -> None:
        self.check(now_s, world)

    def check(self, now_s: float, world: World) -> None:
        """Check the sum; and forget parcels that nothing refers to any more."""
        if not self.brought:
            return
        parts: list[Mass] = []
        in_flight: set[Which] = set()
        for host in world.hosts.values():
            if not isinstance(host.stepper, Weighty):
                continue
            parts += _held(host, host.stepper)
            for slot, one in _under_way(host):
                which = _which(host, slot, one)
                in_flight.add(which)
                if which not in self._absorbed:
                    parts.append(host.stepper.mass_of(one.parcel.payload, one.parcel.weight))
        self._absorbed &= in_flight
        self._sent = {which: mass for which, mass in self._sent.items() if which in in_flight}
        found = _sum([*parts, self.lost])
        errors = [have - want for have, want in zip(found, self.brought, strict=True)]
        self.error = max(self.error, *map(abs, errors))
        worst = max(errors, key=abs)
        if not abs(worst) <= TOLERANCE:
            what = "weight" if errors.index(worst) == 0 else f"x[{errors.index(worst) - 1}]"
            how = "appeared from" if worst > 0 else "vanished into"
            self.violate(now_s, f"{abs(worst):.3g} of {what} {how} nowhere")


def _held(host: Host, learner: Weighty) -> Iterable[Mass]:
    waiting = (one for one in host.mailbox.waiting() if isinstance(one, Returned))
    returned = [one for one in waiting if one.delivery is DeliveryClass.MASS]
    return [learner.mass(), *(learner.mass_of(one.payload, one.weight) for one in returned)]


def _under_way(host: Host) -> Iterator[tuple[Slot, Outstanding]]:
    for slot, one in host.peer.reliable_messages.sender.in_flight():
        if one.parcel.delivery is DeliveryClass.MASS:
            yield slot, one


def _which(host: Host, slot: Slot, one: Outstanding) -> Which:
    return host.name, host.boot, slot.peer, one.to_boot, slot.topic, one.number


def _sum(masses: Iterable[Mass]) -> Mass:
    rows: list[Sequence[float]] = [mass for mass in masses if mass]
    return tuple(map(sum, zip(*rows, strict=True)))


def _minus(mass: Mass) -> Mass:
    return tuple(-value for value in mass)

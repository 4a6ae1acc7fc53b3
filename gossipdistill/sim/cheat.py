"""A member that cheats with mass: it creates some, corrupts it, keeps all, or restarts for ever.

Its network part is honest, and so is the rest of its learner. It sends its other messages as itself.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gossipdistill.ids import PeerName
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    DeliveryClass,
    Envelope,
    Payload,
    ReliableMessage,
    Settlement,
    State,
    Transmit,
    arrivals_of,
)
from gossipdistill.sim.compute import Pace
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

_LANE = ".9"
"""The lane of its false mass: it is separate from the honest one, so that numbers do not collide."""
_HUGE = (3e38, -3e38, 1e30, 1e12, math.inf, math.nan)


class Trick(StrEnum):
    """The kind of cheating."""

    MINT = "mint"
    """It sends parcels of more, or less, weight than any honest one has."""
    CORRUPT = "spoil"
    """It sends parcels and states whose entries are huge, infinite or NaN."""
    KEEP = "keep"
    """It only absorbs what it is given: its learner is a `Keeper`."""
    RESTART = "restart"
    """It does the same, and restarts several times a second."""


@dataclass(slots=True)
class Keeper:
    """A learner that absorbs all mass that arrives, and never gives any."""

    mailbox: Mailbox
    pace: Pace
    weight: float = 1.0
    steps: int = 0

    def step(self, now: float) -> float | None:
        """Take what arrived."""
        came = [one for one in arrivals_of(self.mailbox.take()) if one.delivery is DeliveryClass.MASS]
        self.weight += sum(one.weight for one in came)
        self.mailbox.settle([Settlement(one.sender, one.topic, one.version, absorbed=True) for one in came])
        self.steps += 1
        self.mailbox.report_progress(self.steps, done=False)
        return self.pace.next_s()

    def mass(self) -> tuple[float, ...]:
        """(push-sum weight)."""
        return (self.weight,)

    def mass_of(self, payload: Payload, weight: float) -> tuple[float, ...]:
        """(push-sum weight) of a parcel."""
        return (weight,)


@dataclass
class Cheat(Observer):
    """Plays `trick` as `name`, about `per_second` times, until `until_s`. `weight_min` and `weight_max` are the least
    and the greatest weight of an honest parcel."""

    name: PeerName
    trick: Trick
    seed: int
    until_s: float
    weight_min: float
    weight_max: float
    per_second: float = 8.0
    played: int = 0
    world: World | None = None
    _chance: random.Random = field(init=False)
    _seen: dict[type, ReliableMessage | State] = field(default_factory=dict)
    """An example of an honest parcel, by kind."""

    def __post_init__(self) -> None:
        self._chance = random.Random(f"cheat {self.seed}")

    def begin(self, world: World) -> None:
        """Start."""
        self.world = world
        world.at(world.now, self._play)

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        message = transmit.envelope.message
        if isinstance(message, State) or (
            isinstance(message, ReliableMessage) and message.delivery is DeliveryClass.MASS and message.payload.nbytes
        ):
            self._seen[type(message)] = message

    def _play(self) -> None:
        world = self.world
        assert world is not None
        if world.now >= self.until_s:
            return
        world.at(world.now + self._chance.expovariate(self.per_second), self._play)
        if self.trick is Trick.RESTART:
            world.start(self.name)
            self.played += 1
        elif self.trick in (Trick.MINT, Trick.CORRUPT) and self._seen and self.name in world.hosts:
            self._say(world, self._chance.choice([self._seen[kind] for kind in sorted(self._seen, key=str)]))

    def _say(self, world: World, honest: ReliableMessage | State) -> None:
        """Send every other peer a falsified copy of this parcel."""
        self.played += 1
        if isinstance(honest, ReliableMessage):
            content = replace(honest.content, topic=honest.topic.partition(".")[0] + _LANE)
        else:
            content = replace(honest.content, key=_LANE)
        if self.trick is Trick.CORRUPT:
            content = replace(content, payload=_filled(content.payload, self._chance.choice(_HUGE)))
        elif isinstance(honest, ReliableMessage):
            content = replace(content, weight=self._wrong_weight())
        message = replace(honest, number=self.played, content=content)
        me = world.hosts[self.name].peer.me
        for host in [host for host in world.hosts.values() if host.name != self.name]:
            world.inject(host.name, Envelope(self.name, me.boot, host.name, host.boot, message))

    def _wrong_weight(self) -> float:
        most, least = self.weight_max, self.weight_min
        return self._chance.choice([1.01 * most, 10.0 * most, 1e9, math.inf, math.nan, -1.0, 0.0, 0.49 * least, 5e-324])


def _filled(payload: Payload, value: float) -> Payload:
    """A payload of the same layout in which every float32 is `value`."""
    return replace(payload, body=struct.pack("<f", value) * (payload.nbytes // 4))

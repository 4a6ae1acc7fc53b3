"""A lying member that sends every kind of message with every field mutated (bending.py), in the storms."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cached_property

from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope, Message, Transmit
from gossipdistill.sim.bending import Facts, bends, bent_envelopes, specimens
from gossipdistill.sim.host import Host
from gossipdistill.sim.learners import MASS_TOPIC, STATE_TOPIC, STREAM_TOPIC
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World
from gossipdistill.wire.crossing import cross
from gossipdistill.wire.errors import WireError


@dataclass
class Bender(Observer):
    """Sends as `name`, about `per_second` times, until `until_s`. Half of what it mutates it has made up, half it has
    received."""

    name: PeerName
    seed: int
    until_s: float
    per_second: float = 8.0
    told: int = 0
    refused: int = 0
    """The number of messages that the codec has not let through."""
    world: World | None = None
    _heard: dict[type, Message] = field(default_factory=dict)

    @cached_property
    def _chance(self) -> random.Random:
        return random.Random(f"bender {self.seed}")

    def begin(self, world: World) -> None:
        """Start."""
        self.world = world
        world.at(world.now, self._tell)

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        self._heard[type(transmit.envelope.message)] = transmit.envelope.message

    def _tell(self) -> None:
        world = self.world
        assert world is not None
        if world.now >= self.until_s:
            return
        world.at(world.now + self._chance.expovariate(self.per_second), self._tell)
        others = [host for host in world.hosts.values() if host.name != self.name]
        if self.name not in world.hosts or not others:
            return
        facts = self._facts(world)
        made_up = specimens(facts)
        kind = self._chance.choice([kind for kind in made_up if any(bends(made_up[kind], facts))])
        honest = self._heard.get(kind, made_up[kind]) if self._chance.random() < 0.5 else made_up[kind]
        _, message = self._chance.choice(list(bends(honest, facts)))
        victim = self._chance.choice(others)
        me = world.hosts[self.name].peer.me
        envelope = Envelope(me.name, me.boot, victim.name, victim.boot, message)
        if self._chance.random() < 0.1:
            envelope = self._chance.choice(list(bent_envelopes(replace(envelope, message=honest), facts)))
        try:
            crossed = cross(envelope)[0]
        except (WireError, OverflowError):
            self.refused += 1
            return
        self.told += 1
        world.inject(victim.name, crossed)

    def _facts(self, world: World) -> Facts:
        me = world.hosts[self.name]
        others = tuple(name for name in world.names if name != self.name)
        boots = tuple(world.last_boot(name) for name in others[:4])
        topics = STATE_TOPIC, MASS_TOPIC, STREAM_TOPIC
        return Facts(self.name, me.address, me.place, others[:4], boots, me.peer.me.fingerprint, *topics)

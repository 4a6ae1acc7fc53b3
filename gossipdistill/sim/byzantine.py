"""A lying member: a peer of the run whose network part is honest, and which also sends false messages.

It can only send as itself (on real sockets its key proves its name), so it lies about others in claims, and to others
about what it has received; it sends them refusals for every reason there is. In a run without keys it sends refusals in
any peer's name, even the recipient's. It never says that it has left or crashed, since that would be believed. It never
denies mass that it holds, nor claims mass that it was sent and has not seen: a member can always throw away what it was
given, and no protocol can detect it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, Envelope, Message, Receipt, StatusQuery, Verdict, Want
from gossipdistill.presence import Ack, Claim, ClaimKind, Nack, Ping, Refusal, RefusalCode
from gossipdistill.sim.learners import MASS_TOPIC, STATE_TOPIC, STREAM_TOPIC
from gossipdistill.sim.world import World

_FAR = 1 << 40


class ByzantinePeer:
    """Sends lies as `name`, about `per_second` of them, until `until_s`."""

    def __init__(self, world: World, name: str, seed: int, until_s: float, per_second: float = 4.0) -> None:
        self.world, self.name = world, PeerName(name)
        self.until_s, self.per_second = until_s, per_second
        self.told = 0
        self._chance = random.Random(f"liar {seed}")
        self._codes = list(RefusalCode)
        self._lies: list[Callable[[str], Message]] = [
            self._about_the_living,
            self._about_the_dead,
            self._about_itself,
            self._about_boots,
            self._foreign_receipt,
            self._wrong_confirmation,
            self._wish_for_nothing,
            self._refusal,
        ]
        world.at(world.now, self._lie)

    def _lie(self) -> None:
        world = self.world
        if world.now >= self.until_s:
            return
        world.at(world.now + self._chance.expovariate(self.per_second), self._lie)
        host = world.hosts.get(self.name)
        others = [other for other in world.hosts.values() if other.name != self.name]
        if host is None or not others:
            return
        victim = self._chance.choice(others)
        message = self._chance.choice(self._lies)(victim.name)
        stale = self._chance.random() < 0.1
        sender, boot, to_boot = self.name, int(host.peer.me.boot) - stale, victim.boot
        if isinstance(message, Refusal):
            sender, boot = self._speaker(victim.name, boot)
            to_boot = self._chance.choice([0, to_boot])
        envelope = Envelope(sender, Boot(boot), victim.name, to_boot, message)
        self.told += 1
        world.inject(victim.name, envelope)

    # --- lies ----------------------------------------------------------------------------------------------------

    def _someone(self) -> tuple[PeerName, int]:
        """A living peer other than this one, and its boot; this one if there is no other."""
        hosts = [host for host in self.world.hosts.values() if host.name != self.name]
        host = self._chance.choice(hosts) if hosts else self.world.hosts[self.name]
        return host.name, host.boot

    def _claim(self, name: PeerName, boot: int, kind: ClaimKind, higher: int) -> Message:
        claim = Claim(name, boot, self._chance.randrange(higher + 1), kind, self._chance.choice([self.name, name]))
        number = self._chance.randrange(1000)
        if self._chance.random() < 0.5:
            return Ping(number, 1, False, (claim,))
        return Ack(number, 1, False, (claim,)) if self._chance.random() < 0.5 else Nack(number, (claim,))

    def _about_the_living(self, victim: str) -> Message:
        name, boot = self._someone()
        kind = self._chance.choice([ClaimKind.DEAD, ClaimKind.SUSPECT, ClaimKind.LEFT])
        return self._claim(name, boot, kind, self._chance.choice([0, 3, 15, _FAR]))

    def _about_the_dead(self, victim: str) -> Message:
        gone = [name for name in self.world.names if name not in self.world.hosts]
        name, boot = (self._chance.choice(gone), 1) if gone else self._someone()
        boot = self.world.last_boot(name) if gone else boot
        return self._claim(name, boot, ClaimKind.ALIVE, 3)

    def _about_itself(self, victim: str) -> Message:
        boot = self.world.hosts[self.name].boot
        return self._claim(self.name, boot, self._chance.choice(list(ClaimKind)), 40)

    def _about_boots(self, victim: str) -> Message:
        name, boot = self._someone()
        wrong = max(boot + self._chance.choice([-100_000, -1, 1, 100_000]), 1)
        return self._claim(name, wrong, self._chance.choice([ClaimKind.ALIVE, ClaimKind.DEAD]), 2)

    def _refusal(self, victim: str) -> Message:
        """A refusal, each time for the next reason, so that all are used."""
        code = self._codes[self.told % len(self._codes)]
        asked = self._chance.choice([victim, ""]) if code in (RefusalCode.PLACE_TAKEN, RefusalCode.WRONG_NAME) else ""
        host = self.world.hosts[PeerName(victim)]
        newer = host.boot + self._chance.choice([-1, 0, 1, 60_000, _FAR])
        address = self._chance.choice([host.address, *self.world.addresses])
        return Refusal(code, "a lie", asked, newer_boot=newer, newer_at=address)

    def _speaker(self, victim: PeerName, mine: int) -> tuple[PeerName, int]:
        """The sender's name and boot: a known process, or one that would be newer."""
        if self.world.keyed or self._chance.random() < 0.5:
            return self.name, mine + self._chance.choice([0, 0, 0, _FAR])
        name = self._chance.choice([victim, *self.world.names])
        return name, self.world.last_boot(name) + self._chance.choice([0, 0, 1, 1000, _FAR])

    def _foreign_receipt(self, victim: str) -> Message:
        number = self._chance.randrange(100_000, 200_000)
        verdict = self._chance.choice(list(Verdict))
        return Receipt(self._chance.choice([MASS_TOPIC, STREAM_TOPIC, "else"]), number, verdict, "a lie")

    def _wrong_confirmation(self, victim: str) -> Message:
        number = self._chance.randrange(1_000_000, 2_000_000)
        return Confirm(STATE_TOPIC, "", number)

    def _wish_for_nothing(self, victim: str) -> Message:
        number = self._chance.randrange(1_000_000, 2_000_000)
        return Want(STATE_TOPIC, "", number) if self._chance.random() < 0.5 else StatusQuery(MASS_TOPIC, number)

"""Late messages of processes that have ended: a delayed greeting arrives after its sender's successor."""

from __future__ import annotations

import random
from functools import partial

from gossipdistill.ids import PeerName
from gossipdistill.messages import Envelope, Transmit
from gossipdistill.presence import Greeting
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

_LATE_S = (0.2, 6.0)
_GREETINGS_MAX = 4
"""After the end of a process, at most this many of the peers that it greeted get a greeting again."""


class LateMessages(Observer):
    """Remembers the last greeting of each process to each other one, and delivers some after its end."""

    def __init__(self, seed: int) -> None:
        self.world: World | None = None
        self.seen = 0
        self._chance = random.Random(f"ghosts {seed}")
        self._last: dict[tuple[PeerName, int], dict[str, Envelope]] = {}

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        envelope = transmit.envelope
        if isinstance(envelope.message, Greeting) and envelope.to:
            self._last.setdefault((host.name, host.boot), {})[envelope.to] = envelope

    def on_end(self, now_s: float, host: Host, how: str) -> None:
        greetings = self._last.pop((host.name, host.boot), {})
        assert self.world is not None
        for to in self._chance.sample(sorted(greetings), min(_GREETINGS_MAX, len(greetings))):
            at_s = now_s + self._chance.uniform(*_LATE_S)
            self.world.at(at_s, partial(self._appear, to, greetings[to]))

    def _appear(self, to: str, envelope: Envelope) -> None:
        assert self.world is not None
        self.seen += 1
        self.world.inject(to, envelope)

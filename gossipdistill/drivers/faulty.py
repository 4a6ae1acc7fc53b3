"""A driver's outgoing messages bent by a fault plan: lost, late, twice, or with a flipped byte.

Every process bends what it sends, so one plan bends each direction of each link once. What comes late and is not taken
by its socket is lost silently: telling the protocol that it was never on the wire would be wrong of a second copy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gossipdistill.faults import LinkFaults
from gossipdistill.messages import Consignment, State, Transmit
from gossipdistill.presence import Address

HELD_MESSAGES_MAX = 1024
HELD_BYTES_MAX = 64 * 1024 * 1024
"""Messages under way at the same time; what would be more is lost, as in a router."""
_HEADER_BYTES = 120
"""Of a message without payload, for a rate limit."""

Frames = list[bytes | memoryview]
Corrupt = Callable[[Frames], Frames]


class Put(Protocol):
    """Hands one message to its socket. `late`: do not tell the protocol when the socket does not take it. `corrupt`
    changes the encoded frames."""

    def __call__(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None: ...


@dataclass(slots=True)
class FaultySender:
    """Between a driver and its sockets. `elapsed_s` is the time since the start of the run, negative before it."""

    links: LinkFaults
    elapsed_s: Callable[[], float]
    names: Mapping[Address, str] = field(default_factory=dict)
    """Who listens where: a greeting may go to an address alone."""
    overflowed: int = 0
    _held_messages: int = 0
    _held_bytes: int = 0

    def send(self, transmit: Transmit, put: Put) -> None:
        """Let the plan decide on one message (on the loop's own thread)."""
        envelope, size = transmit.envelope, _size(transmit)
        to = str(envelope.to) or self.names.get(transmit.address, "")
        outcome = self.links.outcome(str(envelope.sender), to, size, self.elapsed_s())
        corrupt = Flip(f"{envelope.sender}/{to}/{self.links.counts.total()}") if outcome.corrupt else None
        for copy, delay_s in enumerate(outcome.delays_s):
            if delay_s > 0:
                self._hold(delay_s, size, transmit, corrupt, put)
            else:
                put(transmit, late=copy > 0, corrupt=corrupt)

    def _hold(self, delay_s: float, size: int, transmit: Transmit, corrupt: Corrupt | None, put: Put) -> None:
        if self._held_messages >= HELD_MESSAGES_MAX or self._held_bytes + size > HELD_BYTES_MAX:
            self.overflowed += 1
            return
        self._held_messages += 1
        self._held_bytes += size
        asyncio.get_running_loop().call_later(delay_s, self._release, size, transmit, corrupt, put)

    def _release(self, size: int, transmit: Transmit, corrupt: Corrupt | None, put: Put) -> None:
        self._held_messages -= 1
        self._held_bytes -= size
        put(transmit, late=True, corrupt=corrupt)


@dataclass(frozen=True, slots=True)
class Flip:
    """Flips one bit of one frame, in a copy; which one is drawn by `seed`."""

    seed: str

    def __call__(self, frames: Sequence[bytes | memoryview]) -> Frames:
        draws, flipped = random.Random(self.seed), list(frames)
        place = draws.choice([n for n, frame in enumerate(frames) if len(frame)])
        spoilt = bytearray(frames[place])
        spoilt[draws.randrange(len(spoilt))] ^= 1 << draws.randrange(8)
        flipped[place] = bytes(spoilt)
        return flipped


def _size(transmit: Transmit) -> int:
    message = transmit.envelope.message
    return _HEADER_BYTES + (message.payload.nbytes if isinstance(message, State | Consignment) else 0)

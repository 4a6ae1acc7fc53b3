"""A driver's outgoing messages bent by a fault plan: lost, late, twice, or with a flipped byte.

Every process bends what it sends, so one plan bends each direction of each link once. What comes late and is not taken
by its socket is lost silently: telling the protocol that it was never on the wire would be wrong of a second copy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.faults import LinkFaults
from gossipdistill.messages import Consignment, State, Transmit
from gossipdistill.presence import Address

HELD_MESSAGES_MAX = 1024
HELD_BYTES_MAX = 64 * 1024 * 1024
"""Messages under way at the same time; what would be more is lost, as in a router."""
_HEADER_BYTES = 120
"""Of a message without payload, for a rate limit."""

Frames = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Flip:
    """Flips one bit of one frame, in a copy; which one is drawn by `seed`."""

    seed: str

    def flipped(self, frames: Sequence[bytes | memoryview]) -> Frames:
        """The frames with that bit flipped."""
        draws, changed = random.Random(self.seed), list(frames)
        place = draws.choice([n for n, frame in enumerate(frames) if len(frame)])
        frame = bytearray(frames[place])
        frame[draws.randrange(len(frame))] ^= 1 << draws.randrange(8)
        changed[place] = bytes(frame)
        return changed


class Copy(NamedTuple):
    """One copy of a message that the plan lets pass, `delay_s` from now. `late`: the protocol is not told when no
    socket takes it. `flip` changes its frames."""

    transmit: Transmit
    delay_s: float
    late: bool
    flip: Flip | None
    size: int


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

    def copies(self, transmit: Transmit) -> list[Copy]:
        """What the plan makes of one message (on the loop's own thread). Those with a delay are under way until
        `release`."""
        envelope, size = transmit.envelope, _size(transmit)
        to = str(envelope.to) or self.names.get(transmit.address, "")
        outcome = self.links.outcome(str(envelope.sender), to, size, self.elapsed_s())
        flip = Flip(f"{envelope.sender}/{to}/{self.links.counts.total()}") if outcome.corrupt else None
        copies = [
            Copy(transmit, delay_s, number > 0 or delay_s > 0, flip, size)
            for number, delay_s in enumerate(outcome.delays_s)
        ]
        return [copy for copy in copies if copy.delay_s <= 0 or self._holds(size)]

    def release(self, copy: Copy) -> None:
        """Its delay is over."""
        self._held_messages -= 1
        self._held_bytes -= copy.size

    def _holds(self, size: int) -> bool:
        """Whether there is room for one more under way."""
        if self._held_messages >= HELD_MESSAGES_MAX or self._held_bytes + size > HELD_BYTES_MAX:
            self.overflowed += 1
            return False
        self._held_messages += 1
        self._held_bytes += size
        return True


def _size(transmit: Transmit) -> int:
    message = transmit.envelope.message
    return _HEADER_BYTES + (message.payload.nbytes if isinstance(message, State | Consignment) else 0)

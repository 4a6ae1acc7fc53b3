"""A fault plan applied to a driver's outgoing messages: lost, late, duplicated, or with a flipped bit.

Every process applies the plan to what it sends, so each direction of each link is affected once. A late message that
its socket does not accept is lost silently: the protocol must not be told that it was never on the wire, which would be
wrong for a second copy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gossipdistill.faults import LinkFaults
from gossipdistill.messages import ReliableMessage, State, Transmit
from gossipdistill.presence import Address

HELD_MESSAGES_MAX = 1024
HELD_BYTES_MAX = 64 * 1024 * 1024
"""At most this many messages and bytes are delayed at the same time; further ones are lost, as in a router."""
_HEADER_BYTES = 120
"""The size of a message without payload, for a rate limit."""

Frames = list[bytes | memoryview]


@dataclass(frozen=True, slots=True)
class Flip:
    """Flips one bit of one frame, in a copy; `seed` determines which one."""

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
    """Applies the plan between a driver and its sockets. `elapsed_s` is the time since the start of the run, negative
    before it."""

    links: LinkFaults
    elapsed_s: Callable[[], float]
    names: Mapping[Address, str] = field(default_factory=dict)
    """The name of the peer at each address: a greeting may have only an address."""
    overflowed: int = 0
    _held_messages: int = 0
    _held_bytes: int = 0

    def copies(self, transmit: Transmit) -> list[Copy]:
        """The copies of one message by the plan (on the loop's own thread). Those with a delay are held until
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
        """Note that the delay of a copy is over."""
        self._held_messages -= 1
        self._held_bytes -= copy.size

    def _holds(self, size: int) -> bool:
        """Hold one more delayed message, if there is room; returns whether there was."""
        if self._held_messages >= HELD_MESSAGES_MAX or self._held_bytes + size > HELD_BYTES_MAX:
            self.overflowed += 1
            return False
        self._held_messages += 1
        self._held_bytes += size
        return True


def _size(transmit: Transmit) -> int:
    message = transmit.envelope.message
    return _HEADER_BYTES + (message.payload.nbytes if isinstance(message, State | ReliableMessage) else 0)

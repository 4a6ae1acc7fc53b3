"""Large bodies in pieces: split before sending, assembled on arrival.

    opening   a `State` or `ReliableMessage` whose layout describes more bytes than its body has; it has
              `piece_bytes_max` of them
    pieces    `Piece` after `Piece`, each from the next multiple of `piece_bytes_max`, all full but the last

Between two pieces of one link a socket may serve others, so a large checkpoint starves none; and a stranger's
announcement makes no reader accept more than one piece at a time.

Rules of this file
1. `split` copies nothing. `Assembly` copies each byte once, into memory that belongs to the completed payload alone:
   its body can be written to, and its reader may use it in place.
2. One body per sender and delivery class is assembled at a time. By their announcements those of one sender have at
   most `payload_bytes_max` together, and all have at most `assembly_bytes_max`. Pages are touched as bytes arrive, so
   an announcement alone costs address space, not memory.
3. Pieces lie on a grid, so a byte can arrive in one piece only. A piece that arrived before is ignored, order does not
   matter, and a piece off the grid is refused: a flood of small pieces cannot touch page after page.
4. A sender that is refused for lack of room sends again later. A body of which nothing arrived while
   `assembly_bytes_max` of others did is dropped for the room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import DeliveryClass, Envelope, Payload, Piece, ReliableMessage, State
from gossipdistill.wire.errors import WireCode, WireError

_Key = tuple[PeerName, DeliveryClass]


def split(envelope: Envelope, limits: Limits) -> Iterator[Envelope]:
    """The envelope itself, or its opening and its pieces, in order; all are views of the one body."""
    message = envelope.message
    if not isinstance(message, State | ReliableMessage) or message.payload.nbytes <= limits.piece_bytes_max:
        yield envelope
        return
    body = memoryview(message.payload.body)
    first = replace(message.payload, body=body[: limits.piece_bytes_max])
    yield replace(envelope, message=message.with_content(payload=first))
    slot = (message.delivery, message.topic, message.key, message.number)
    for offset in range(limits.piece_bytes_max, len(body), limits.piece_bytes_max):
        piece = Piece(*slot, offset, body[offset : offset + limits.piece_bytes_max])
        yield replace(envelope, message=piece)


@dataclass(slots=True)
class _Body:
    """One body that is being assembled. `came` marks the pieces that have arrived."""

    opening: Envelope
    message: State | ReliableMessage
    memory: memoryview
    came: bytearray
    missing: int
    fed_at: int

    def is_for(self, envelope: Envelope, piece: Piece) -> bool:
        whose = (envelope.boot, piece.topic, piece.key, piece.number)
        return whose == (self.opening.boot, self.message.topic, self.message.key, self.message.number)


def _fresh(size: int) -> memoryview:
    return np.empty(size, dtype=np.uint8).data


@dataclass(slots=True)
class Assembly:
    """The incomplete bodies of all senders. Feed it what `decode` returns.

    `allocate` supplies writable memory of a size in bytes for one body; its initial content does not matter, since a
    body is handed out only when every byte of it has arrived.
    """

    limits: Limits
    allocate: Callable[[int], memoryview] = _fresh
    _bodies: dict[_Key, _Body] = field(default_factory=dict)
    _fed: int = 0
    """The number of bytes that were offered since the start: the clock of rule 4."""

    @property
    def announced_bytes(self) -> int:
        """The total size in bytes of all incomplete bodies, once complete."""
        return sum(len(body.memory) for body in self._bodies.values())

    def senders(self) -> set[PeerName]:
        """The senders of incomplete bodies."""
        return {sender for sender, _ in self._bodies}

    def feed(self, envelope: Envelope) -> Envelope | None:
        """The envelope if it is whole, the completed one with its last piece, None while pieces are missing.

        Raises:
            WireError: PIECE for a piece that fits no body, FULL when there is no room for one more body.
        """
        message = envelope.message
        if isinstance(message, Piece):
            self._fed += len(message.body)
            return self._add(envelope, message)
        if not isinstance(message, State | ReliableMessage):
            return envelope
        self._fed += message.payload.nbytes
        total = sum(array.nbytes for array in message.payload.layout)
        self._replace(envelope, message, whole=total == message.payload.nbytes)
        if total == message.payload.nbytes:
            return envelope
        self._open(envelope, message, total)
        return None

    def forget(self, sender: PeerName) -> None:
        """Forget the incomplete bodies of a sender: its connection has ended, and it will send them again from the
        start."""
        for delivery in DeliveryClass:
            self._bodies.pop((sender, delivery), None)

    def _replace(self, envelope: Envelope, message: State | ReliableMessage, whole: bool) -> None:
        """Drop what this message replaces: anything, if it opens a body; an older version, if it is whole."""
        key = (envelope.sender, message.delivery)
        body = self._bodies.get(key)
        if body is None:
            return
        opening = body.opening
        same_slot = (message.topic, message.key) == (body.message.topic, body.message.key)
        older = envelope.boot < opening.boot or (
            same_slot and (envelope.boot, message.number) < (opening.boot, body.message.number)
        )
        if older:
            if not whole:
                raise WireError(WireCode.PIECE, "opens an older body than the one on its way", envelope.sender)
        elif not whole or (same_slot and isinstance(message, State)):  # the next message of a stream replaces nothing
            del self._bodies[key]

    def _open(self, envelope: Envelope, message: State | ReliableMessage, total: int) -> None:
        size = self.limits.piece_bytes_max
        if message.payload.nbytes != size or total > self.limits.payload_bytes_max:
            raise WireError(WireCode.BODY, f"opens a body of {total} bytes with a piece of {message.payload.nbytes}")
        others = sum(len(body.memory) for (name, _), body in self._bodies.items() if name == envelope.sender)
        if others + total > self.limits.payload_bytes_max:
            raise WireError(WireCode.FULL, f"no room for one more of its bodies, of {total} bytes", envelope.sender)
        self._make_room(total, envelope.sender)
        try:
            memory = self.allocate(total)
        except MemoryError:
            raise WireError(WireCode.FULL, f"no memory for a body of {total} bytes", envelope.sender) from None
        memory[:size] = message.payload.body
        came = bytearray(-(-total // size))
        came[0] = 1
        bare = message.with_content(payload=replace(message.payload, body=b""))  # so that the frame can be freed
        self._bodies[envelope.sender, message.delivery] = _Body(
            replace(envelope, message=bare), bare, memory, came, len(came) - 1, self._fed
        )

    def _make_room(self, total: int, sender: PeerName) -> None:
        room = self.limits.assembly_bytes_max
        while self.announced_bytes + total > room:
            idle = min(self._bodies, key=lambda key: self._bodies[key].fed_at, default=None)
            if idle is None or self._fed - self._bodies[idle].fed_at < room:
                raise WireError(WireCode.FULL, f"no room for one more body, of {total} bytes", sender)
            del self._bodies[idle]

    def _add(self, envelope: Envelope, piece: Piece) -> Envelope | None:
        key = (envelope.sender, piece.delivery)
        body = self._bodies.get(key)
        if body is None or not body.is_for(envelope, piece):
            raise WireError(WireCode.PIECE, "a piece of a body that is not on its way", envelope.sender)
        size, total = self.limits.piece_bytes_max, len(body.memory)
        place, beside = divmod(piece.offset, size)
        if beside or piece.offset >= total or len(piece.body) != min(size, total - piece.offset):
            problem = f"{len(piece.body)} bytes at {piece.offset} are no piece of a body of {total}"
            raise WireError(WireCode.PIECE, problem, envelope.sender)
        if body.came[place]:
            return None
        body.memory[piece.offset : piece.offset + size] = piece.body
        body.came[place], body.fed_at = 1, self._fed
        body.missing -= 1
        if body.missing:
            return None
        del self._bodies[key]
        payload = Payload(body.message.payload.layout, body.memory)
        return replace(body.opening, message=body.message.with_content(payload=payload))

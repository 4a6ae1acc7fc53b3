"""From frames to the protocol: read, check who says it, put pieces together, hand over.

Rules of this file
1. A turn reads at most `turn_messages_max` messages and `turn_bytes_max` bytes of one socket, so that no turn of the
   loop takes long; what is left is read in the next one.
2. Who a message says it is from must be whose connection it came through.
3. Pieces are put together for living members only: nobody else can make us hold memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from gossipdistill.drivers.links import Link, Routes
from gossipdistill.drivers.sending import Sending
from gossipdistill.drivers.sockets import Channel, ZmqSocket, may_read
from gossipdistill.ids import PeerName, is_peer_name
from gossipdistill.limits import Limits
from gossipdistill.messages import Consignment, Envelope, Piece, State
from gossipdistill.presence import Greeting, Refusal
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import decode
from gossipdistill.wire.errors import WireCode, WireError
from gossipdistill.wire.pieces import Assembly


@dataclass(frozen=True, slots=True, eq=False)
class Inlet:
    """A socket to read: a ROUTER, or one of the two of a link."""

    socket: ZmqSocket
    channel: Channel
    link: Link | None = None


@dataclass(slots=True)
class Reading:
    """The way in of one driver."""

    peer: Peer
    limits: Limits
    routes: Routes
    sending: Sending
    assembly: Assembly
    clock: Callable[[], float]
    sealed: bool = False
    """Whether a link reaches nobody but the holder of the key of its name."""
    handed_over: int = 0
    """What the protocol was told, in numbers of calls."""

    def drain(self, inlet: Inlet) -> bool:
        """Read a turn's share. Whether there may be more."""
        left_bytes = self.limits.turn_bytes_max
        for _ in range(self.limits.turn_messages_max):
            if not may_read(inlet.socket):  # asking is ten times cheaper than an exception
                return False
            frames = [frame.buffer for frame in inlet.socket.recv_multipart(zmq.NOBLOCK, copy=False)]
            self._receive(frames, inlet)
            left_bytes -= sum(map(len, frames))
            if left_bytes <= 0:
                break
        return True

    def forget(self) -> None:
        """Drop what was on its way from peers that are not there any more."""
        for sender in self.assembly.senders():
            if not is_present(self.peer, sender):
                self.assembly.forget(sender)

    def _receive(self, frames: Sequence[memoryview], inlet: Inlet) -> None:
        now = self.clock()
        if inlet.link is None:
            identity, frames = bytes(frames[0]), frames[1:]
            name = identity.decode("ascii", "replace").partition("/")[0]
            claimed = name if is_peer_name(name) else ""
        else:
            identity, claimed = b"", inlet.link.name
        try:
            envelope = decode(frames, self.limits)
            if inlet.link is None:
                _check_identity(identity, envelope)
            else:
                self._check_link(inlet.link, envelope)
        except WireError as error:
            self.handed_over += 1
            if error.code is WireCode.VERSION and error.sender and error.sender == claimed:
                self.peer.receive_other_version(claimed, error.problem, now)
            else:
                self.peer.receive_malformed(claimed, error.code.value, error.problem, now)
            return
        if identity:
            self._note_route(envelope, identity)
        self._hand_over(envelope, sum(map(len, frames)), now)

    def _hand_over(self, envelope: Envelope, size: int, now: float) -> None:
        traffic = self.sending.traffic_of(envelope.sender)
        traffic.bytes_received += size
        message = envelope.message
        whole: Envelope | None = envelope
        if isinstance(message, State | Consignment | Piece):
            in_pieces = isinstance(message, Piece) or _opens(message)
            if in_pieces and not is_present(self.peer, envelope.sender):
                traffic.astray += 1
                return
            try:
                whole = self.assembly.feed(envelope)
            except WireError as error:
                traffic.astray += 1
                if error.code is not WireCode.PIECE:  # which happens to the honest: a connection ended in between
                    self.handed_over += 1
                    self.peer.receive_malformed(envelope.sender, error.code.value, error.problem, now)
                return
            traffic.messages_received += whole is not None
        if whole is not None:
            self.handed_over += 1
            self.peer.receive(whole, now)

    def _note_route(self, envelope: Envelope, identity: bytes) -> None:
        name = envelope.sender
        self.routes.note(name, envelope.boot, identity, self.peer.address_of(name) is not None)

    def _check_link(self, link: Link, envelope: Envelope) -> None:
        """Who answers on my own connection is whom I dialled, or tells me that somebody else lives there."""
        if link.name in ("", envelope.sender):
            return
        if self.sealed or not isinstance(envelope.message, Greeting | Refusal):
            problem = f"the connection to {link.name} at {link.address} claims to be {envelope.sender}"
            raise WireError(WireCode.SENDER, problem, envelope.sender)


def is_present(peer: Peer, name: str) -> bool:
    """Whether it is a member of whom we do not know that it has gone; a suspect may be slow with its large body."""
    return peer.status_of(PeerName(name)) in (Status.ALIVE, Status.SUSPECT)


def _check_identity(identity: bytes, envelope: Envelope) -> None:
    proper = f"{envelope.sender}/{envelope.boot}".encode("ascii")
    if identity != proper and not identity.startswith(proper + b"/"):
        shown = identity[:80].decode("ascii", "replace")
        problem = f"a connection of {shown!r} claims to be {envelope.sender}/{envelope.boot}"
        raise WireError(WireCode.SENDER, problem)


def _opens(message: State | Consignment) -> bool:
    """Whether the rest of its body comes in pieces."""
    return sum(array.nbytes for array in message.payload.layout) != message.payload.nbytes

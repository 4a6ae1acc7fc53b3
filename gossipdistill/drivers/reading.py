"""From frames to the protocol: read, check who says it, put pieces together, hand over.

Rules of this file
1. A turn reads at most `turn_messages_max` messages and `turn_bytes_max` bytes of one socket, so that no turn of the
   loop takes long; what is left is read in the next one.
2. Who a message says it is from must be whose connection it came through: with keys, the peer to whom the key of that
   connection belongs at that moment; without, whoever has spoken on it first.
3. Pieces are put together for living members only: nobody else can make us hold memory.
4. Who sends more than it may, or is muted, is not read: states and pieces are dropped by a look at their first bytes.
5. Who speaks another wire version is refused in its own, on the connection through which it came if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.links import Link, Routes
from gossipdistill.drivers.security import Curve, may_say
from gossipdistill.drivers.sending import Sending
from gossipdistill.drivers.sockets import Channel, ZmqSocket, may_read
from gossipdistill.drivers.tolls import Tolls
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Consignment, Envelope, Piece, State
from gossipdistill.presence import Enrolments, Greeting, Here, Refusal
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import WIRE_VERSION, decode, holds_state_or_piece
from gossipdistill.wire.errors import WireCode, WireError
from gossipdistill.wire.pieces import Assembly

REVOKED = "revoked"
"""The code under which words of a key that is not trusted any more are counted, beside those of `WireCode`."""


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
    delivered: Callable[[list[zmq.Frame], int, str], None]
    """Told of each message, its size, and who speaks on its connection."""
    curve: Curve | None = None
    speakers: dict[tuple[Channel, bytes], tuple[str, int]] = field(default_factory=dict)
    """Without keys: by connection, the process that has spoken on it first."""
    unheard: int = 0
    """Words of callers who have not enrolled."""
    handed_over: int = 0
    """What the protocol was told, in numbers of calls."""
    _tolls: Tolls = field(init=False)

    def __post_init__(self) -> None:
        self._tolls = Tolls(self.limits)

    def drain(self, inlet: Inlet) -> bool:
        """Read a turn's share. Whether there may be more."""
        left_bytes = self.limits.turn_bytes_max
        for _ in range(self.limits.turn_messages_max):
            if not may_read(inlet.socket):  # asking is ten times cheaper than an exception
                return False
            parts = inlet.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            frames = [part.buffer for part in parts]
            size = sum(map(len, frames))
            if self.curve is None:
                speaker = self._receive(frames, inlet)
            else:
                key = str(parts[-1].get("User-Id")) if inlet.link is None else inlet.link.key
                speaker = self._receive_sealed(frames, inlet, key, self.curve)
            self.delivered(parts, size, speaker)
            left_bytes -= size
            if left_bytes <= 0:
                break
        return may_read(inlet.socket)

    def forget(self) -> None:
        """Drop what was on its way from peers that are not there any more."""
        for sender in self.assembly.senders():
            if not is_present(self.peer, sender):
                self.assembly.forget(sender)

    def _receive_sealed(self, frames: Sequence[memoryview], inlet: Inlet, key: str, curve: Curve) -> str:
        """A message on a connection whose other end has proved to hold `key`. Returns whose key that is, or was."""
        connection = b""
        if inlet.link is None:
            connection, frames = bytes(frames[0]), frames[1:]
        name, former = curve.name_of(key), curve.former_name_of(key)
        if name is None and former is None:
            self._hear_newcomer(frames, inlet, connection, key, curve)
            return ""
        if name is None:
            self.handed_over += 1
            problem = f"a message under the key {key}, which is not trusted any more"
            self.peer.receive_malformed(former or "", REVOKED, problem, self.clock())
            return former or ""
        envelope = self._decode(frames, name, inlet, connection)
        if envelope is not None and not may_say(name, envelope):
            problem = f"the holder of the key of {name} claims to be {envelope.sender}"
            self._refuse(name, WireError(WireCode.SENDER, problem), proven=True)
        elif envelope is not None:
            self._accept(envelope, inlet, connection, sum(map(len, frames)))
        return name

    def _hear_newcomer(
        self, frames: Sequence[memoryview], inlet: Inlet, connection: bytes, key: str, curve: Curve
    ) -> None:
        """Somebody whom the doorkeeper has let in to enrol. It gets an answer if it is refused, and else is ignored."""
        envelope = self._decode(frames, "", inlet, connection) if len(frames) == 1 else None
        if envelope is None or not isinstance(envelope.message, Enrolments):
            self.unheard += 1
            return
        self.handed_over += 1
        refusal = self.peer.introductions.newcomer(key, envelope, self.clock())
        if refusal is not None:
            self.sending.answer(inlet.channel, connection, envelope.sender, envelope.boot, refusal)
        self.take_up_keys(curve)

    def take_up_keys(self, curve: Curve) -> None:
        """Whoever has enrolled is trusted from now on."""
        keys = self.peer.introductions.changed_keys()
        if keys is not None:
            curve.trust({name: key.encode("ascii") for name, key in keys.items()})

    def _receive(self, frames: Sequence[memoryview], inlet: Inlet) -> str:
        """A message on a connection without keys. Returns who speaks on it, as far as it is known."""
        if inlet.link is not None:
            envelope = self._decode(frames, inlet.link.name, inlet)
            problem = _of_another(inlet.link, envelope)
            if problem:
                self._refuse(inlet.link.name, WireError(WireCode.SENDER, problem), proven=True)
            elif envelope is not None:
                self._accept(envelope, inlet, b"", sum(map(len, frames)))
            return inlet.link.name
        connection, frames = bytes(frames[0]), frames[1:]
        said_before = self.speakers.get((inlet.channel, connection))
        known = said_before[0] if said_before is not None else None
        envelope = self._decode(frames, known, inlet, connection)
        if envelope is None:
            return known or ""
        speaker = (envelope.sender, envelope.boot)
        if said_before is None:
            while len(self.speakers) >= 4 * self.limits.links_max:
                del self.speakers[next(iter(self.speakers))]
            self.speakers[inlet.channel, connection] = speaker
        elif said_before != speaker:
            problem = "a connection of {}/{} claims to be {}/{}".format(*said_before, *speaker)
            self._refuse(said_before[0], WireError(WireCode.SENDER, problem))
            return said_before[0]
        self._accept(envelope, inlet, connection, sum(map(len, frames)))
        return envelope.sender

    def _decode(
        self, frames: Sequence[memoryview], speaker: str | None, inlet: Inlet, connection: bytes = b""
    ) -> Envelope | None:
        """The message of this peer; of whoever it says, if the speaker is None. None if it is no message, or dropped
        unread."""
        proven = self.curve is not None or inlet.link is not None
        if self._is_unread(frames, speaker or "", inlet, proven):
            return None
        try:
            return decode(frames, self.limits)
        except WireError as error:
            if speaker is None:
                speaker = error.sender
            if error.version is not None and error.sender and speaker in ("", error.sender):
                whose = error.sender if self.curve is None else speaker
                self._refuse_version(whose, error, error.version, inlet, connection)
            else:
                self._refuse(speaker, error, proven and error.version is None)  # an old release is no offence
        return None

    def _refuse_version(self, speaker: str, error: WireError, theirs: int, inlet: Inlet, connection: bytes) -> None:
        """`speaker` is empty where there are keys, and it has none yet that would show that it is who it says."""
        self.handed_over += 1
        if connection and self.peer.address_of(speaker) is not None:  # perhaps one that nobody can dial
            self.routes.note(speaker, error.boot, inlet.channel, connection, True)
        refusal = self.peer.receive_other_version(speaker, error.boot, theirs, WIRE_VERSION, self.clock())
        if refusal is not None and connection and inlet.channel is Channel.CONTROL:
            self.sending.answer(inlet.channel, connection, error.sender, error.boot, refusal)

    def _is_unread(self, frames: Sequence[memoryview], speaker: str, inlet: Inlet, proven: bool) -> bool:
        """Whether this message is dropped as it is: too much of its sender has come, or its sender is muted."""
        now, name = self.clock(), PeerName(speaker)
        is_member = self.peer.address_of(speaker) is not None
        purse = inlet.link.purse if inlet.link is not None else None
        breach = self._tolls.breach(speaker if is_member else "", inlet.channel, sum(map(len, frames)), now, purse)
        if breach is not None:
            self.handed_over += 1
            self.peer.receive_too_much(speaker, *breach, now, proven)
            return True
        if is_member and frames and holds_state_or_piece(frames[0]) and self.peer.drop_muted(name, now):
            self.assembly.forget(name)
            return True
        return False

    def _refuse(self, speaker: str, error: WireError, proven: bool = False) -> None:
        """`proven`: nobody else can have said it, so it is held against the speaker."""
        self.handed_over += 1
        self.peer.receive_malformed(speaker, error.code.value, error.problem, self.clock(), proven)

    def _accept(self, envelope: Envelope, inlet: Inlet, connection: bytes, size: int) -> None:
        """It is from whom it says."""
        if inlet.link is not None:
            inlet.link.heard = True
        if connection:
            is_member = self.peer.address_of(envelope.sender) is not None
            self.routes.note(envelope.sender, envelope.boot, inlet.channel, connection, is_member)
        if not isinstance(envelope.message, Here):
            self._hand_over(envelope, size, self.clock())

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
                if not self.peer.is_muted(envelope.sender, now):  # else mass is refused by its number, and whole
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


def is_present(peer: Peer, name: str) -> bool:
    """Whether it is a member of whom we do not know that it has gone; a suspect may be slow with its large body."""
    return peer.status_of(PeerName(name)) in (Status.ALIVE, Status.SUSPECT)


def _of_another(link: Link, envelope: Envelope | None) -> str:
    """Who answers on my own connection is whom I dialled, or tells me that somebody else lives there."""
    if envelope is None or link.name in ("", envelope.sender) or isinstance(envelope.message, Greeting | Refusal):
        return ""
    return f"the connection to {link.name} at {link.address} claims to be {envelope.sender}"


def _opens(message: State | Consignment) -> bool:
    """Whether the rest of its body comes in pieces."""
    return sum(array.nbytes for array in message.payload.layout) != message.payload.nbytes

"""From the frames of a message to the protocol: check its sender, assemble pieces, hand it over.

Rules of this file
1. The sender named in a message must be the one of its connection: with keys, the peer to which the key of that
   connection belongs at that moment; without, the one that has spoken on it first.
2. Pieces are assembled for living members only: no other peer can make this process hold memory.
3. Messages of a sender that exceeds its rate, or is muted, are not read: states and pieces are dropped by their first
   bytes.
4. A peer with another wire version is refused in its own version, on the connection of its message if necessary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.newcomers import Newcomers
from gossipdistill.drivers.overload.rate_limits import RateLimits
from gossipdistill.drivers.zeromq.link import Link, Routes
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket
from gossipdistill.drivers.zeromq.security import Curve, may_say
from gossipdistill.drivers.zeromq.sending import Sending
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Envelope, Piece, ReliableMessage, State
from gossipdistill.presence import Enrolments, Greeting, Here, Refusal
from gossipdistill.protocol.members import Status
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.refusals import REVOKED
from gossipdistill.wire.codec import WIRE_VERSION, decode, holds_state_or_piece
from gossipdistill.wire.errors import WireCode, WireError
from gossipdistill.wire.pieces import Assembly


@dataclass(slots=True)
class Ingress:
    """The incoming half of one driver."""

    peer: Peer
    limits: Limits
    routes: Routes
    sending: Sending
    assembly: Assembly
    clock: Callable[[], float]
    curve: Curve | None = None
    speakers: dict[tuple[Channel, bytes], tuple[str, int]] = field(default_factory=dict)
    """Without keys, the process that has spoken first on each connection."""
    unheard: int = 0
    """The number of messages of callers that have not enrolled."""
    unread: int = 0
    """The number of messages that were dropped because their sender exceeded its rate."""
    handed_over: int = 0
    """The number of calls of the protocol."""
    newcomers: Newcomers = field(init=False)
    """The callers that may enrol; the ZAP handler lets them in."""
    _rate_limits: RateLimits = field(init=False)

    def __post_init__(self) -> None:
        self.newcomers = Newcomers(place_s=self.limits.newcomer_s)
        self._rate_limits = RateLimits(self.limits)

    def take_up_keys(self, curve: Curve) -> None:
        """Trust the keys of peers that have enrolled, from now on."""
        keys = self.peer.key_distribution.changed_keys()
        if keys is not None:
            curve.trust({name: key.encode("ascii") for name, key in keys.items()})

    def forget(self) -> None:
        """Drop incomplete bodies of peers that are not present any more."""
        for sender in self.assembly.senders():
            if not is_present(self.peer, sender):
                self.assembly.forget(sender)

    def receive_sealed(self, frames: Sequence[memoryview], readable: ReadableSocket, key: str, curve: Curve) -> str:
        """Handle a message on a connection whose other end has proved to hold `key`. Returns the name that the key has,
        or had."""
        connection = b""
        if readable.link is None:
            connection, frames = bytes(frames[0]), frames[1:]
        name, former = curve.name_of(key), curve.former_name_of(key)
        if name is None and former is None:
            self._hear_newcomer(frames, readable, connection, key, curve)
            return ""
        if name is None:
            self.handed_over += 1
            problem = f"a message under the key {key}, which is not trusted any more"
            self.peer.unreadable.malformed(former or "", REVOKED, problem, self.clock())
            return former or ""
        envelope = self._decode(frames, name, readable, connection)
        if envelope is not None and not may_say(name, envelope):
            problem = f"the holder of the key of {name} claims to be {envelope.sender}"
            self._refuse(name, WireError(WireCode.SENDER, problem), proven=True)
        elif envelope is not None:
            self._accept(envelope, readable, connection, sum(map(len, frames)))
        return name

    def _hear_newcomer(
        self, frames: Sequence[memoryview], readable: ReadableSocket, connection: bytes, key: str, curve: Curve
    ) -> None:
        """Handle a message of a caller that the ZAP handler has let in to enrol. It is answered if it is refused, and
        otherwise ignored."""
        paid = self.newcomers.is_heard_first(key)
        envelope = self._decode(frames, "", readable, connection, paid) if len(frames) == 1 else None
        if envelope is None or not isinstance(envelope.message, Enrolments):
            self.unheard += 1
            return
        self.handed_over += 1
        refusal = self.peer.key_distribution.newcomer(key, envelope, self.clock())
        if refusal is None:
            self.newcomers.enrolled(key)
        else:
            self.newcomers.failed(key)
            self.sending.answer(readable.channel, connection, envelope.sender, envelope.boot, refusal)
        self.take_up_keys(curve)

    def receive(self, frames: Sequence[memoryview], readable: ReadableSocket) -> str:
        """Handle a message on a connection without keys. Returns the peer that speaks on it, as far as it is known."""
        if readable.link is not None:
            envelope = self._decode(frames, readable.link.name, readable)
            problem = _of_another(readable.link, envelope)
            if problem:
                self._refuse(readable.link.name, WireError(WireCode.SENDER, problem), proven=True)
            elif envelope is not None:
                self._accept(envelope, readable, b"", sum(map(len, frames)))
            return readable.link.name
        connection, frames = bytes(frames[0]), frames[1:]
        said_before = self.speakers.get((readable.channel, connection))
        known = said_before[0] if said_before is not None else None
        envelope = self._decode(frames, known, readable, connection)
        if envelope is None:
            return known or ""
        speaker = (envelope.sender, envelope.boot)
        if said_before is None:
            while len(self.speakers) >= 4 * self.limits.links_max:
                del self.speakers[next(iter(self.speakers))]
            self.speakers[readable.channel, connection] = speaker
        elif said_before != speaker:
            problem = "a connection of {}/{} claims to be {}/{}".format(*said_before, *speaker)
            self._refuse(said_before[0], WireError(WireCode.SENDER, problem))
            return said_before[0]
        self._accept(envelope, readable, connection, sum(map(len, frames)))
        return envelope.sender

    def _decode(
        self,
        frames: Sequence[memoryview],
        speaker: str | None,
        readable: ReadableSocket,
        connection: bytes = b"",
        paid: bool = False,
    ) -> Envelope | None:
        """Decode a message of this peer; if `speaker` is None, of the peer that it names. Returns None if it is no
        message, or is dropped unread. A `paid` message is never dropped unread."""
        proven = self.curve is not None or readable.link is not None
        if not paid and self._is_unread(frames, speaker or "", readable, proven):
            return None
        try:
            return decode(frames, self.limits)
        except WireError as error:
            if speaker is None:
                speaker = error.sender
            if error.version is not None and error.sender and speaker in ("", error.sender):
                whose = error.sender if self.curve is None else speaker
                self._refuse_version(whose, error, error.version, readable, connection)
            else:
                self._refuse(speaker, error, proven and error.version is None)  # an old release is no offence
        return None

    def _refuse_version(
        self, speaker: str, error: WireError, theirs: int, readable: ReadableSocket, connection: bytes
    ) -> None:
        """Refuse another wire version. With keys, `speaker` is empty while no key shows the sender."""
        self.handed_over += 1
        known = self.peer.table.address_of(speaker) is not None
        if connection and known and not self.peer.boots.is_beyond(error.boot, self.clock()):
            self.routes.note(speaker, error.boot, readable.channel, connection, True)
        refusal = self.peer.unreadable.other_version(speaker, error.boot, theirs, WIRE_VERSION, self.clock())
        if refusal is not None and connection and readable.channel is Channel.CONTROL:
            self.sending.answer(readable.channel, connection, error.sender, error.boot, refusal)

    def _is_unread(self, frames: Sequence[memoryview], speaker: str, readable: ReadableSocket, proven: bool) -> bool:
        """Whether this message is dropped unread: its sender exceeds its rate, or is muted."""
        now, name = self.clock(), PeerName(speaker)
        is_member = self.peer.table.address_of(speaker) is not None
        budget = readable.link.budget if readable.link is not None else None
        whose = speaker if is_member or self.curve is not None else ""  # a name that is proved by its key
        breach = self._rate_limits.breach(whose, readable.channel, sum(map(len, frames)), now, budget)
        if breach is not None:
            self.unread += 1
            self.handed_over += 1
            self.peer.unreadable.too_much(speaker, *breach, now, proven)
            return True
        if is_member and frames and holds_state_or_piece(frames[0]) and self.peer.payloads.drop_muted(name, now):
            self.assembly.forget(name)
            return True
        return False

    def _refuse(self, speaker: str, error: WireError, proven: bool = False) -> None:
        """Count a refused message. `proven`: nobody else can have sent it, so it is an offence of the speaker."""
        self.handed_over += 1
        self.peer.unreadable.malformed(speaker, error.code.value, error.problem, self.clock(), proven)

    def _accept(self, envelope: Envelope, readable: ReadableSocket, connection: bytes, size: int) -> None:
        """Accept a message with a checked sender."""
        if readable.link is not None:
            readable.link.heard = True
        if connection and not self.peer.boots.is_beyond(envelope.boot, self.clock()):
            is_member = self.peer.table.address_of(envelope.sender) is not None
            self.routes.note(envelope.sender, envelope.boot, readable.channel, connection, is_member)
        if not isinstance(envelope.message, Here):
            self._hand_over(envelope, size, self.clock())

    def _hand_over(self, envelope: Envelope, size: int, now: float) -> None:
        traffic = self.sending.traffic_of(envelope.sender)
        traffic.bytes_received += size
        message = envelope.message
        whole: Envelope | None = envelope
        if isinstance(message, State | ReliableMessage | Piece):
            in_pieces = isinstance(message, Piece) or _opens(message)
            unknown = in_pieces and self.peer.payloads.turns_down(envelope.sender, message.topic, now)
            if unknown or (in_pieces and not is_present(self.peer, envelope.sender)):
                traffic.orphans += 1
                return
            try:
                if not self.peer.scores.mutes(envelope.sender, now):  # else mass is refused whole, by its number
                    whole = self.assembly.feed(envelope)
            except WireError as error:
                traffic.orphans += 1
                if error.code is not WireCode.PIECE:  # happens to honest peers: a connection ended in between
                    self.handed_over += 1
                    self.peer.unreadable.malformed(envelope.sender, error.code.value, error.problem, now)
                return
            traffic.messages_received += whole is not None
        if whole is not None:
            self.handed_over += 1
            self.peer.receive(whole, now)


def is_present(peer: Peer, name: str) -> bool:
    """Whether it is a member that is not known to have gone; a suspect may be slow with its large body."""
    return peer.view.status_of(PeerName(name)) in (Status.ALIVE, Status.SUSPECT)


def _of_another(link: Link, envelope: Envelope | None) -> str:
    """The problem if the peer that answers on my own connection is not the one that I dialled; empty if it is, or if it
    only says that another peer is there."""
    if envelope is None or link.name in ("", envelope.sender) or isinstance(envelope.message, Greeting | Refusal):
        return ""
    return f"the connection to {link.name} at {link.address} claims to be {envelope.sender}"


def _opens(message: State | ReliableMessage) -> bool:
    """Whether the rest of its body arrives in pieces."""
    return sum(array.nbytes for array in message.payload.layout) != message.payload.nbytes

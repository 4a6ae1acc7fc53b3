"""One message to one socket, without ever blocking: through my link, or back through the other end's connection.

Rules of this file
1. A send never blocks. If no socket accepts a message at once, the caller tells the protocol.
2. My own link comes first. The route back is used when there is no link, or no peer at its other end.
3. A silent data socket sends a sign of life now and then: a peer that has not dialled me can answer only on a
   connection on which something has arrived.
4. Large payloads are not copied: the socket is given a view, and the payload lives until the last piece is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.faulty import Flip
from gossipdistill.drivers.zeromq.link import Link, Route, Routes
from gossipdistill.drivers.zeromq.links import Links
from gossipdistill.drivers.zeromq.sockets import ZmqSocket, may_write
from gossipdistill.messages import Envelope, Message, Piece, ReliableMessage, State, Transmit
from gossipdistill.presence import NOWHERE, Here
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import encode

_COPY_BYTES_MAX = 64 * 1024
"""A copy of fewer bytes than this is cheaper than the bookkeeping of a zero-copy send."""
_HERE_EVERY_S = 1.0
Way = Link | Route


@dataclass(slots=True)
class Traffic:
    """The traffic between this process and one peer, counted at the sockets, headers included. A message in pieces is
    one message, counted when its last piece was handed over or arrived."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    not_taken: int = 0
    orphans: int = 0
    """The number of pieces that arrived without their body: the message that opened it was lost with a connection."""


@dataclass(slots=True)
class Sending:
    """The sending part of one driver. `touched` collects the sockets that were used, and whether they accepted
    something: a send may swallow the signal that something has arrived, or that there is room again, so they are
    checked afterwards."""

    peer: Peer
    links: Links
    routes: Routes
    routers: dict[Channel, ZmqSocket]
    traffic: dict[str, Traffic]
    clock: Callable[[], float]
    touched: dict[ZmqSocket, bool] = field(default_factory=dict)
    ended: list[Route] = field(default_factory=list)
    """Routes back that have ended, until the driver has read them."""

    def put(self, transmit: Transmit, way: Way | None, flip: Flip | None = None) -> Way | None:
        """Offer a message to one way, or to all; returns the way that accepted it, or None. `flip` changes its
        frames."""
        envelope, now = transmit.envelope, self.clock()
        channel = channel_of(envelope)
        if isinstance(way, Link):
            if way in self.links.closed:
                return None  # it may be open again, but what was sent before has been lost
            if not (way.sockets and may_write(way.sockets[channel])):
                return None  # the next piece of a body: offered often, and rarely worth encoding
        frames = encode(envelope) if flip is None else flip.flipped(encode(envelope))
        size = sum(map(len, frames))
        traffic = self.traffic_of(envelope.to)
        for candidate in (way,) if way is not None else self._ways(transmit, now):
            if self._take(candidate, channel, frames, size, now):
                traffic.bytes_sent += size
                if channel is Channel.CONTROL and isinstance(candidate, Link):
                    self._say_here(candidate, envelope, now)
                return candidate
            if isinstance(candidate, Link):
                if not candidate.is_deaf(channel, now):
                    break  # a slow peer is connected: the other way would only be a second queue
                self.links.tend(candidate, now)
        traffic.not_taken += 1
        return None

    def sent(self, transmit: Transmit) -> None:
        """Count a message of the data channel that was handed over to its last piece."""
        self.traffic_of(transmit.envelope.to).messages_sent += 1

    def answer(self, channel: Channel, connection: bytes, to: str, to_boot: int, message: Message) -> None:
        """Send one message back on the connection of a peer of which nothing else is known; it may be lost."""
        me = self.peer.me
        envelope = Envelope(me.name, me.boot, to, to_boot, message)
        frames = encode(envelope)
        self._take(Route(to_boot, {channel: connection}), channel, frames, sum(map(len, frames)), 0.0)

    def traffic_of(self, name: str) -> Traffic:
        """The counts of a member. Those of strangers are thrown away, since they choose their names and this table
        lives as long as the process."""
        known = self.traffic.get(name)
        if known is None:
            known = Traffic()
            if self.peer.table.address_of(name) is not None:
                self.traffic[name] = known
        return known

    def _say_here(self, link: Link, envelope: Envelope, now: float) -> None:
        if now - link.took_s[Channel.DATA] >= _HERE_EVERY_S:
            frames = encode(replace(envelope, message=Here()))
            self._take(link, Channel.DATA, frames, sum(map(len, frames)), now)

    def _ways(self, transmit: Transmit, now: float) -> list[Way]:
        envelope, ways = transmit.envelope, list[Way]()
        if transmit.address != NOWHERE:
            ways.append(self.links.to(transmit.address, envelope.to, now))
        route = self.routes.to(envelope.to, envelope.to_boot) if envelope.to else None
        if route is not None:
            ways.append(route)
        return ways

    def _take(self, way: Way, channel: Channel, frames: Sequence[bytes | memoryview], size: int, now: float) -> bool:
        if isinstance(way, Link):
            if not way.sockets:
                return False
            socket = way.sockets[channel]
        else:
            connection = way.connections.get(channel)
            if connection is None:
                return False
            socket, frames = self.routers[channel], [connection, *frames]
        self.touched.setdefault(socket, False)
        try:
            socket.send_multipart(frames, zmq.NOBLOCK, copy=size < _COPY_BYTES_MAX)
        except zmq.ZMQError as error:  # no connection yet, its queue is full, or (on the way back) it has ended
            if isinstance(way, Route) and error.errno == zmq.EHOSTUNREACH:
                self.ended.append(way)
            return False
        self.touched[socket] = True
        if isinstance(way, Link):
            way.took_s[channel] = now
        return True


def channel_of(envelope: Envelope) -> Channel:
    """Payloads travel on the data socket, everything else on the control socket."""
    return Channel.DATA if isinstance(envelope.message, State | ReliableMessage | Piece | Here) else Channel.CONTROL

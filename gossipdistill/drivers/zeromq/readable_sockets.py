"""The sockets that are read, and those that may have something to read now.

ZeroMQ's descriptor is edge-triggered in a way: any call on a socket may swallow its signal. So after it fires, a socket
is read until it is empty, in turns; and a socket that was written to is checked again before the loop sleeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.link import Link
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.sockets import ZmqSocket, may_read, may_write


@dataclass(frozen=True, slots=True, eq=False)
class ReadableSocket:
    """A socket that is read: a ROUTER, or one of the two of a link."""

    socket: ZmqSocket
    channel: Channel
    link: Link | None = None


@dataclass(slots=True)
class ReadableSockets:
    """The readable sockets of one driver, which takes a turn when one may have something to read, or has room again."""

    loop: DriverLoop
    by_socket: dict[ZmqSocket, ReadableSocket] = field(default_factory=dict)
    ready: dict[ReadableSocket, None] = field(default_factory=dict)
    """These may have more to read than a turn's share."""
    behind: set[ReadableSocket] = field(default_factory=set)
    """Sockets that were not read to the end in the last turn."""
    overlong: set[ReadableSocket] = field(default_factory=set)
    """Sockets whose next frames are the rest of an overlong message."""

    def listen_to(self, readable: ReadableSocket) -> None:
        """Read this socket from now on."""
        self.by_socket[readable.socket] = readable
        self.loop.listen(readable.socket, self._awake, readable)
        self.ready[readable] = None  # for what arrived before this call

    def leave(self, sockets: Iterable[ZmqSocket]) -> None:
        """Stop reading these: they are about to be closed."""
        for socket in list(sockets):
            readable = self.by_socket.pop(socket, None)
            if readable is not None:
                self.ready.pop(readable, None)
                self.behind.discard(readable)
                self.overlong.discard(readable)
                self.loop.listen_no_more(socket)

    def look_again(self, touched: Mapping[ZmqSocket, bool]) -> bool:
        """Check the sockets that were used: sending, and this check too, may have swallowed the signal that something
        has arrived or that there is room again. `touched`: socket -> whether it accepted what was sent. Returns whether
        there may be room for more data."""
        room = False
        for socket, took in touched.items():
            readable = self.by_socket.get(socket)
            if readable is None:
                continue
            if may_read(socket):
                self.ready[readable] = None
            room = room or (took and readable.channel is Channel.DATA and may_write(socket))
        return room

    def _awake(self, readable: ReadableSocket) -> None:
        """Handle its descriptor, which has fired: something has arrived, or there is room again."""
        self.ready[readable] = None
        self.loop.turn()

"""The sockets that the loop reads, and those of them that may have something now.

ZeroMQ's descriptor is edge-triggered in a way: any call on a socket may swallow its signal. So after it fires, a socket
is read until it is empty, in turns; and one that was written to is looked at again before the loop goes to sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.links import ReadableSocket
from gossipdistill.drivers.reading import Reading
from gossipdistill.drivers.sockets import Channel, ZmqSocket, may_read, may_write


@dataclass(slots=True)
class ReadableSockets:
    """The readable sockets of one driver. `fired` is called when one may have something, or has room again."""

    reading: Reading
    fired: Callable[[], None]
    loop: asyncio.AbstractEventLoop | None = None
    by_socket: dict[ZmqSocket, ReadableSocket] = field(default_factory=dict)
    ready: dict[ReadableSocket, None] = field(default_factory=dict)
    """They may have more to read than a turn's share."""

    def listen_to(self, readable: ReadableSocket) -> None:
        """Read this socket from now on."""
        assert self.loop is not None
        self.by_socket[readable.socket] = readable
        self.loop.add_reader(int(readable.socket.getsockopt(zmq.FD)), self._awake, readable)
        self.ready[readable] = None  # what came before somebody listened

    def leave(self, sockets: Iterable[ZmqSocket]) -> None:
        """Read these no longer: they are about to be closed."""
        assert self.loop is not None
        for socket in list(sockets):
            readable = self.by_socket.pop(socket, None)
            if readable is not None:
                self.ready.pop(readable, None)
                self.reading.leave(readable)
                self.loop.remove_reader(int(socket.getsockopt(zmq.FD)))

    def drain(self, first: ReadableSocket | None) -> None:
        """Read from those that may have something, control before data, each a turn's share; always from `first`."""
        if first is not None:
            self.ready[first] = None
        for readable in sorted(self.ready, key=_channel_of):
            if not self.reading.drain(readable):
                self.ready.pop(readable, None)

    def look_again(self, touched: Mapping[ZmqSocket, bool]) -> bool:
        """Sending may have swallowed the signal that something has come, or that there is room again; and so may this
        look. `touched`: socket -> whether it took what was sent. Returns whether there may be room for more data."""
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
        """Its descriptor has fired: something has come, or there is room again."""
        self.ready[readable] = None
        self.fired()


def _channel_of(readable: ReadableSocket) -> Channel:
    return readable.channel

"""Notice at once that a connection has ended on which a large body travels.

A socket connects again by itself and says nothing about it; what was in its queue and in the kernel's is lost, and the
protocol would wait for as long as a body of this size may take. libzmq tells a monitor: a pair of sockets more, so only
a link that has carried a large body has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.links import Link
from gossipdistill.drivers.sockets import Channel, Sockets, ZmqSocket, drain

_ENDS_AT_ONCE = 64


@dataclass(slots=True)
class Monitors:
    """The monitors of one driver, by the data socket that each listens to. `ended(link, name)` is told of each
    connection to `name` that has ended."""

    sockets: Sockets
    ended: Callable[[Link, str], None]
    by_socket: dict[ZmqSocket, ZmqSocket] = field(default_factory=dict)

    def begin(self, link: Link, name: str) -> None:
        """Listen from now on until the link is closed, if this was not done before."""
        data = link.sockets[Channel.DATA]
        if data in self.by_socket or not self.sockets.reconnects:
            return
        monitor = self.by_socket[data] = self.sockets.monitor(data)
        asyncio.get_running_loop().add_reader(int(monitor.getsockopt(zmq.FD)), self._read, monitor, link, name)
        self._read(monitor, link, name)  # a descriptor says nothing before its socket was asked once

    def end(self, link: Link) -> None:
        """Listen no longer: its sockets are about to be closed."""
        monitor = self.by_socket.pop(link.sockets[Channel.DATA], None)
        if monitor is not None:
            asyncio.get_running_loop().remove_reader(int(monitor.getsockopt(zmq.FD)))

    def _read(self, monitor: ZmqSocket, link: Link, name: str) -> None:
        """Its descriptor has fired. Empty it, or it would not fire again; several ends are as good as one."""
        heard = False
        while drain(monitor, _ENDS_AT_ONCE):
            heard = True
        if heard:
            self.ended(link, name)

"""Notices at once that a connection has ended on which a large body is in transfer.

A socket reconnects by itself and does not report it; what was in its queue and in the kernel's is lost, and the
protocol would wait for as long as a body of this size may take. libzmq reports it to a monitor, which is one more pair
of sockets, so only a link that has carried a large body has one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.link import Link
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.sockets import Sockets, ZmqSocket, drain

_ENDS_AT_ONCE = 64


@dataclass(slots=True)
class Monitors:
    """The monitors of one driver, by the data socket that each listens to."""

    sockets: Sockets
    loop: DriverLoop
    by_socket: dict[ZmqSocket, ZmqSocket] = field(default_factory=dict)
    ended: list[tuple[Link, str]] = field(default_factory=list)
    """Connections that have ended since the owner last asked, each with its peer."""

    def begin(self, link: Link, name: str) -> None:
        """Listen from now on until the link is closed, if this was not done before."""
        data = link.sockets[Channel.DATA]
        if data in self.by_socket or not self.sockets.reconnects:
            return
        monitor = self.by_socket[data] = self.sockets.monitor(data)
        self.loop.listen(monitor, self._heard, monitor, link, name)
        self._read(monitor, link, name)  # a descriptor does not fire before its socket was read once

    def end(self, link: Link) -> None:
        """Listen no longer: its sockets are about to be closed."""
        monitor = self.by_socket.pop(link.sockets[Channel.DATA], None)
        if monitor is not None:
            self.loop.listen_no_more(monitor)

    def _heard(self, monitor: ZmqSocket, link: Link, name: str) -> None:
        """Handle its descriptor, which has fired."""
        self._read(monitor, link, name)
        if self.ended:
            self.loop.turn()

    def _read(self, monitor: ZmqSocket, link: Link, name: str) -> None:
        """Read all of it, or its descriptor would not fire again; several ends count as one."""
        heard = False
        while drain(monitor, _ENDS_AT_ONCE):
            heard = True
        if heard:
            self.ended.append((link, name))

"""ZeroMQ sockets with every bound set (law 7), and two kinds of them: control, and data on the next port.

Rules of this file
1. No socket leaves it without queue lengths, message sizes, kernel buffers, handshake time, keepalive and a time after
   which a silent connection is given up. Without a bound on message sizes a stranger made a socket hold 200 MiB.
2. Control and data have an I/O thread each, so a sign of life never queues behind a checkpoint.
3. A piece of a large body is far larger than the kernel buffer, so backpressure of a slow reader reaches here within a
   few pieces.
4. Arriving data is read from the kernel however much waits: libzmq 4.3.5 can be crashed from outside where a full queue
   makes it stop reading. What waits is bounded in bytes instead, see `Guard`; where the kernel does not report how much
   that is, on systems other than Linux, queues stay bounded. The kernel checks whether the other end is there, not
   ZMTP.
5. Versions of ZMTP before the third are refused, which libzmq does where there is an authentication domain. It does not
   report the origin of their messages, and ends the process when one connects while a socket is closed.
"""

from __future__ import annotations

from itertools import count

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.overload.resources import tells_bytes
from gossipdistill.drivers.zeromq.security import DOMAIN, Curve, ZapHandler
from gossipdistill.errors import AddressError
from gossipdistill.limits import Limits
from gossipdistill.presence import Address

_PORT_MAX = 65534
_SEAL_BYTES = 256
"""A frame grows by less than this when it is encrypted."""
_IN, _OUT = int(zmq.POLLIN), int(zmq.POLLOUT)  # operations on enums would take as long as the call
ZmqSocket = zmq.Socket[bytes]
ZmqContext = zmq.Context[ZmqSocket]


class Sockets:
    """Makes the sockets of one driver, and closes what it made.

    `transport` is "tcp", or "inproc" between drivers that are given the same `context`. `guarded`: a guard checks the
    waiting bytes (rule 4). No routing ids are set: the id that a caller claims for its connection proves nothing, and a
    caller that claims another's must not take it over.
    """

    def __init__(
        self,
        limits: Limits,
        transport: str = "tcp",
        context: ZmqContext | None = None,
        curve: Curve | None = None,
        guarded: bool = True,
    ) -> None:
        self.limits, self.transport, self.curve = limits, transport, curve
        self._reads_all = guarded and transport != "inproc" and tells_bytes()
        self._shared = context is not None
        self._context: ZmqContext = context if context is not None else zmq.Context(io_threads=2)
        if not self._shared:
            # Two for each link and each I/O thread, and a monitor of two.
            self._context.set(zmq.MAX_SOCKETS, 4 * (limits.links_max + limits.stranger_links_max + 4))
        self.zap_handler: ZapHandler | None = None
        """This answers ZAP requests for the listening sockets; its owner runs it. None without keys, or if no socket
        listens."""
        self._made: set[ZmqSocket] = set()
        self.monitors: dict[ZmqSocket, ZmqSocket] = {}
        """The last monitor of each monitored socket."""
        self._numbers = count()

    @property
    def reconnects(self) -> bool:
        """Whether a socket reconnects by itself to a process that was started again."""
        return self.transport != "inproc"

    def bind(self, address: Address, channel: Channel) -> ZmqSocket:
        """A ROUTER that listens at this address.

        Raises:
            AddressError: when it cannot, with the reason.
        """
        if not 1 <= address.port <= _PORT_MAX:
            raise AddressError(f"cannot listen at {address}: the port must be from 1 to {_PORT_MAX}")
        if self.curve is not None and self.zap_handler is None:
            self.zap_handler = ZapHandler(self.curve)
            self.zap_handler.open(self._plain(zmq.ROUTER))
        router = self._socket(zmq.ROUTER, channel)
        router.setsockopt(zmq.BACKLOG, self.limits.backlog_max)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # report an unreachable recipient instead of dropping the message
        if self.curve is not None:
            self.curve.guard(router)
        try:
            router.bind(self._endpoint(address, channel))
        except zmq.ZMQError as error:
            what = "control" if channel is Channel.CONTROL else "data (the control port + 1)"
            at = address._replace(port=address.port + channel)
            raise AddressError(f"cannot listen at {at} for {what}: {error.strerror}") from None
        return router

    def connect(self, address: Address, name: str) -> tuple[ZmqSocket, ZmqSocket]:
        """A pair of DEALERs, control and data, that connect to this address.

        Raises:
            zmq.ZMQError: when there are too many open files, or the address is of no kind that is known here.
            LookupError: when there are keys, and none of `name`.
        """
        made: list[ZmqSocket] = []
        try:
            for channel in Channel:
                made.append(self._dealer(address, name, channel))
        except zmq.ZMQError:
            self.close(*made)
            raise
        return made[0], made[1]

    def _dealer(self, address: Address, name: str, channel: Channel) -> ZmqSocket:
        if self.curve is not None and self.curve.key_of(name) is None:
            raise LookupError(f"no public key of {name or 'the peer that listens there'}")
        dealer = self._socket(zmq.DEALER, channel)
        dealer.setsockopt(zmq.IMMEDIATE, 1)
        if self.curve is not None:
            self.curve.seal(dealer, name)
        dealer.connect(self._endpoint(address, channel))
        return dealer

    def key_of(self, name: str) -> str:
        """The key that a connection to `name` is encrypted to; "" without keys."""
        key = self.curve.key_of(name) if self.curve is not None else None
        return key.decode("ascii") if key is not None else ""

    def monitor(self, socket: ZmqSocket, events: int = zmq.EVENT_DISCONNECTED) -> ZmqSocket:
        """A socket that receives a message for each connection of `socket` that ends, or for each of other `events`; it
        is closed with `socket`. Read it with `drain`.

        Its queue has no bound: an I/O thread that finds it full waits for its reader, and all its connections with it.
        """
        endpoint = f"inproc://monitor.{id(self):x}.{next(self._numbers)}"
        socket.monitor(endpoint, events)
        made = self.monitors[socket] = self._context.socket(zmq.PAIR)
        made.setsockopt(zmq.RCVHWM, 0)
        made.setsockopt(zmq.LINGER, 0)
        made.connect(endpoint)
        return made

    def pulse(self, channel: Channel) -> ZmqSocket:
        """A monitor that gets a report about once a second from the I/O thread of this channel, which tries to connect
        where nothing can ever listen."""
        restless = self._plain(zmq.DEALER)
        for option, value in (zmq.AFFINITY, 1 << channel), (zmq.LINGER, 0), (zmq.RECONNECT_IVL, 1000):
            restless.setsockopt(option, value)
        monitor = self.monitor(restless, zmq.EVENT_CONNECT_RETRIED)
        restless.connect(f"ipc:///dev/null/{channel.name.lower()}")
        return monitor

    def close(self, *sockets: ZmqSocket) -> None:
        """Close these at once, without lingering."""
        for socket in sockets:
            self._made.discard(socket)
            monitor = self.monitors.pop(socket, None)
            if monitor is not None:
                socket.monitor(None, 0)  # first, or an I/O thread would wait for a reader that is gone
                monitor.close(linger=0)
            socket.close(linger=0)

    def close_all(self) -> None:
        """Close every socket that was made here."""
        self.close(*list(self._made))
        if not self._shared:
            self._context.destroy(linger=0)

    def _endpoint(self, address: Address, channel: Channel) -> str:
        return f"{self.transport}://{Address(address.host, address.port + channel)}"

    def _plain(self, kind: int) -> ZmqSocket:
        made = self._context.socket(kind)
        self._made.add(made)
        return made

    def _socket(self, kind: int, channel: Channel) -> ZmqSocket:
        limits, is_data = self.limits, channel is Channel.DATA
        queued_max = limits.data_messages_queued_max if is_data else limits.control_messages_queued_max
        buffer_bytes = limits.data_buffer_bytes if is_data else limits.control_buffer_bytes
        frame_bytes_max = max(limits.piece_bytes_max, limits.header_bytes_max) if is_data else limits.control_bytes_max
        made = self._plain(kind)
        # Rule 4: libzmq ends the whole process ("Assertion failed: !_io_error") when it finds a ZMTP ping behind what
        # filled a queue, on a connection that has broken meanwhile.
        idle_s = max(1, int(limits.blocked_after_s / 2))
        options = {
            zmq.AFFINITY: 1 << channel,
            zmq.LINGER: 0,
            zmq.SNDHWM: queued_max,
            zmq.RCVHWM: 0 if self._reads_all else queued_max,
            zmq.SNDBUF: buffer_bytes,
            zmq.RCVBUF: buffer_bytes,
            zmq.MAXMSGSIZE: frame_bytes_max + _SEAL_BYTES,
            zmq.HANDSHAKE_IVL: int(limits.handshake_timeout_s * 1000),
            zmq.CONNECT_TIMEOUT: int(limits.handshake_timeout_s * 1000),
            zmq.TCP_MAXRT: int(limits.blocked_after_s * 1000),
            zmq.TCP_KEEPALIVE: 1,
            zmq.TCP_KEEPALIVE_IDLE: idle_s,
            zmq.TCP_KEEPALIVE_INTVL: 1,
            zmq.TCP_KEEPALIVE_CNT: max(1, int(limits.blocked_after_s) - idle_s),
            zmq.RECONNECT_IVL: 50,
            zmq.RECONNECT_IVL_MAX: 1000,
            zmq.IPV6: 1,
        }
        for option, value in options.items():
            made.setsockopt(option, value)
        if self.reconnects and self.curve is None:
            made.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)  # rule 5; without a ZAP handler no request is made
        return made


def may_read(socket: ZmqSocket) -> bool:
    """Whether a message has arrived. The call also processes pending signals, as `may_write` does."""
    return bool(int(socket.get(zmq.EVENTS)) & _IN)


def drain(monitor: ZmqSocket, at_most: int) -> int:
    """Read the events of a monitor. Returns their number; if it is `at_most`, there may be more."""
    read = 0
    while read < at_most and may_read(monitor):
        monitor.recv_multipart(zmq.NOBLOCK)
        read += 1
    return read


def may_write(socket: ZmqSocket) -> bool:
    """Whether a DEALER has room for a message. A ROUTER always returns True, since its recipient is not known."""
    return bool(int(socket.get(zmq.EVENTS)) & _OUT)

"""The protocol on real sockets: ROUTERs bound for input, one pair of DEALERs per peer for output.

Rules of this file
1. A send never blocks. What a socket does not take at once is told to the protocol, which tries again with the newest.
2. Every bound of a socket is set: queue lengths, message sizes, handshake, heartbeats, kernel buffers, time to give up.
3. Names are resolved here, asynchronously; libzmq is given IP addresses only (it resolves in its I/O thread, and one
   dead name then stalls every socket of the context).
4. Control and data travel on different sockets and I/O threads, so a heartbeat never queues behind a checkpoint.

5. Addresses come from others. A link that is no member's is one of few, and one that cannot be opened is an event.
6. A fault of ours in a call-back ends `run` with that fault; half a network thread would be worse than none.

ZeroMQ's descriptor is edge-triggered: after it fires, a socket is read until it is empty, in turns of at most
`turn_messages_max` messages so that no turn of the loop takes long. Control is read before data, so that a process is
greeted before its first state is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.faulty import FaultySender, Spoil
from gossipdistill.drivers.names import look_up
from gossipdistill.errors import AddressError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import is_peer_name
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Address, Consignment, State, Transmit
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import WireCode, WireError, decode, encode

_CONTROL_THREAD, _DATA_THREAD = 1, 2
_COPY_BYTES_MAX = 64 * 1024
"""Below this a copy is cheaper than the bookkeeping of a zero-copy send."""
_TRY_AGAIN_S = 2.0
"""Between two attempts to resolve a name, or to open a socket when there were too many."""
_PORT_MAX = 65534


@dataclass(slots=True)
class Traffic:
    """What passed between this process and one peer, counted at the sockets, headers included."""

    bytes_sent: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    not_taken: int = 0


@dataclass(slots=True)
class Link:
    """The way to one control address: two sockets, opened once the name is resolved to `host`."""

    control: zmq.Socket[bytes] | None = None
    data: zmq.Socket[bytes] | None = None
    host: str = ""
    resolving: asyncio.Task[None] | None = None
    try_at_s: float = float("-inf")
    failures: int = 0

    def close(self) -> None:
        """Close both sockets; nothing lingers."""
        for socket in (self.control, self.data):
            if socket is not None:
                socket.close(linger=0)
        self.control = self.data = None


@dataclass(slots=True)
class Driver:
    """Runs one `Peer` on the current event loop until `stop()`. `clock` is monotonic, in seconds."""

    peer: Peer
    mailbox: Mailbox
    listen: Address
    limits: Limits
    clock: Callable[[], float]
    traffic: dict[str, Traffic] = field(default_factory=dict)
    bound: Address | None = None
    faults: FaultySender | None = None
    """Bends what is sent, in a run with a fault plan."""
    _context: zmq.Context[zmq.Socket[bytes]] | None = None
    _routers: list[zmq.Socket[bytes]] = field(default_factory=list)
    _links: dict[Address, Link] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _timer: asyncio.TimerHandle | None = None
    _leaving: str | None = None
    _reading: bool = False
    _failure: Exception | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    # --- life ----------------------------------------------------------------------------------------------------

    def bind(self) -> Address:
        """Take the two ports.

        Raises:
            AddressError: when one is in use or not ours.
        """
        if not 1 <= self.listen.port <= _PORT_MAX:
            raise AddressError(f"cannot listen at {self.listen}: the port must be from 1 to {_PORT_MAX}")
        self._context = zmq.Context(io_threads=2)
        self._context.set(zmq.MAX_SOCKETS, 2 * (self.limits.links_max + self.limits.stranger_links_max + 1))
        for offset, size, queue, affinity in (
            (0, self.limits.control_bytes_max, self.limits.control_messages_queued_max, _CONTROL_THREAD),
            (1, self.limits.payload_bytes_max, self.limits.data_messages_queued_max, _DATA_THREAD),
        ):
            router = self._socket(zmq.ROUTER, queue, affinity)
            router.setsockopt(zmq.MAXMSGSIZE, size)
            self._routers.append(router)
            address = self.listen._replace(port=self.listen.port + offset)
            try:
                router.bind(f"tcp://{address}")
            except zmq.ZMQError as error:
                self.close()
                what = "control" if offset == 0 else "data (the control port + 1)"
                raise AddressError(f"cannot listen at {address} for {what}: {error.strerror}") from None
        self.bound = self.listen
        return self.listen

    async def run(self) -> None:
        """Serve until `stop` was called and the last words are out."""
        self._loop = asyncio.get_running_loop()
        descriptors = [int(router.getsockopt(zmq.FD)) for router in self._routers]
        try:
            for descriptor in descriptors:
                self._loop.add_reader(descriptor, self._read)
            self._read()
            await self._stopped.wait()
            if self._failure is not None:
                raise self._failure
            await asyncio.sleep(self.limits.flush_s)
        finally:
            for descriptor in descriptors:
                self._loop.remove_reader(descriptor)
            if self._timer is not None:
                self._timer.cancel()
            resolving = [link.resolving for link in self._links.values() if link.resolving is not None]
            for task in resolving:
                task.cancel()
            await asyncio.gather(*resolving, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """Close every socket at once; nothing lingers."""
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def stop(self, reason: str) -> None:
        """Say the last word and end `run` (to be called on the loop's own thread)."""
        if self._leaving is None:
            self._leaving = reason
            self.peer.leave(reason)
            self._turn()
            self._stopped.set()

    def wake(self) -> None:
        """The learner has posted or taken something (to be called on the loop's own thread)."""
        self._turn()

    # --- one turn: mailbox -> protocol -> sockets -> mailbox -------------------------------------------------------

    def _turn(self) -> None:
        if self._context is None or self._loop is None or self._failure is not None:
            return
        try:
            self._work(self.clock())
        except Exception as error:
            self._fail(error)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(self.peer.next_timeout() - self.clock(), 0.001), self._turn)

    def _work(self, now: float) -> None:
        collected = self.mailbox.collect()
        for slot in collected.taken:
            self.peer.taken(slot, now)
        for settlement in collected.settlements:
            self.peer.settle(settlement)
        for slot, parcel in collected.parcels:
            self.peer.publish(slot, parcel, now)
        self.peer.report_progress(*self.mailbox.progress(), now)
        if now >= self.peer.next_timeout():
            self.peer.handle_timeout(now)
        for transmit in self.peer.transmits():
            self._send(transmit, now)
        for arrival in self.peer.arrivals():
            self.mailbox.deliver(arrival)
        freed = self.peer.freed()
        if freed:
            self.mailbox.free(freed)
        if self.mailbox.await_taking(self.peer.awaits_taking()) and self._loop is not None:
            self._loop.call_soon(self._turn)
        events, neighbourhood = self.peer.events(), self.peer.neighbourhood()
        if events or neighbourhood is not None:
            self.mailbox.tell(neighbourhood, events)

    def _read(self) -> None:
        if self._context is None or self._loop is None or self._failure is not None:
            return
        try:
            more = [self._drain(router) for router in self._routers]
        except Exception as error:
            self._fail(error)
            return
        self._turn()
        if any(more) and not self._reading:
            self._reading = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._reading = False
        self._read()

    def _drain(self, router: zmq.Socket[bytes]) -> bool:
        """Whether there may be more to read."""
        for _ in range(self.limits.turn_messages_max):
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return False
            self._receive([frame.buffer for frame in frames])
        return True

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._stopped.set()

    def _receive(self, frames: list[memoryview]) -> None:
        now = self.clock()
        identity = bytes(frames[0]).decode("ascii", "replace")
        name = identity.partition("/")[0]
        claimed = name if is_peer_name(name) else ""
        try:
            envelope = decode(frames[1:], self.limits)
            if identity != f"{envelope.sender}/{envelope.boot}":
                problem = f"a connection of {identity[:80]!r} claims to be {envelope.sender}/{envelope.boot}"
                raise WireError(WireCode.SENDER, problem)
        except WireError as error:
            if error.code is WireCode.VERSION and error.sender and error.sender == claimed:
                self.peer.receive_other_version(claimed, error.problem, now)
            else:
                self.peer.receive_malformed(claimed, error.code.value, error.problem, now)
            return
        if self.peer.address_of(envelope.sender) is not None:
            traffic = self.traffic.setdefault(envelope.sender, Traffic())
            traffic.messages_received += isinstance(envelope.message, State | Consignment)
            traffic.bytes_received += sum(len(frame) for frame in frames[1:])
        self.peer.receive(envelope, now)

    def _send(self, transmit: Transmit, now: float) -> None:
        if self.faults is None:
            self._put(transmit, now)
        else:
            self.faults.send(transmit, self._put_bent)

    def _put_bent(self, transmit: Transmit, late: bool = False, spoil: Spoil | None = None) -> None:
        """What a fault plan lets pass, now or `late` (then from a timer of the loop)."""
        try:
            self._put(transmit, self.clock(), late, spoil)
        except Exception as error:
            self._fail(error)

    def _put(self, transmit: Transmit, now: float, late: bool = False, spoil: Spoil | None = None) -> None:
        envelope = transmit.envelope
        is_data = isinstance(envelope.message, State | Consignment)
        # Strangers choose their names, and this table lives as long as the process.
        known = self.peer.address_of(envelope.to) is not None
        traffic = self.traffic.setdefault(envelope.to, Traffic()) if known else Traffic()
        link = self._link(transmit.address, now)
        dealer = link.data if is_data else link.control
        frames = encode(envelope) if spoil is None else spoil(encode(envelope))
        size = sum(len(frame) for frame in frames)
        try:
            if dealer is None:
                raise zmq.Again
            dealer.send_multipart(frames, zmq.NOBLOCK, copy=size < _COPY_BYTES_MAX)
        except zmq.ZMQError:  # Again: no connection yet, or its queue is full
            traffic.not_taken += 1
            self._tend(link, transmit.address, now)
            if not late:
                self.peer.not_sent(transmit, now)
            return
        traffic.messages_sent += is_data
        traffic.bytes_sent += size

    # --- sockets -------------------------------------------------------------------------------------------------

    def _link(self, address: Address, now: float) -> Link:
        link = self._links.get(address)
        if link is None:
            members = self.peer.addresses()
            strangers = [other for other in self._links if other not in members]
            for other in strangers[: len(strangers) + 1 - self.limits.stranger_links_max]:
                self._drop(other)
            link = self._links[address] = Link()
            self._tend(link, address, now)
        return link

    def _drop(self, address: Address) -> None:
        link = self._links.pop(address)
        if link.resolving is not None:
            link.resolving.cancel()
        link.close()

    def _tend(self, link: Link, address: Address, now: float) -> None:
        """Open a link, or open it again: a name may have moved to another machine (a container that was replaced)."""
        if now < link.try_at_s or self._loop is None or (link.resolving is not None and not link.resolving.done()):
            return
        link.try_at_s = now + _TRY_AGAIN_S
        if not _is_literal(address.host):
            link.resolving = self._loop.create_task(self._resolve(link, address))
        elif link.control is None:
            self._open(link, address, address.host)

    async def _resolve(self, link: Link, address: Address) -> None:
        """Look the name up, and go to its next address if the one in use does not answer."""
        try:
            found = await look_up(address)
            hosts = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            host = hosts[(hosts.index(link.host) + 1) % len(hosts) if link.host in hosts else 0]
        except (OSError, ValueError, IndexError) as error:  # ValueError: no name at all, such as "a..b"
            link.failures += 1
            if link.failures == 3:
                self._warn(f"cannot resolve the name {address.host}: {error}; trying on")
            return
        link.failures = 0
        if self._context is not None and (host != link.host or link.control is None):
            self._open(link, address, host)

    def _open(self, link: Link, address: Address, host: str) -> None:
        link.close()
        link.host = host
        try:
            link.control = self._socket(zmq.DEALER, self.limits.control_messages_queued_max, _CONTROL_THREAD)
            link.control.connect(f"tcp://{Address(host, address.port)}")
            link.data = self._socket(zmq.DEALER, self.limits.data_messages_queued_max, _DATA_THREAD)
            link.data.connect(f"tcp://{Address(host, address.data_port)}")
        except zmq.ZMQError as error:  # too many open files, or an address of no kind that is known here
            link.close()
            link.failures += 1
            if link.failures == 1:
                self._warn(f"cannot open a connection to {address}: {error.strerror}; trying on")

    def _warn(self, reason: str) -> None:
        self.mailbox.tell(None, [Event(EventKind.WARNING, self.clock(), "", reason)])

    def _socket(self, kind: int, queued_max: int, affinity: int) -> zmq.Socket[bytes]:
        assert self._context is not None
        made = self._context.socket(kind)
        options = {
            zmq.AFFINITY: affinity,
            zmq.LINGER: 0,
            zmq.SNDHWM: queued_max,
            zmq.RCVHWM: queued_max,
            zmq.SNDBUF: self.limits.socket_buffer_bytes,
            zmq.RCVBUF: self.limits.socket_buffer_bytes,
            zmq.HANDSHAKE_IVL: int(self.limits.handshake_timeout_s * 1000),
            zmq.TCP_MAXRT: int(self.limits.dead_after_s * 1000),
            zmq.RECONNECT_IVL: 50,
            zmq.RECONNECT_IVL_MAX: 1000,
            zmq.CONNECT_TIMEOUT: int(self.limits.handshake_timeout_s * 1000),
            zmq.IPV6: 1,
        }
        if kind == zmq.DEALER:
            options |= {zmq.IMMEDIATE: 1, zmq.MAXMSGSIZE: 1024}
            # One end pings: twice within the time after which a silent connection is given up.
            options |= {
                zmq.HEARTBEAT_IVL: int(self.limits.dead_after_s * 500),
                zmq.HEARTBEAT_TIMEOUT: int(self.limits.dead_after_s * 1000),
                zmq.HEARTBEAT_TTL: int(self.limits.dead_after_s * 1000),
            }
            # The name is claimed once per connection; the boot keeps a restarted process apart from its predecessor.
            made.setsockopt(zmq.ROUTING_ID, f"{self.peer.me.name}/{self.peer.me.boot}".encode("ascii"))
        else:
            options |= {zmq.ROUTER_HANDOVER: 1}
        for option, value in options.items():
            made.setsockopt(option, value)
        return made


def _is_literal(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False

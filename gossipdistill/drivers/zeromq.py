"""The protocol on real sockets: ROUTERs bound for input, one pair of DEALERs per peer for output.

Rules of this file
1. A send never blocks. What a socket does not take at once is told to the protocol, which tries again with the newest.
2. Every bound of a socket is set: queue lengths, message sizes, handshake, heartbeats, kernel buffers, time to give up.
3. Names are resolved here, asynchronously; libzmq is given IP addresses only (it resolves in its I/O thread, and one
   dead name then stalls every socket of the context).
4. Control and data travel on different sockets and I/O threads, so a heartbeat never queues behind a checkpoint.

ZeroMQ's descriptor is edge-triggered: after it fires, a socket is read until it is empty, in turns of at most
`turn_messages_max` messages so that no turn of the loop takes long.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket as sockets
from collections.abc import Callable
from dataclasses import dataclass, field

import zmq

from gossipdistill.errors import AddressError
from gossipdistill.events import Event, EventKind
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Address, State, Transmit
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import WireCode, WireError, decode, encode

_CONTROL_THREAD, _DATA_THREAD = 1, 2
_COPY_BYTES_MAX = 64 * 1024
"""Below this a copy is cheaper than the bookkeeping of a zero-copy send."""
_RESOLVE_AGAIN_S = 2.0


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
    """The way to one control address: two sockets, opened once the name is resolved."""

    control: zmq.Socket[bytes] | None = None
    data: zmq.Socket[bytes] | None = None
    resolving: asyncio.Task[None] | None = None


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
    _context: zmq.Context[zmq.Socket[bytes]] | None = None
    _routers: list[zmq.Socket[bytes]] = field(default_factory=list)
    _links: dict[Address, Link] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _timer: asyncio.TimerHandle | None = None
    _leaving: str | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    # --- life ----------------------------------------------------------------------------------------------------

    def bind(self) -> Address:
        """Take the two ports.

        Raises:
            AddressError: when one is in use or not ours.
        """
        self._context = zmq.Context(io_threads=2)
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
        for router in self._routers:
            self._loop.add_reader(_descriptor(router), self._read, router)
        self._turn()
        try:
            await self._stopped.wait()
            await asyncio.sleep(self.limits.flush_s)
        finally:
            for router in self._routers:
                self._loop.remove_reader(_descriptor(router))
            if self._timer is not None:
                self._timer.cancel()
            for link in self._links.values():
                if link.resolving is not None:
                    link.resolving.cancel()
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
        if self._context is None or self._loop is None:
            return
        now = self.clock()
        parcels, taken = self.mailbox.collect()
        for slot in taken:
            self.peer.taken(slot, now)
        for slot, parcel in parcels:
            self.peer.publish(slot, parcel, now)
        self.peer.report_progress(*self.mailbox.progress(), now)
        if now >= self.peer.next_timeout():
            self.peer.handle_timeout(now)
        for transmit in self.peer.transmits():
            self._send(transmit, now)
        for arrival in self.peer.arrivals():
            self.mailbox.deliver(arrival)
        events, neighbourhood = self.peer.events(), self.peer.neighbourhood()
        if events or neighbourhood is not None:
            self.mailbox.tell(neighbourhood, events)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(self.peer.next_timeout() - self.clock(), 0.001), self._turn)

    def _read(self, router: zmq.Socket[bytes]) -> None:
        for _ in range(self.limits.turn_messages_max):
            try:
                frames = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._turn()
                return
            except zmq.ZMQError:
                return  # closed while leaving
            self._receive([frame.buffer for frame in frames])
        self._turn()
        if self._loop is not None:
            self._loop.call_soon(self._read, router)

    def _receive(self, frames: list[memoryview]) -> None:
        now = self.clock()
        identity = bytes(frames[0]).decode("ascii", "replace").partition("/")[0]
        try:
            envelope = decode(frames[1:], self.limits)
        except WireError as error:
            if error.code is WireCode.VERSION and error.sender:
                self.peer.receive_other_version(error.sender, error.problem, now)
            else:
                self.peer.receive_malformed(identity, error.code.value, error.problem, now)
            return
        if envelope.sender != identity:
            problem = f"a connection of {identity[:64]!r} claims to be {envelope.sender}"
            self.peer.receive_malformed(identity, WireCode.SENDER.value, problem, now)
            return
        if self.peer.address_of(envelope.sender) is not None:
            traffic = self.traffic.setdefault(envelope.sender, Traffic())
            traffic.messages_received += isinstance(envelope.message, State)
            traffic.bytes_received += sum(len(frame) for frame in frames[1:])
        self.peer.receive(envelope, now)

    def _send(self, transmit: Transmit, now: float) -> None:
        envelope = transmit.envelope
        link = self._link(transmit.address)
        is_state = isinstance(envelope.message, State)
        dealer = link.data if is_state else link.control
        if dealer is None:
            self.peer.not_sent(transmit, now)
            return
        frames = encode(envelope)
        traffic = self.traffic.setdefault(envelope.to, Traffic()) if envelope.to else Traffic()
        size = sum(len(frame) for frame in frames)
        try:
            dealer.send_multipart(frames, zmq.NOBLOCK, copy=size < _COPY_BYTES_MAX)
        except zmq.ZMQError:  # Again: no connection yet, or its queue is full
            traffic.not_taken += 1
            self.peer.not_sent(transmit, now)
            return
        traffic.messages_sent += is_state
        traffic.bytes_sent += size

    # --- sockets -------------------------------------------------------------------------------------------------

    def _link(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = Link()
            if _is_literal(address.host):
                self._open(link, address)
            elif self._loop is not None:
                link.resolving = self._loop.create_task(self._resolve(link, address))
        return link

    async def _resolve(self, link: Link, address: Address) -> None:
        """Look the name up, again and again until it is known."""
        failures = 0
        while self._context is not None:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(
                    address.host, address.port, type=sockets.SOCK_STREAM
                )
                self._open(link, Address(str(found[0][4][0]), address.port))
                return
            except OSError as error:
                failures += 1
                if failures == 3:
                    reason = f"cannot resolve the name {address.host}: {error.strerror}; trying on"
                    self.mailbox.tell(None, [Event(EventKind.WARNING, self.clock(), "", reason)])
            await asyncio.sleep(_RESOLVE_AGAIN_S)

    def _open(self, link: Link, address: Address) -> None:
        link.control = self._socket(zmq.DEALER, self.limits.control_messages_queued_max, _CONTROL_THREAD)
        link.control.connect(f"tcp://{address}")
        link.data = self._socket(zmq.DEALER, self.limits.data_messages_queued_max, _DATA_THREAD)
        link.data.connect(f"tcp://{address._replace(port=address.port + 1)}")

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
            zmq.HEARTBEAT_IVL: 1000,
            zmq.HEARTBEAT_TIMEOUT: int(self.limits.dead_after_s * 1000),
            zmq.HEARTBEAT_TTL: int(self.limits.dead_after_s * 1000),
            zmq.TCP_MAXRT: int(self.limits.dead_after_s * 1000),
            zmq.RECONNECT_IVL: 50,
            zmq.RECONNECT_IVL_MAX: 1000,
            zmq.CONNECT_TIMEOUT: int(self.limits.handshake_timeout_s * 1000),
            zmq.IPV6: 1,
        }
        if kind == zmq.DEALER:
            options |= {zmq.IMMEDIATE: 1, zmq.MAXMSGSIZE: 1024}
            # The name is claimed once per connection; the boot keeps a restarted process apart from its predecessor.
            made.setsockopt(zmq.ROUTING_ID, f"{self.peer.me.name}/{self.peer.me.boot}".encode("ascii"))
        else:
            options |= {zmq.ROUTER_HANDOVER: 1}
        for option, value in options.items():
            made.setsockopt(option, value)
        return made


def _descriptor(router: zmq.Socket[bytes]) -> int:
    return int(router.getsockopt(zmq.FD))


def _is_literal(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False

"""The protocol on real sockets: ROUTERs that listen, and a pair of DEALERs to each peer; all are read and written.

Rules of this file
1. One turn is: mailbox -> protocol -> sockets -> mailbox. Nothing in it waits, and no turn takes long.
2. A fault of ours in a call-back ends `run` with that fault; half a network thread would be worse than none.
3. Control is read before data, so that a process is greeted before its first state is judged.

ZeroMQ's descriptor is edge-triggered in a way: any call on a socket may swallow its signal. So after it fires, a socket
is read until it is empty, in turns; and one that was written to is looked at again before the loop goes to sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.buffers import Buffers, keep_freed
from gossipdistill.drivers.faulty import Corrupt, FaultySender
from gossipdistill.drivers.guard import Guard
from gossipdistill.drivers.ingress import Ingress, is_present
from gossipdistill.drivers.links import Link, Links, ReadableSocket, Routes
from gossipdistill.drivers.monitors import Monitors
from gossipdistill.drivers.pulse import Pulse
from gossipdistill.drivers.reading import Reading
from gossipdistill.drivers.resources import Resources
from gossipdistill.drivers.security import Curve
from gossipdistill.drivers.send_scheduler import SendScheduler
from gossipdistill.drivers.sending import Sending, Traffic, Way, channel_of
from gossipdistill.drivers.sockets import Channel, Sockets, ZmqContext, ZmqSocket, may_read, may_write
from gossipdistill.drivers.unanswered import Unanswered
from gossipdistill.errors import AddressError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Transmit
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import turn
from gossipdistill.wire.pieces import Assembly

__all__ = ["Curve", "Driver", "Traffic"]

_PORT_MAX = 65534


@dataclass(slots=True)
class Driver:
    """Runs one `Peer` on the current event loop until `stop()`. `clock` is monotonic, in seconds.

    `listen` without a host binds nothing: such a peer dials out, and is answered through the connections it opens.
    `transport` is "tcp", or "inproc" between drivers of one process that share a `context`.
    """

    peer: Peer
    mailbox: Mailbox
    listen: Address
    limits: Limits
    clock: Callable[[], float]
    traffic: dict[str, Traffic] = field(default_factory=dict)
    bound: Address | None = None
    transport: str = "tcp"
    context: ZmqContext | None = None
    curve: Curve | None = None
    faults: FaultySender | None = None
    """Bends what is sent, in a run with a fault plan."""
    resources: Resources = field(default_factory=Resources)
    alive: Callable[[], None] = lambda: None
    """Told about once a second that the loop and libzmq's I/O threads go on."""
    _sockets: Sockets = field(init=False)
    _links: Links = field(init=False)
    _routes: Routes = field(init=False)
    _unanswered: Unanswered = field(init=False)
    _monitors: Monitors = field(init=False)
    _sending: Sending = field(init=False)
    _send_scheduler: SendScheduler[Way] = field(init=False)
    _ingress: Ingress = field(init=False)
    _reading: Reading = field(init=False)
    _guard: Guard = field(init=False)
    _buffers: Buffers = field(init=False)
    _pulse: Pulse = field(init=False)
    _routers: dict[Channel, ReadableSocket] = field(default_factory=dict)
    _inlets: dict[ZmqSocket, ReadableSocket] = field(default_factory=dict)
    _ready: dict[ReadableSocket, None] = field(default_factory=dict)
    """Sockets that may have more to read than a turn's share."""
    _open: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _timer: asyncio.TimerHandle | None = None
    _again: asyncio.Handle | None = None
    _leaving: str | None = None
    _failure: Exception | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        limits = self.limits
        if self.curve is not None:
            self.peer.key_distribution.prove_senders()
        self._sockets = Sockets(limits, self.transport, self.context, self.curve)
        self._links = Links(self._sockets, limits, self.peer.addresses, self._watch, self._unwatch, self._warn)
        self._unanswered = Unanswered(self.peer, self._links, limits, self.clock, self._say_of_the_view)
        self._routes = Routes(limits.strangers_max)
        self._monitors = Monitors(self._sockets, self._connection_ended)
        self._sending = Sending(self.peer, self._links, self._routes, {}, self.traffic)
        self._send_scheduler = SendScheduler(limits, self._put, self._sent)
        keep_freed(2 * limits.data_messages_queued_max * limits.piece_bytes_max)
        self._buffers = Buffers(limits.payload_bytes_max, limits.body_idle_s)
        assembly = Assembly(limits, self._buffers.allocate)
        self._guard = Guard(self.peer, self.mailbox, self._sockets, self._links, self.clock, self._fail,
                            lambda: bool(self._reading.behind), self._buffers.mapped_bytes, self.resources)  # fmt: skip
        self._pulse = Pulse(self._sockets, self.alive, self._fail)
        self._ingress = Ingress(self.peer, limits, self._routes, self._sending, assembly, self.clock, self.curve)
        self._reading = Reading(limits, self._ingress, self._guard.delivered)

    # --- life ----------------------------------------------------------------------------------------------------

    def bind(self) -> Address:
        """Take the two ports, or none where there is nothing to listen at.

        Raises:
            AddressError: when one is in use or not ours.
        """
        self._open = True
        for channel in Channel if self.listen != NOWHERE else ():
            address = self.listen._replace(port=self.listen.port + channel)
            try:
                if not 1 <= self.listen.port <= _PORT_MAX:
                    raise AddressError(f"cannot listen at {self.listen}: the port must be from 1 to {_PORT_MAX}")
                router = self._sockets.bind(self.listen, channel)
            except (zmq.ZMQError, AddressError) as error:
                self.close()
                if isinstance(error, AddressError):
                    raise
                what = "control" if channel is Channel.CONTROL else "data (the control port + 1)"
                raise AddressError(f"cannot listen at {address} for {what}: {error.strerror}") from None
            self._routers[channel] = ReadableSocket(router, channel)
            self._sending.routers[channel] = router
        self.bound = self.listen
        return self.listen

    async def run(self) -> None:
        """Serve until `stop` was called and the last words are out."""
        self._loop = asyncio.get_running_loop()
        watching: asyncio.Task[None] | None = None
        try:
            self._keep_the_door(self._loop)
            for readable in self._routers.values():
                self._listen_to(readable)
            self._guard.begin(self._sending.routers.values(), self.listen)
            self._pulse.begin()
            if self._sockets.reconnects:
                watching = self._loop.create_task(self._unanswered.watch())
                watching.add_done_callback(self._watch_ended)
            self._turn()
            await self._stopped.wait()
            if self._failure is not None:
                raise self._failure
            await asyncio.sleep(self.limits.flush_s)
        finally:
            for handle in (self._timer, self._again):
                if handle is not None:
                    handle.cancel()
            if watching is not None:
                watching.cancel()
            self._guard.end()
            self._pulse.end()
            await self._links.close()
            for readable in list(self._inlets.values()):
                self._stop_listening(readable.socket)
            if self._sockets.zap_handler is not None:
                self._sockets.zap_handler.leave(self._loop)
            self.close()

    def close(self) -> None:
        """Close every socket at once; nothing lingers."""
        if self._open:
            self._open = False
            self._sockets.close_all()

    def stop(self, reason: str, crashed: bool = False) -> None:
        """Say the last word and end `run` (to be called on the loop's own thread). `crashed`: not on purpose."""
        if self._leaving is None:
            self._leaving = reason
            self._turn()  # what the learner has left goes first: the last word says what was absorbed
            self.peer.leave(reason, crashed)
            self._turn()
            self._stopped.set()

    def trust(self, public_keys: Mapping[str, str], revoked: Collection[str] = ()) -> None:
        """From now on these are the roster's keys, also on connections that are open, and nobody of a `revoked` name
        may enrol (to be called on the loop's own thread)."""
        assert self.curve is not None
        book = self.peer.key_distribution.book
        if book is not None:
            book.hold_to(public_keys, frozenset(revoked))
            public_keys = book.keys()
        lost = self.curve.trust({name: key.encode("ascii") for name, key in public_keys.items()})
        for name in sorted(lost):
            self._give_up(self._send_scheduler.drop(name))
            self._ingress.assembly.forget(PeerName(name))
            what = "has another key" if name in public_keys else "is not trusted any more: its key is revoked"
            self.peer.forget_processes(PeerName(name), what, self.clock())
        self._links.close_those_of(lost)
        self._routes.drop(lost)
        self._turn()

    def unanswered(self) -> list[str]:
        """What is wrong at each address that was dialled in vain, in words (from any thread)."""
        return self._unanswered.lines()

    def wake(self) -> None:
        """The learner has posted or taken something (to be called on the loop's own thread)."""
        self._turn()

    # --- one turn: mailbox -> protocol -> sockets -> mailbox -------------------------------------------------------

    def _turn(self) -> None:
        if not self._open or self._loop is None or self._failure is not None:
            return
        try:
            self._work(self.clock())
            self._flow()
            self._buffers.rest(self.clock())
        except Exception as error:
            self._fail(error)
            return
        if self._timer is not None:
            self._timer.cancel()
        wait_s = self.peer.next_timeout() - self.clock()
        if self._send_scheduler.lanes:  # should a signal that there is room ever be missed
            wait_s = min(wait_s, self.limits.retry_interval_s)
        self._timer = self._loop.call_later(max(wait_s, 0.001), self._turn)

    def _flow(self) -> None:
        """Large bodies go on as far as there is room; what sending may have swallowed is looked for."""
        more = self._send_scheduler.pump()
        ended, self._sending.ended = self._sending.ended, []
        for route in ended:
            self._way_ended(route)
        room = self._look_again()
        if more or room or self._ready:
            self._soon()

    def _soon(self) -> None:
        """Another turn as soon as the loop has served its other duties."""
        if self._again is None and self._loop is not None:
            self._again = self._loop.call_soon(self._read_on)

    def _work(self, now: float) -> None:
        if self.curve is not None:
            self._ingress.take_up_keys(self.curve)
        done = turn(self.peer, self.mailbox, now, self._send)
        if done.again and self._loop is not None:
            self._loop.call_soon(self._turn)
        if done.neighbourhood is not None:
            self._part_from_the_gone()

    def _send(self, transmit: Transmit) -> None:
        if self.faults is None:
            self._hand_out(transmit)
        else:
            self.faults.send(transmit, self._hand_out_bent)

    def _hand_out_bent(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None:
        """What a fault plan lets pass, now or `late` (then from a timer of the loop)."""
        try:
            self._hand_out(transmit, late, corrupt)
        except Exception as error:
            self._fail(error)
        if late:
            self._soon()

    def _hand_out(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None:
        """One message on its way; the protocol is told if nothing of it could be sent, but not of a `late` one."""
        if channel_of(transmit.envelope) is Channel.DATA:
            taken = self._send_scheduler.add(transmit, late, corrupt)
            self._mind_the_connection(transmit.envelope.to)
        else:
            taken = self._put(transmit, None, corrupt) is not None
        if not taken and not late:
            self.peer.not_sent(transmit, self.clock())

    def _put(self, transmit: Transmit, way: Way | None, corrupt: Corrupt | None = None) -> Way | None:
        return self._sending.put(transmit, way, self.clock(), corrupt)

    def _sent(self, transmit: Transmit) -> None:
        self._sending.traffic_of(transmit.envelope.to).messages_sent += 1

    def _part_from_the_gone(self) -> None:
        """Whoever is not there holds up no body, neither on its way out nor half in."""
        for name in [name for name in self._send_scheduler.lanes if not is_present(self.peer, name)]:
            self._give_up(self._send_scheduler.drop(name))
        self._ingress.forget()

    def _mind_the_connection(self, name: str) -> None:
        """Large bodies to this peer are in transfer, or none: in queues that are lost with their connection."""
        lane = self._send_scheduler.lanes.get(name)
        for transfer in lane.transfers if lane is not None else ():
            if isinstance(transfer.way, Link) and transfer.way.sockets:
                self._monitors.begin(transfer.way, name)

    def _connection_ended(self, link: Link, name: str) -> None:
        """A data connection that has carried large bodies to this peer; it may be a body that was handed out whole."""
        self._way_ended(link, name)
        self._turn()

    def _way_ended(self, way: Way, *names: str) -> None:
        """Half of a body is lost with its connection: begin again, as with a peer that was out of reach."""
        given_up = self._send_scheduler.drop_way(way)
        self._give_up(given_up)
        for name in dict.fromkeys([*names, *(transmit.envelope.to for transmit in given_up)]):
            self.peer.connection_ended(PeerName(name), self.clock())

    def _give_up(self, given_up: list[Transmit]) -> None:
        for transmit in given_up:
            self.peer.not_sent(transmit, self.clock())

    # --- reading -------------------------------------------------------------------------------------------------

    def _awake(self, readable: ReadableSocket) -> None:
        """Its descriptor has fired: something has come, or there is room again."""
        self._ready[readable] = None
        self._read()

    def _read_on(self) -> None:
        self._again = None
        self._read()

    def _read(self) -> None:
        if not self._open or self._loop is None or self._failure is not None:
            return
        before = self._ingress.handed_over
        try:
            control = self._routers.get(Channel.CONTROL)
            if control is not None:
                self._ready[control] = None
            for readable in sorted(self._ready, key=_channel_of):
                if not self._reading.drain(readable):
                    self._ready.pop(readable, None)
            if self._ingress.handed_over == before:
                self._flow()  # there is room again, or a piece came: nothing for the protocol to think about
                return
        except Exception as error:
            self._fail(error)
            return
        self._turn()

    def _look_again(self) -> bool:
        """Sending may have swallowed the signal that something has come, or that there is room again; and so may this
        look. Whether there may be room for more of a large body."""
        touched, self._sending.touched = self._sending.touched, {}
        room = False
        for socket, took in touched.items():
            readable = self._inlets.get(socket)
            if readable is None:
                continue
            if may_read(socket):
                self._ready[readable] = None
            room = room or (took and readable.channel is Channel.DATA and may_write(socket))
        return room and bool(self._send_scheduler.lanes)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._stopped.set()

    # --- sockets -------------------------------------------------------------------------------------------------

    def _watch(self, link: Link) -> None:
        for channel, socket in zip(Channel, link.sockets, strict=True):
            self._listen_to(ReadableSocket(socket, channel, link))

    def _unwatch(self, link: Link) -> None:
        self._monitors.end(link)
        for socket in link.sockets:
            self._stop_listening(socket)
        self._give_up(self._send_scheduler.drop_way(link))

    def _keep_the_door(self, loop: asyncio.AbstractEventLoop) -> None:
        door, book = self._sockets.zap_handler, self.peer.key_distribution.book
        if door is not None:
            if book is not None and book.secret is not None:
                door.newcomers = self._ingress.newcomers
                door.newcomers.places_max = self.limits.newcomers_max
            door.attend(loop, self._turned_away, self._fail)

    def _turned_away(self, reason: str) -> None:
        self.mailbox.tell(None, [Event(EventKind.REFUSED, self.clock(), "", reason, {"code": "key"})])

    def _listen_to(self, readable: ReadableSocket) -> None:
        assert self._loop is not None
        self._inlets[readable.socket] = readable
        self._loop.add_reader(int(readable.socket.getsockopt(zmq.FD)), self._awake, readable)
        self._ready[readable] = None  # what came before somebody listened

    def _stop_listening(self, socket: ZmqSocket) -> None:
        assert self._loop is not None
        readable = self._inlets.pop(socket, None)
        if readable is not None:
            self._ready.pop(readable, None)
            self._reading.leave(readable)
            self._loop.remove_reader(int(socket.getsockopt(zmq.FD)))

    def _watch_ended(self, watching: asyncio.Task[None]) -> None:
        error = None if watching.cancelled() else watching.exception()
        if isinstance(error, Exception):
            self._fail(error)

    def _say_of_the_view(self, reason: str) -> None:
        self.mailbox.tell(None, [Event(EventKind.VIEW, self.clock(), "", reason)])

    def _warn(self, reason: str) -> None:
        self.mailbox.tell(None, [Event(EventKind.WARNING, self.clock(), "", reason)])


def _channel_of(readable: ReadableSocket) -> Channel:
    return readable.channel

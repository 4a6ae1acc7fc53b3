"""The protocol on real sockets: ROUTERs that listen, and a pair of DEALERs to each peer; all are read and written.

Rules of this file
1. One turn is: mailbox -> protocol -> sockets -> mailbox. Nothing in it waits, and no turn takes long.
2. A fault of ours in a call-back ends `run` with that fault; half a network thread would be worse than none.
3. Control is read before data, so that a process is greeted before its first state is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from gossipdistill.drivers.buffers import Buffers, keep_freed
from gossipdistill.drivers.egress import Egress
from gossipdistill.drivers.faulty import Corrupt, FaultySender
from gossipdistill.drivers.guard import Guard
from gossipdistill.drivers.ingress import Ingress
from gossipdistill.drivers.links import Link, Links, ReadableSocket, Routes
from gossipdistill.drivers.pulse import Pulse
from gossipdistill.drivers.readable_sockets import ReadableSockets
from gossipdistill.drivers.reading import Reading
from gossipdistill.drivers.resources import Resources
from gossipdistill.drivers.security import Curve
from gossipdistill.drivers.sending import Sending, Traffic
from gossipdistill.drivers.sockets import Channel, Sockets, ZmqContext
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
    sockets: Sockets = field(init=False)
    links: Links = field(init=False)
    routes: Routes = field(init=False)
    _unanswered: Unanswered = field(init=False)
    egress: Egress = field(init=False)
    ingress: Ingress = field(init=False)
    readable: ReadableSockets = field(init=False)
    guard: Guard = field(init=False)
    _buffers: Buffers = field(init=False)
    pulse: Pulse = field(init=False)
    routers: dict[Channel, ReadableSocket] = field(default_factory=dict)
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
        self.sockets = Sockets(limits, self.transport, self.context, self.curve)
        warn, say = partial(self._tell, EventKind.WARNING), partial(self._tell, EventKind.VIEW)
        self.links = Links(self.sockets, limits, self.peer.addresses, self._watch, self._unwatch, warn)
        self._unanswered = Unanswered(self.peer, self.links, limits, self.clock, say, self.fail)
        self.routes = Routes(limits.strangers_max)
        sending = Sending(self.peer, self.links, self.routes, {}, self.traffic)
        self.egress = Egress(self.peer, limits, self.clock, sending, self.sockets, self.wake)
        keep_freed(2 * limits.data_messages_queued_max * limits.piece_bytes_max)
        self._buffers = Buffers(limits.payload_bytes_max, limits.body_idle_s)
        assembly = Assembly(limits, self._buffers.allocate)
        self.guard = Guard(
            self.peer, self.mailbox, self.sockets, self.links, self.clock, self.fail,
            lambda: bool(self.readable.reading.behind), self._buffers.mapped_bytes, self.resources,
        )  # fmt: skip
        self.pulse = Pulse(self.sockets, self.alive, self.fail)
        self.ingress = Ingress(self.peer, limits, self.routes, sending, assembly, self.clock, self.curve)
        self.readable = ReadableSockets(Reading(limits, self.ingress, self.guard.delivered), self._read)

    # --- life ----------------------------------------------------------------------------------------------------

    def bind(self) -> Address:
        """Take the two ports, or none where there is nothing to listen at.

        Raises:
            AddressError: when one is in use or not ours.
        """
        self._open = True
        try:
            for channel in Channel if self.listen != NOWHERE else ():
                router = self.sockets.bind(self.listen, channel)
                self.routers[channel] = ReadableSocket(router, channel)
                self.egress.sending.routers[channel] = router
        except AddressError:
            self.close()
            raise
        self.bound = self.listen
        return self.listen

    async def run(self) -> None:
        """Serve until `stop` was called and the last words are out."""
        self._loop = self.readable.loop = asyncio.get_running_loop()
        try:
            self._keep_the_door(self._loop)
            for readable in self.routers.values():
                self.readable.listen_to(readable)
            self.guard.begin(self.egress.sending.routers.values(), self.listen)
            self.pulse.begin()
            if self.sockets.reconnects:
                self._unanswered.begin(self._loop)
            self.wake()
            await self._stopped.wait()
            if self._failure is not None:
                raise self._failure
            await asyncio.sleep(self.limits.flush_s)
        finally:
            for handle in (self._timer, self._again):
                if handle is not None:
                    handle.cancel()
            self._unanswered.end()
            self.guard.end()
            self.pulse.end()
            await self.links.close()
            self.readable.leave(self.readable.by_socket)
            if self.sockets.zap_handler is not None:
                self.sockets.zap_handler.leave(self._loop)
            self.close()

    def close(self) -> None:
        """Close every socket at once; nothing lingers."""
        if self._open:
            self._open = False
            self.sockets.close_all()

    def stop(self, reason: str, crashed: bool = False) -> None:
        """Say the last word and end `run` (to be called on the loop's own thread). `crashed`: not on purpose."""
        if self._leaving is None:
            self._leaving = reason
            self.wake()  # what the learner has left goes first: the last word says what was absorbed
            self.peer.leave(reason, crashed)
            self.wake()
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
        self.egress.drop(sorted(lost))
        for name in sorted(lost):
            self.ingress.assembly.forget(PeerName(name))
            what = "has another key" if name in public_keys else "is not trusted any more: its key is revoked"
            self.peer.forget_processes(PeerName(name), what, self.clock())
        self.links.close_those_of(lost)
        self.routes.drop(lost)
        self.wake()

    def unanswered(self) -> list[str]:
        """What is wrong at each address that was dialled in vain, in words (from any thread)."""
        return self._unanswered.lines()

    # --- one turn: mailbox -> protocol -> sockets -> mailbox -------------------------------------------------------

    def wake(self) -> None:
        """The learner has posted or taken something, or it is time (to be called on the loop's own thread)."""
        if not self._open or self._loop is None or self._failure is not None:
            return
        try:
            self._work(self.clock())
            self._flow()
            self._buffers.rest(self.clock())
        except Exception as error:
            self.fail(error)
            return
        if self._timer is not None:
            self._timer.cancel()
        wait_s = self.peer.next_timeout() - self.clock()
        if self.egress.is_busy:  # should a signal that there is room ever be missed
            wait_s = min(wait_s, self.limits.retry_interval_s)
        self._timer = self._loop.call_later(max(wait_s, 0.001), self.wake)

    def _flow(self) -> None:
        """Large bodies go on as far as there is room; what sending may have swallowed is looked for."""
        more = self.egress.pump()
        touched, self.egress.sending.touched = self.egress.sending.touched, {}
        room = self.readable.look_again(touched) and self.egress.is_busy
        if more or room or self.readable.ready:
            self._soon()

    def _soon(self) -> None:
        """Another turn as soon as the loop has served its other duties."""
        if self._again is None and self._loop is not None:
            self._again = self._loop.call_soon(self._read_on)

    def _work(self, now: float) -> None:
        if self.curve is not None:
            self.ingress.take_up_keys(self.curve)
        done = turn(self.peer, self.mailbox, now, self._send)
        if done.again and self._loop is not None:
            self._loop.call_soon(self.wake)
        if done.neighbourhood is not None:
            self.egress.part_from_the_gone()
            self.ingress.forget()  # nobody who is gone holds up a body that is half in

    def _send(self, transmit: Transmit) -> None:
        if self.faults is None:
            self.egress.hand_out(transmit)
        else:
            self.faults.send(transmit, self._hand_out_bent)

    def _hand_out_bent(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None:
        """What a fault plan lets pass, now or `late` (then from a timer of the loop)."""
        try:
            self.egress.hand_out(transmit, late, corrupt)
        except Exception as error:
            self.fail(error)
        if late:
            self._soon()

    def _read_on(self) -> None:
        self._again = None
        self._read()

    def _read(self) -> None:
        if not self._open or self._loop is None or self._failure is not None:
            return
        before = self.ingress.handed_over
        try:
            self.readable.drain(self.routers.get(Channel.CONTROL))
            if self.ingress.handed_over == before:
                self._flow()  # there is room again, or a piece came: nothing for the protocol to think about
                return
        except Exception as error:
            self.fail(error)
            return
        self.wake()

    def fail(self, error: Exception) -> None:
        """End `run` with this fault."""
        self._failure = error
        self._stopped.set()

    # --- sockets -------------------------------------------------------------------------------------------------

    def _watch(self, link: Link) -> None:
        for channel, socket in zip(Channel, link.sockets, strict=True):
            self.readable.listen_to(ReadableSocket(socket, channel, link))

    def _unwatch(self, link: Link) -> None:
        self.readable.leave(link.sockets)
        self.egress.close(link)

    def _keep_the_door(self, loop: asyncio.AbstractEventLoop) -> None:
        door, book = self.sockets.zap_handler, self.peer.key_distribution.book
        if door is not None:
            if book is not None and book.secret is not None:
                door.newcomers = self.ingress.newcomers
                door.newcomers.places_max = self.limits.newcomers_max
            door.attend(loop, partial(self._tell, EventKind.REFUSED, code="key"), self.fail)

    def _tell(self, kind: EventKind, reason: str, **detail: str) -> None:
        self.mailbox.tell(None, [Event(kind, self.clock(), "", reason, {**detail})])

"""The protocol on real sockets: ROUTERs that listen, and a pair of DEALERs to each peer; all are read and written.

Rules of this file
1. One turn is: mailbox -> protocol -> sockets -> mailbox. Nothing in it blocks, and no turn takes long.
2. A fault of our own code ends `run` with that fault (see `DriverLoop`).
3. Control is read before data, so that a process is greeted before its first state is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import IO

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.event_sink import EventSink
from gossipdistill.drivers.overload.buffers import Buffers, keep_freed
from gossipdistill.drivers.overload.guard import Guard
from gossipdistill.drivers.overload.resources import Resources
from gossipdistill.drivers.overload.unread_bytes import UnreadLedger
from gossipdistill.drivers.zeromq.egress import Egress
from gossipdistill.drivers.zeromq.faulty import Copy, FaultySender
from gossipdistill.drivers.zeromq.ingress import Ingress
from gossipdistill.drivers.zeromq.knocks import Knocks
from gossipdistill.drivers.zeromq.link import Routes
from gossipdistill.drivers.zeromq.links import Links
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.monitors import Monitors
from gossipdistill.drivers.zeromq.pulse import Pulse
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket, ReadableSockets
from gossipdistill.drivers.zeromq.reading import Reading
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.drivers.zeromq.sending import Sending, Traffic
from gossipdistill.drivers.zeromq.sockets import Sockets, ZmqContext
from gossipdistill.drivers.zeromq.unanswered import Unanswered
from gossipdistill.drivers.zeromq.zap_service import ZapService
from gossipdistill.errors import AddressError
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Transmit
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import turn
from gossipdistill.wire.pieces import Assembly


@dataclass(slots=True)
class Driver:
    """Runs one `Peer` on the current event loop until `stop()`. `clock` is monotonic, in seconds.

    `listen` without a host binds nothing: such a peer dials out, and is answered through the connections that it opens.
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
    """In a run with a fault plan, this applies the plan to what is sent."""
    resources: Resources = field(default_factory=Resources)
    heartbeat: IO[bytes] | None = None
    """This file is written a byte about once a second while the loop and libzmq's I/O threads run."""
    loop: DriverLoop = field(init=False)
    events: EventSink = field(init=False)
    sockets: Sockets = field(init=False)
    readable: ReadableSockets = field(init=False)
    links: Links = field(init=False)
    routes: Routes = field(init=False)
    _unanswered: Unanswered = field(init=False)
    egress: Egress = field(init=False)
    ingress: Ingress = field(init=False)
    reading: Reading = field(init=False)
    knocks: Knocks = field(init=False)
    _buffers: Buffers = field(init=False)
    pulse: Pulse = field(init=False)
    _zap_service: ZapService | None = None
    routers: dict[Channel, ReadableSocket] = field(default_factory=dict)
    _open: bool = False
    _timer: asyncio.TimerHandle | None = None
    _again: asyncio.Handle | None = None
    _leaving: str | None = None

    def __post_init__(self) -> None:
        peer, limits, clock = self.peer, self.limits, self.clock
        if self.curve is not None:
            peer.key_distribution.prove_senders()
        self.loop, self.events = DriverLoop(self._read), EventSink(self.mailbox, clock)
        self.sockets = Sockets(limits, self.transport, self.context, self.curve)
        self.readable = ReadableSockets(self.loop)
        monitors = Monitors(self.sockets, self.loop)
        self.links = Links(self.sockets, limits, peer, self.readable, monitors, self.events)
        self._unanswered = Unanswered(peer, self.links, limits, clock, self.events, self.loop)
        self.routes = Routes(limits.strangers_max)
        sending = Sending(peer, self.links, self.routes, {}, self.traffic, clock)
        self.egress = Egress(peer, limits, clock, sending, monitors)
        keep_freed(2 * limits.data_messages_queued_max * limits.piece_bytes_max)
        self._buffers = Buffers(limits.payload_bytes_max, limits.body_idle_s)
        unread = UnreadLedger(limits)
        guard = Guard(peer, self.events, unread, self._buffers, self.resources, self.curve is not None)
        self.knocks = Knocks(guard, self.sockets, self.links, self.readable, self.loop, clock)
        self.pulse = Pulse(self.sockets, self.loop)
        assembly = Assembly(limits, self._buffers.allocate)
        self.ingress = Ingress(peer, limits, self.routes, sending, assembly, clock, self.curve)
        self.reading = Reading(limits, self.ingress, self.readable, unread)

    # --- life ----------------------------------------------------------------------------------------------------

    def bind(self) -> Address:
        """Bind the two ports, or none where there is no address to listen at.

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
        """Serve until `stop` was called and the last messages are sent."""
        self.loop.begin()
        try:
            self._keep_the_door()
            for readable in self.routers.values():
                self.readable.listen_to(readable)
            self.knocks.begin(self.egress.sending.routers.values(), self.listen)
            self.pulse.begin(self.heartbeat)
            if self.sockets.reconnects:
                self._unanswered.begin()
            self.wake()
            await self.loop.ended.wait()
            if self.loop.failure is not None:
                raise self.loop.failure
            await asyncio.sleep(self.limits.flush_s)
        finally:
            for handle in (self._timer, self._again):
                if handle is not None:
                    handle.cancel()
            self._unanswered.end()
            self.knocks.end()
            self.pulse.end()
            await self.links.close()
            self.readable.leave(self.readable.by_socket)
            if self._zap_service is not None:
                self._zap_service.end()
            self.close()

    def close(self) -> None:
        """Close every socket at once, without lingering."""
        if self._open:
            self._open = False
            self.sockets.close_all()

    def stop(self, reason: str, crashed: bool = False) -> None:
        """Send the last message and end `run` (to be called on the loop's own thread). `crashed`: not on purpose."""
        if self._leaving is None:
            self._leaving = reason
            self.wake()  # the learner's last posts go first: the last message names what was absorbed
            self.peer.membership.leave(reason, crashed)
            self.wake()
            self.loop.ended.set()

    def trust(self, public_keys: Mapping[str, str], revoked: Collection[str] = ()) -> None:
        """Trust these keys of the roster from now on, also on open connections; no `revoked` name may enrol (to be
        called on the loop's own thread)."""
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
        """The problem at each address that was dialled in vain, in words (from any thread)."""
        return self._unanswered.lines()

    # --- one turn: mailbox -> protocol -> sockets -> mailbox -------------------------------------------------------

    def wake(self) -> None:
        """Take a turn: the learner has posted or taken something, or a timer is due (to be called on the loop's own
        thread)."""
        self.loop.call(self._turn)

    def fail(self, error: Exception) -> None:
        """End `run` with this fault."""
        self.loop.fail(error)

    def _turn(self) -> None:
        if not self._open or self.loop.running is None:
            return
        self._work(self.clock())
        self._flow()
        self._buffers.rest(self.clock())
        if self._timer is not None:
            self._timer.cancel()
        wait_s = self.peer.next_timeout() - self.clock()
        if self.egress.is_busy:  # in case a signal that there is room is missed
            wait_s = min(wait_s, self.limits.retry_interval_s)
        self._timer = self.loop.call_later(max(wait_s, 0.001), self._turn)

    def _flow(self) -> None:
        """Send large bodies as far as there is room, and check the sockets whose signals sending may have swallowed."""
        more = self.egress.pump()
        touched, self.egress.sending.touched = self.egress.sending.touched, {}
        room = self.readable.look_again(touched) and self.egress.is_busy
        if more or room or self.readable.ready or self.egress.monitors.ended:
            self._soon()

    def _soon(self) -> None:
        """Take another turn as soon as the loop has served its other tasks."""
        if self._again is None:
            self._again = self.loop.call_soon(self._read_on)

    def _work(self, now: float) -> None:
        if self.curve is not None:
            self.ingress.take_up_keys(self.curve)
        done = turn(self.peer, self.mailbox, now, self.egress.hand_out if self.faults is None else self._hand_out_bent)
        if done.again:
            self.loop.call_soon(self._turn)
        if done.neighbourhood is not None:
            self.egress.part_from_the_gone()
            self.ingress.forget()  # the half-received bodies of peers that are gone are dropped

    def _hand_out_bent(self, transmit: Transmit) -> None:
        """Send what a fault plan lets pass, now or later."""
        assert self.faults is not None
        for copy in self.faults.copies(transmit):
            if copy.delay_s > 0:
                self.loop.call_later(copy.delay_s, self._hand_out_late, copy)
            else:
                self.egress.hand_out(transmit, copy.late, copy.flip)

    def _hand_out_late(self, copy: Copy) -> None:
        if self.faults is not None and self._open:
            self.faults.release(copy)
            self.egress.hand_out(copy.transmit, copy.late, copy.flip)
            self._soon()

    def _read_on(self) -> None:
        self._again = None
        self._read()

    def _read(self) -> None:
        """Read what has arrived; the protocol takes a turn if there is something for it."""
        if not self._open or self.loop.running is None:
            return
        before = self.ingress.handed_over
        self.reading.drain_all(self.routers.get(Channel.CONTROL))
        if self.egress.connections_ended() or self.ingress.handed_over != before:
            self._turn()
        else:
            self._flow()  # there is room again, or a piece arrived: nothing for the protocol

    def _keep_the_door(self) -> None:
        zap, book = self.sockets.zap_handler, self.peer.key_distribution.book
        if zap is not None:
            if book is not None and book.secret is not None:
                zap.newcomers = self.ingress.newcomers
                zap.newcomers.places_max = self.limits.newcomers_max
            self._zap_service = ZapService(zap, self.loop, self.events)
            self._zap_service.begin()

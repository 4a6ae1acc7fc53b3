"""Looks after files and memory: closes the listeners before they are short, and ends connections that hoard.

Rules of this file
1. Existing connections go on when the listeners close: the kernel drops what knocks.
2. When one connection holds more than any honest one can, that one is ended; when memory is short for another reason,
   all that others have made are. Whoever is honest connects again, and my own connections serve both ways meanwhile.
3. It looks four times a second, and at once when somebody knocks.
4. Elsewhere than on Linux nothing of this can be told, and nothing is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.gate import Gate, Usage
from gossipdistill.drivers.hoards import Hoards
from gossipdistill.drivers.links import Links
from gossipdistill.drivers.resources import Connection, Resources, bytes_received, connections, cut, deafen
from gossipdistill.drivers.sockets import Sockets, ZmqSocket
from gossipdistill.events import Event, EventKind
from gossipdistill.mailbox import Mailbox
from gossipdistill.presence import Address
from gossipdistill.protocol.peer import Peer

_LOOKED_AT_MAX = 256
"""Connections whose bytes are counted in one look; with more, they take turns."""


@dataclass(slots=True)
class Guard:
    """Of one driver. Who is cut off is held against it, where keys say who it is; `fail` is told of a fault of ours."""

    peer: Peer
    mailbox: Mailbox
    sockets: Sockets
    links: Links
    clock: Callable[[], float]
    fail: Callable[[Exception], None]
    resources: Resources = field(default_factory=Resources)
    gate: Gate = field(init=False)
    hoards: Hoards = field(init=False)
    _routers: list[ZmqSocket] = field(default_factory=list)
    _ports: set[int] = field(default_factory=set)
    _knocks: list[ZmqSocket] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _looked_s: float = float("-inf")
    _turn: int = 0
    _resident_bytes_max: int | None = None

    def __post_init__(self) -> None:
        self.gate = Gate(self.peer.limits)
        self.hoards = Hoards(self.peer.limits.hoard_bytes_max)
        memory = self.resources.memory_bytes()
        self._resident_bytes_max = None if memory is None else int(self.peer.limits.resident_share_max * memory)

    def begin(self, routers: Collection[ZmqSocket], at: Address) -> None:
        """Look from now on. The `routers` listen `at` a control port and the next."""
        if not self.sockets.reconnects:
            return  # within one process nobody knocks
        self._routers, self._ports = list(routers), {at.port, at.data_port}
        loop = asyncio.get_running_loop()
        for router in self._routers:
            knocks = self.sockets.monitor(router, zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED)
            self._knocks.append(knocks)
            loop.add_reader(int(knocks.getsockopt(zmq.FD)), self._knocked, knocks)
        self._look()

    def end(self) -> None:
        """Look no longer: the sockets are about to be closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for knocks in self._knocks:
            asyncio.get_running_loop().remove_reader(int(knocks.getsockopt(zmq.FD)))
        self._knocks.clear()

    def delivered(self, frames: list[zmq.Frame], size: int, sender: str) -> None:
        """A message was read."""
        if self._knocks:
            self.hoards.delivered(int(frames[0].get(zmq.SRCFD)), len(frames), size, sender)

    # --- looking -------------------------------------------------------------------------------------------------

    def _knocked(self, knocks: ZmqSocket) -> None:
        while int(knocks.get(zmq.EVENTS)) & zmq.POLLIN:
            knocks.recv_multipart(zmq.NOBLOCK)
        since_s = self.clock() - self._looked_s
        if since_s >= self.peer.limits.guard_interval_min_s:
            self._look()
        else:
            self._look_in(self.peer.limits.guard_interval_min_s - since_s)

    def _look_in(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        try:
            self._look_around(self.clock())
        except Exception as error:
            self.fail(error)
        else:
            self._look_in(self.peer.limits.guard_interval_s)

    def _look_around(self, now: float) -> None:
        since_s, self._looked_s = now - self._looked_s, now
        usage = self._usage()
        change = self.gate.look(usage)
        if change is not None:
            self._say(change[0], "", change[1])
        sheds = self.gate.sheds(usage)
        if change is not None or sheds or since_s >= self.peer.limits.guard_interval_s / 2:
            self._look_at_connections(sheds, change is not None, now)

    def _usage(self) -> Usage:
        found = self.resources
        return Usage(found.open_files(), found.files_max(), found.resident_bytes(), self._resident_bytes_max)

    def _look_at_connections(self, sheds: bool, changed: bool, now: float) -> None:
        mine, theirs = list[Connection](), list[Connection]()
        dialled = self.links.far_ends()
        for one in connections():
            if one.listens:
                if changed and one.port in self._ports:
                    self._shut(one)
            elif one.port in self._ports:
                theirs.append(one)
            elif one.peer in dialled:
                mine.append(one)
        cut_off = self._end_hoards(theirs + mine, now)
        self.hoards.keep({one.fd for one in (*theirs, *mine)})
        if sheds and not cut_off and theirs:
            ended = sum(map(cut, theirs))
            self._say(EventKind.CUT_OFF, "", f"memory is short: {ended} connections of others are ended")

    def _end_hoards(self, all_of_them: list[Connection], now: float) -> int:
        count = len(all_of_them)
        begin = self._turn % count if count > _LOOKED_AT_MAX else 0
        self._turn = begin + _LOOKED_AT_MAX
        ended = 0
        for one in (all_of_them + all_of_them[:begin])[begin : begin + min(count, _LOOKED_AT_MAX)]:
            came = bytes_received(one)
            waits = self.hoards.look(one.fd, one.inode, came, now) if came is not None else 0
            if self.hoards.is_too_much(waits) and cut(one):
                ended += 1
                sender = self.hoards.sender_of(one.fd)
                problem = f"{waits / 1e6:.0f} MB came from {one.peer[0]}:{one.peer[1]} and made no message: cut off"
                self._say(EventKind.CUT_OFF, sender, problem)
                self.peer.receive_too_much(sender, "hoard", problem, now, proven=self.sockets.curve is not None)
        return ended

    def _say(self, kind: EventKind, name: str, reason: str) -> None:
        self.mailbox.tell(None, [Event(kind, self.clock(), name, reason)])

    def _shut(self, listener: Connection) -> None:
        """Close a listener, or open it, as the gate is."""
        deafen(listener, deaf=not self.gate.is_open)

"""When the guard checks: four times a second, and at once when a connection arrives.

Rules of this file
1. While there is more to read than is read, it checks sooner the more waits: before more than allowed can arrive at the
   highest rate. Checking takes a twentieth of the time at most.
2. What libzmq reports of each new connection is read in turns, and at every check too: nothing depends on a signal that
   may be missed, and no I/O thread waits for this reader (see `Sockets.monitor`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.overload.guard import Guard
from gossipdistill.drivers.zeromq.links import Links
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSockets
from gossipdistill.drivers.zeromq.sockets import Sockets, ZmqSocket, drain
from gossipdistill.presence import Address

_KNOCKS_PER_TURN = 256
"""At most this many reports of one listener are read in one turn of the loop: about a millisecond."""
_DUE_SHARE = 0.9
_LOOKING_SHARE = 0.05
"""Checking may take at most this share of the time."""


@dataclass(slots=True)
class Knocks:
    """Watches new connections at the listeners of one driver, and triggers the checks of its guard."""

    guard: Guard
    sockets: Sockets
    links: Links
    readable: ReadableSockets
    loop: DriverLoop
    clock: Callable[[], float]
    count: int = 0
    """The number of new connections that were reported."""
    monitors: list[ZmqSocket] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None
    _again: asyncio.Handle | None = None
    _somebody_knocked: bool = False
    """This says whether a connection arrived since the last check."""
    _looked_s: float = float("-inf")

    def begin(self, routers: Collection[ZmqSocket], at: Address) -> None:
        """Start checking. The `routers` listen at `at`, the control port, and at the next port."""
        if not self.sockets.reconnects:
            return  # within one process no connections arrive
        self.guard.begin(at)
        for router in routers:
            monitor = self.sockets.monitor(router, zmq.EVENT_ACCEPTED | zmq.EVENT_ACCEPT_FAILED)
            self.monitors.append(monitor)
            self.loop.listen(monitor, self._knocked)
        self.loop.call(self._look)

    def end(self) -> None:
        """Stop checking: the sockets are about to be closed."""
        for handle in (self._timer, self._again):
            if handle is not None:
                handle.cancel()
        self._timer = self._again = None
        for monitor in self.monitors:
            self.loop.listen_no_more(monitor)
        self.monitors.clear()
        self.guard.end()

    def _knocked(self) -> None:
        """Handle a descriptor that has fired, or more reports than fit into one turn."""
        self._heed()
        if self.monitors:
            self._somebody_knocked = True
            self._look_soon()

    def _heed_on(self) -> None:
        self._again = None
        self._knocked()

    def _heed(self) -> None:
        """Read a turn's share of the reports; the rest in later turns."""
        heard = [drain(monitor, _KNOCKS_PER_TURN) for monitor in self.monitors]
        self.count += sum(heard)
        if _KNOCKS_PER_TURN in heard and self._again is None:
            self._again = self.loop.call_soon(self._heed_on)

    def _look_soon(self) -> None:
        since_s, interval_min_s = self.clock() - self._looked_s, self.guard.peer.limits.guard_interval_min_s
        if since_s >= interval_min_s:
            self._look()
        else:
            self._look_in(interval_min_s - since_s)

    def _look_in(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(wait_s, self._look)

    def _look(self) -> None:
        began_s = self.clock()
        self._heed()
        is_behind = bool(self.readable.behind)
        is_due = began_s - self._looked_s >= _DUE_SHARE * self.guard.peer.limits.guard_interval_s
        if is_due or self._somebody_knocked or is_behind:
            self._looked_s, self._somebody_knocked = began_s, False
            self.guard.look(is_behind, self.links.far_ends(), began_s)
        self._look_in(max(self.guard.next_look_s(), (self.clock() - began_s) / _LOOKING_SHARE))

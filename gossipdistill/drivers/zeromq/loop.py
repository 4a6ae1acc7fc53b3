"""The event loop for the parts of a driver: a fault of our own code in a callback ends the run with that fault.

Half a network thread would be worse than none. So asyncio is used only through this class, except for look-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.zeromq.sockets import ZmqSocket


@dataclass(slots=True)
class DriverLoop:
    """The running loop, from `begin` on. After a fault no callback is called any more."""

    turn: Callable[[], None]
    """The driver's reaction to a descriptor that has fired. It is the only callback between parts: as with asyncio's
    own handlers, no other part can start a turn."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """This is set when the run is to end: on purpose, or with a fault."""
    failure: Exception | None = None
    running: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Start, on the running loop."""
        self.running = asyncio.get_running_loop()

    def call(self, do: Callable[..., object], *arguments: object) -> None:
        """Call this now."""
        if self.failure is None:
            try:
                do(*arguments)
            except Exception as error:
                self.fail(error)

    def call_soon(self, do: Callable[..., object], *arguments: object) -> asyncio.Handle:
        """Call this as soon as the loop has served its other tasks."""
        assert self.running is not None
        return self.running.call_soon(self.call, do, *arguments)

    def call_later(self, delay_s: float, do: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Call this in `delay_s` seconds."""
        assert self.running is not None
        return self.running.call_later(delay_s, self.call, do, *arguments)

    def listen(self, socket: ZmqSocket, do: Callable[..., object], *arguments: object) -> None:
        """Call this whenever the descriptor of the socket fires."""
        assert self.running is not None
        self.running.add_reader(int(socket.getsockopt(zmq.FD)), self.call, do, *arguments)

    def listen_no_more(self, socket: ZmqSocket) -> None:
        """Stop listening: the socket is about to be closed."""
        assert self.running is not None
        self.running.remove_reader(int(socket.getsockopt(zmq.FD)))

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run this coroutine concurrently."""
        assert self.running is not None
        task = self.running.create_task(work)
        task.add_done_callback(self._done)
        return task

    def fail(self, error: Exception) -> None:
        """End the run with this fault."""
        self.failure = error
        self.ended.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self.fail(error)

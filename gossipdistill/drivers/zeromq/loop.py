"""The event loop as the parts of a driver use it: a fault of ours in what it calls ends the run with that fault.

Half a network thread would be worse than none. So nothing is given to asyncio by another way, but for look-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import zmq

from gossipdistill.drivers.zeromq.sockets import ZmqSocket


@dataclass(slots=True)
class DriverLoop:
    """The running loop, from `begin` on. After a fault nothing is called any more."""

    turn: Callable[[], None]
    """The driver's answer to a descriptor that has fired. It is the only call-back between parts: as with asyncio's own
    handlers, nobody else could begin a turn."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the run is to end: on purpose, or with a fault."""
    failure: Exception | None = None
    running: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """From now on, on the loop that runs."""
        self.running = asyncio.get_running_loop()

    def call(self, do: Callable[..., object], *arguments: object) -> None:
        """Do this now."""
        if self.failure is None:
            try:
                do(*arguments)
            except Exception as error:
                self.fail(error)

    def call_soon(self, do: Callable[..., object], *arguments: object) -> asyncio.Handle:
        """Have this done as soon as the loop has served its other duties."""
        assert self.running is not None
        return self.running.call_soon(self.call, do, *arguments)

    def call_later(self, delay_s: float, do: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Have this done in `delay_s` seconds."""
        assert self.running is not None
        return self.running.call_later(delay_s, self.call, do, *arguments)

    def listen(self, socket: ZmqSocket, do: Callable[..., object], *arguments: object) -> None:
        """Have this done whenever the descriptor of the socket fires."""
        assert self.running is not None
        self.running.add_reader(int(socket.getsockopt(zmq.FD)), self.call, do, *arguments)

    def listen_no_more(self, socket: ZmqSocket) -> None:
        """The socket is about to be closed."""
        assert self.running is not None
        self.running.remove_reader(int(socket.getsockopt(zmq.FD)))

    def start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Do this beside all else."""
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

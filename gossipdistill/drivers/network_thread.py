"""The network thread: an event loop (uvloop if it is installed) that runs a driver beside the training thread.

It supplies the arguments of the mailbox: a lock, and a wake-up that the training thread can call at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from gossipdistill.drivers.zeromq import Driver
from gossipdistill.mailbox import Mailbox


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop event loop, or asyncio's own where uvloop is not available."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class NetworkThread:
    """Owns the loop and the thread. `mailbox` is made here, then handed to the driver and to the worker."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] = new_event_loop) -> None:
        self._loop = loop_factory()
        self._wake_pending = False
        self._driver: Driver | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.mailbox = Mailbox(lock=threading.Lock(), wake=self._wake)

    def start(self, driver: Driver) -> None:
        """Run the driver, which must be bound already, so that an address in use is an error of the caller's thread."""
        self._driver = driver
        self._thread = threading.Thread(target=self._run, args=(driver.run(),), name="network", daemon=True)
        self._thread.start()

    def stop(self, reason: str, timeout_s: float = 2.0, crashed: bool = False) -> None:
        """Send the last message, close the sockets and end the thread; gives up after `timeout_s` seconds. `crashed`
        says that the end is not on purpose, so that this peer may be back."""
        if self._thread is None or self._driver is None:
            self._loop.close()  # never started
            return
        self.call(self._driver.stop, reason, crashed)
        self._thread.join(timeout_s)

    def trust(self, public_keys: Mapping[str, str], revoked: Collection[str] = ()) -> None:
        """Tell the driver, from any thread, which keys are trusted from now on, and which names may not enrol."""
        if self._driver is not None:
            self.call(self._driver.trust, dict(public_keys), frozenset(revoked))

    def call(self, do: Callable[..., object], *arguments: Any) -> None:
        """Call this on the network thread, soon; not at all once its loop has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(do, *arguments)

    def failure(self) -> BaseException | None:
        """The exception that ended the network, if one did (a fault of our own code, never of a peer)."""
        return self._failure

    def _wake(self) -> None:
        # One pending wake-up is enough, however often the learner posts. The flag is reset before the mailbox is read.
        if self._wake_pending or self._driver is None:
            return
        self._wake_pending = True
        try:
            self._loop.call_soon_threadsafe(self._awoken)
        except RuntimeError:  # the loop has ended
            self._wake_pending = False

    def _awoken(self) -> None:
        self._wake_pending = False
        if self._driver is not None:
            self._driver.wake()

    def _run(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(main)
        except BaseException as error:  # kept for the worker, which reports it
            self._failure = error
        finally:
            self._loop.close()

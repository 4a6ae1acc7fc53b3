"""An orderly end with a deadline. The module is quick to import, so that a worker handles signals early."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

GRACE_S = 1.5
"""The seconds from the request to the forced end of the process, so that all processes are gone within two seconds."""
_SHOW_CURSOR = "\x1b[?25h"
_PR_SET_PDEATHSIG = 1
"""The option of prctl (<linux/prctl.h>) that sets the signal sent by the kernel when the parent ends."""


def signals_to_end() -> list[signal.Signals]:
    """SIGINT (Ctrl-C), SIGTERM, and SIGHUP unless the caller (`nohup`) ignores it."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


class StopRequest:
    """One flag, with a deadline, for Ctrl-C, SIGTERM, a closed terminal and a lost launcher.

    The first request asks for an orderly end; the process ends `grace_s` seconds later in any case. A second one ends
    it at once.

    Python calls a handler on the main thread, between two of its instructions. That thread may be blocked for ever, as
    in a collective, so each signal is also written to a pipe, which a separate thread reads. The faster of the two ways
    counts.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.reason: str | None = None
        self.exit_code = 0
        self.checkpoint_wanted = False
        """It is set by SIGUSR1: save a checkpoint at once, and go on. The code that saves clears it."""
        self._grace_s, self._until_s = grace_s, math.inf
        self._handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {}
        self._said: set[signal.Signals] = set()
        self._deadline: threading.Timer | None = None
        self._lock = threading.RLock()
        self._handled, self._piped = Counter[int](), Counter[int]()
        self._requests = 0
        """The number of signals to end; each is counted once."""
        self._pipe = -1

    def install(self) -> None:
        """Handle the signals to end and, where it exists, SIGUSR1 (call on the main thread)."""
        self._handlers = dict.fromkeys(signals_to_end(), self._on_signal)
        if hasattr(signal, "SIGUSR1"):
            self._handlers[signal.SIGUSR1] = self._on_checkpoint_signal
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if os.name == "posix" and self._pipe < 0:
            end, self._pipe = os.pipe()
            os.set_blocking(self._pipe, False)
            signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
            threading.Thread(target=self._hear, args=(end,), daemon=True, name="signals").start()

    def keep(self) -> list[str]:
        """Restore handlers that other code in this process has replaced (call on the main thread). Returns the names of
        those signals, without those that an earlier call has returned."""
        news = []
        for number, handler in self._handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
                news += [number.name] if number not in self._said else []
                self._said.add(number)
        return news

    def ask(self, reason: str, exit_code: int) -> None:
        """Ask for an orderly end, from any thread."""
        if self.reason is not None:
            return
        self.exit_code, self.reason = exit_code, reason
        self._until_s = time.monotonic() + self._grace_s
        self.be_gone_in(self._grace_s, exit_code)

    def be_gone_in(self, seconds: float, exit_code: int) -> None:
        """End the process after `seconds`, whatever it is doing, unless it has ended by itself (from any thread)."""
        if self._deadline is not None:
            self._deadline.cancel()
        # A separate thread, because the main one may be blocked in a collective that never returns.
        self._deadline = threading.Timer(seconds, _leave_at_once, (exit_code,))
        self._deadline.daemon = True
        self._deadline.start()

    def left_s(self) -> float:
        """Seconds until the process ends in any case; infinite while no end was requested."""
        return self._until_s - time.monotonic()

    def settled(self) -> None:
        """The orderly end is reached, so the deadline is cancelled (call on the main thread)."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._pipe >= 0:
            other = signal.set_wakeup_fd(-1)
            if other != self._pipe:
                signal.set_wakeup_fd(other)
            os.close(self._pipe)
            self._pipe = -1

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._heard(number, self._handled)

    def _hear(self, end: int) -> None:
        while numbers := os.read(end, 64):
            for number in numbers:
                if number in signals_to_end() and number in self._handlers:
                    self._heard(number, self._piped)
        os.close(end)

    def _heard(self, number: int, way: Counter[int]) -> None:
        with self._lock:
            way[number] += 1
            requests = sum((self._handled | self._piped).values())  # the larger of the two counts
            if requests == self._requests:
                return  # the other way was faster
            self._requests = requests
            code = 128 + number
            if self.reason is not None:
                _leave_at_once(code)
            self.ask("interrupted" if number == signal.SIGINT else "terminated", code)

    def _on_checkpoint_signal(self, number: int, frame: FrameType | None) -> None:
        self.checkpoint_wanted = True


def pass_over_early_signals() -> None:
    """Ignore SIGUSR1 until a worker can save a checkpoint; by default it ends a process."""
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def wake_when_orphaned() -> None:
    """Have the kernel continue this process when its parent ends for any reason (on Linux; elsewhere nothing).

    Otherwise a process that a fault plan has stopped would stay stopped for ever when its launcher is killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def wake_group() -> None:
    """Continue the processes that this one has started and that were stopped with it; only the leader of a group does
    so."""
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGCONT)


def _leave_at_once(code: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)  # a live display hides it
        sys.stderr.flush()
    os._exit(code)

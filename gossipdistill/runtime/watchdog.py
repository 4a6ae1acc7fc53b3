"""A small process that ends a worker whose network stands still, so that its launcher can start it again.

Nothing within the worker can do that: the thread that stands still may hold Python's lock, and a timer of the kernel
cannot tell a process that stands still from one that was stopped (SIGSTOP, Ctrl-Z) and goes on.

This file is run by its path and without the package: it imports what comes with Python alone, and is small.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from typing import IO

STANDSTILL_S = 60.0
"""So long the network thread may be silent. It says something each second, and no step of the learner keeps it from
that, unless the step holds Python's lock all the time."""
_LOOK_EVERY_S = 1.0
_REPORT_S = 2.0
"""For the report of where each thread is."""


class Watchdog:
    """As the worker holds it."""

    def __init__(self, standstill_s: float = STANDSTILL_S) -> None:
        self._standstill_s = standstill_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Begin to watch this process; it is armed by the first beat. Why it cannot be, in words, or ""."""
        if not os.path.exists("/proc/self/stat"):
            return ""  # elsewhere nobody says whether a process was stopped
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), str(self._standstill_s)]
        try:
            # Not of the worker's group: stopped with all of it, which a fault plan does, it would not see it end.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            return f"nobody watches over the network thread: {error}"
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        if not faulthandler.is_enabled():
            faulthandler.enable(sys.__stderr__ or 2)
        return ""

    @property
    def heartbeat(self) -> IO[bytes] | None:
        """Where a byte says that the network thread goes on. A write does not wait. None: nobody watches."""
        return self._process.stdin if self._process is not None else None

    def stop(self) -> None:
        """Watch no longer."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def watch(parent: int, standstill_s: float) -> None:
    """The life of the small process: until the pipe is closed or its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for its parent
    armed, silent_s = False, 0.0
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK_EVERY_S)[0]:
            if not os.read(0, 4096):
                return
            armed, silent_s = True, 0.0
        elif was_stopped(parent):
            silent_s = 0.0
        elif armed:
            silent_s += _LOOK_EVERY_S  # of my own looks: when all was frozen, this process was too
            if silent_s >= standstill_s:
                _end(parent, silent_s)
                return


def was_stopped(process: int) -> bool:
    """Whether a signal or a debugger has stopped it."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


def _end(parent: int, silent_s: float) -> None:
    line = f"gossipdistill: the network thread of process {parent} has stood still for {silent_s:.0f} s: it is ended\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
    with contextlib.suppress(ProcessLookupError):
        os.kill(parent, signal.SIGABRT)  # faulthandler writes where each thread is, without Python's lock
        end_s = time.monotonic() + _REPORT_S
        while os.getppid() == parent and time.monotonic() < end_s:
            time.sleep(0.02)
        if os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]))

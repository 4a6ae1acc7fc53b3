"""A small process that ends a worker whose network thread hangs, so that its launcher can restart the worker.

Nothing inside the worker can do that: the hanging thread may hold the GIL, and a kernel timer cannot tell a process
that hangs from one that was stopped (SIGSTOP, Ctrl-Z) and continued.

This file is run by its path and without the package, so it imports only the standard library and is small.
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
"""The network thread may be silent for this many seconds. It writes a beat each second, and no step of the learner
delays it unless the step holds the GIL all the time."""
_LOOK_EVERY_S = 1.0
_REPORT_S = 2.0
"""The seconds that are left for the report of where each thread is."""


class Watchdog:
    """The worker's handle of the watchdog process."""

    def __init__(self, standstill_s: float = STANDSTILL_S) -> None:
        self._standstill_s = standstill_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Begin to watch this process, from the first beat on. Returns "", or why that is not possible."""
        if not os.path.exists("/proc/self/stat"):
            return ""  # other systems do not tell whether a process was stopped
        command = [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), str(self._standstill_s)]
        try:
            # Not in the worker's group: a fault plan stops the whole group, and then it would not notice the worker's
            # end.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            return f"the network thread has no watchdog: {error}"
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        if not faulthandler.is_enabled():
            faulthandler.enable(sys.__stderr__ or 2)
        return ""

    @property
    def heartbeat(self) -> IO[bytes] | None:
        """The pipe into which each byte is a beat of the network thread. A write does not block. None without a
        watchdog."""
        return self._process.stdin if self._process is not None else None

    def stop(self) -> None:
        """Stop watching."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def watch(parent: int, standstill_s: float) -> None:
    """The main loop of the small process, until the pipe is closed or its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these signals are for its parent
    armed, silent_s = False, 0.0
    while os.getppid() == parent:
        if select.select([0], [], [], _LOOK_EVERY_S)[0]:
            if not os.read(0, 4096):
                return
            armed, silent_s = True, 0.0
        elif was_stopped(parent):
            silent_s = 0.0
        elif armed:
            silent_s += _LOOK_EVERY_S  # counted in its own looks, so that a freeze of the whole machine does not count
            if silent_s >= standstill_s:
                _end(parent, silent_s)
                return


def was_stopped(process: int) -> bool:
    """Whether a signal or a debugger has stopped the process."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    return False


def _end(parent: int, silent_s: float) -> None:
    line = f"gossipdistill: the network thread of process {parent} has stood still for {silent_s:.0f} s: it is ended\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
    with contextlib.suppress(ProcessLookupError):
        os.kill(parent, signal.SIGABRT)  # faulthandler writes where each thread is, without the GIL
        end_s = time.monotonic() + _REPORT_S
        while os.getppid() == parent and time.monotonic() < end_s:
            time.sleep(0.02)
        if os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)


if __name__ == "__main__":
    watch(int(sys.argv[1]), float(sys.argv[2]))

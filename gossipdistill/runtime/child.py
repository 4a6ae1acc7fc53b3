"""A worker as a child process: `python -m gossipdistill.runtime.child SPECFILE`.

It writes JSON lines to its original standard output and reads standard input. The first line that it reads, `go`, lets
it train. The end of its standard input means that its launcher is gone, and it ends too. Both work before torch is
imported, which takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

from gossipdistill.errors import GossipdistillError
from gossipdistill.observe.told import Failure, Phase, Report
from gossipdistill.printable import printable_lines
from gossipdistill.runtime.log import unfailing
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest, wake_group, wake_when_orphaned
from gossipdistill.runtime.telling import Telling

_ENDED_BEFORE = 300
"""When the kernel chooses a process to kill, a worker counts as larger by this many thousandths of all memory. An
adjustment that the user has set stays and is added."""


def main(spec_file: str) -> int:
    """Run the worker of this specification; returns the exit code."""
    stop, released = StopRequest(), Release()
    stop.install()
    wake_when_orphaned()
    _be_ended_first()
    with _own_output() as out:
        telling = Telling(out)
        threading.Thread(target=_listen, args=(stop, released), daemon=True, name="launcher").start()
        try:
            return _run(spec_file, telling, stop, released)
        finally:
            telling.settle()
            stop.settled()


def _run(spec_file: str, report: Report, stop: StopRequest, released: Release) -> int:
    try:
        report(Phase("importing torch"))
        # Imported here because it imports torch; see the module's docstring.
        from gossipdistill.config.spec import WorkerSpec
        from gossipdistill.runtime.worker_process import WorkerProcess

        WorkerProcess(WorkerSpec.read(Path(spec_file)), report, stop, released).run()
    except GossipdistillError as error:
        if error.__cause__ is not None:
            _log_traceback()
        return _failed(report, stop, error.exit_code, str(error), logged=error.__cause__ is not None)
    except BrokenPipeError:
        return 1
    except Exception as error:
        _log_traceback()
        return _failed(report, stop, 1, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return stop.exit_code


def _be_ended_first() -> None:
    """Have the Linux kernel kill a worker before its launcher when memory runs out. The kernel kills the largest
    process, and a launcher is as large as a worker; but only the launcher can report and restart a killed worker."""
    with contextlib.suppress(OSError, ValueError):
        wish = Path("/proc/self/oom_score_adj")
        wish.write_text(str(min(int(wish.read_text()) + _ENDED_BEFORE, 1000)))


def _log_traceback() -> None:
    """Write the traceback into the peer's stderr.log, with the exception's text made safe for a terminal."""
    print(printable_lines(traceback.format_exc()), file=sys.stderr, flush=True)


def _failed(report: Report, stop: StopRequest, exit_code: int, message: str, logged: bool = True) -> int:
    if stop.reason is not None:
        return stop.exit_code  # ignore errors that come from stopping
    report(Failure(message, exit_code, logged))
    return exit_code


def _own_output() -> TextIO:
    """The launcher's pipe, used only for records; what a user's task prints goes to the peer's stderr.log."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout, sys.stderr = unfailing(sys.stdout), unfailing(sys.stderr)
    return out


def _listen(stop: StopRequest, released: Release) -> None:
    # Reads the descriptor itself: a thread that holds the lock of sys.stdin would keep the interpreter from ending.
    heard = b""
    while chunk := os.read(0, 4096):
        *lines, heard = (heard + chunk).split(b"\n")
        for line in lines:
            released.heard(line.decode())
    stop.ask("launcher gone", 1)
    released.set()
    wake_group()


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    # Threads of a collective may hang for ever when a peer is lost; nothing is left to do for them.
    os._exit(code)

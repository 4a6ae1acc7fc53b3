"""A worker as a child process: `python -m gossipdistill.runtime.child SPECFILE`.

It speaks JSON lines on its original standard output and listens on standard input. The first line in, `go`, releases
it. When its standard input ends, its launcher is gone, however that happened, and it ends too. Both work before
torch is imported, which takes seconds.
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
"""Thousandths of all memory by which a worker counts as larger than it is when the kernel chooses; own weights of a
user's stay, and come on top."""


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
        # Here, not above: see the head of this file.
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
    """Where memory runs out, the Linux kernel ends the largest process, and the launcher is no smaller than a worker.
    A worker is to be ended first: the launcher names it and can start it again."""
    with contextlib.suppress(OSError, ValueError):
        wish = Path("/proc/self/oom_score_adj")
        wish.write_text(str(min(int(wish.read_text()) + _ENDED_BEFORE, 1000)))


def _log_traceback() -> None:
    """Into the peer's stderr.log; a text of a user's exception does nothing to the terminal that shows it."""
    print(printable_lines(traceback.format_exc()), file=sys.stderr, flush=True)


def _failed(report: Report, stop: StopRequest, exit_code: int, message: str, logged: bool = True) -> int:
    if stop.reason is not None:
        return stop.exit_code  # whatever broke while everything was being stopped
    report(Failure(message, exit_code, logged))
    return exit_code


def _own_output() -> TextIO:
    """The launcher's pipe for records alone; what a user's task prints goes to the peer's stderr.log."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout, sys.stderr = unfailing(sys.stdout), unfailing(sys.stderr)
    return out


def _listen(stop: StopRequest, released: Release) -> None:
    # The bare descriptor: a thread that holds the lock of sys.stdin would stop the interpreter from ending.
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
    # Threads of a collective may hang for ever when a peer is lost: nothing that matters is left to do.
    os._exit(code)

"""A worker as a child process: `python -m gossipdistill.launch.child SPECFILE`.

It speaks JSON lines on standard output and listens on standard input. The first line in, `go`, releases it. When its
standard input ends, whoever launched it is gone, however that happened, and it ends too.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from gossipdistill.errors import GossipdistillError
from gossipdistill.launch.environment import StopRequest
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.worker_process import WorkerProcess


def main(spec_file: str) -> int:
    """Run the worker of this specification; returns the exit code."""
    stop, released = StopRequest(), threading.Event()
    stop.install()
    lock = threading.Lock()

    def report(record: dict[str, Any]) -> None:
        with lock:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()

    threading.Thread(target=_listen, args=(stop, released), daemon=True, name="launcher").start()
    try:
        WorkerProcess(WorkerSpec.from_json(Path(spec_file).read_text()), report, stop, released).run()
    except GossipdistillError as error:
        report({"type": "error", "exit_code": error.exit_code, "message": str(error)})
        if error.__cause__ is not None:
            traceback.print_exc()  # into the peer's stderr.log
        return error.exit_code
    except BrokenPipeError:
        return 1
    except Exception as error:
        traceback.print_exc()
        report({"type": "error", "exit_code": 1, "message": f"{type(error).__name__}: {error}"})
        return 1
    stop.settled()
    return stop.exit_code


def _listen(stop: StopRequest, released: threading.Event) -> None:
    # The bare descriptor: a thread that holds the lock of sys.stdin would stop the interpreter from ending.
    while chunk := os.read(0, 4096):
        if b"go" in chunk:
            released.set()
    stop.ask("launcher gone", 1)
    released.set()


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stdout.flush()
    # Threads of a collective may hang for ever when a peer is lost: nothing that matters is left to do.
    os._exit(code)

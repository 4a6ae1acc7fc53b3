"""One worker in this very process, as `gossipdistill worker` runs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from gossipdistill.errors import EXIT_NONE_FINISHED
from gossipdistill.launch.environment import StopRequest
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.worker_process import WorkerProcess
from gossipdistill.observe.report import summarise


def run_alone(spec: WorkerSpec, watch: Callable[[str, dict[str, Any]], None]) -> tuple[int, dict[str, Any]]:
    """Run one peer to its end; returns the exit code and a summary of this peer alone."""
    stop = StopRequest()
    stop.install()

    def report(record: dict[str, Any]) -> None:
        watch(spec.name, record)

    report({"type": "started", "pid": os.getpid()})
    result = WorkerProcess(spec, report, stop, threading.Event()).run()
    stop.settled()
    code = stop.exit_code or (0 if result["status"] == "finished" else EXIT_NONE_FINISHED)
    summary = summarise(spec.config, [result], result["wall_s"], code, spec.folder.parent)
    return code, summary

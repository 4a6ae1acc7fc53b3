"""One worker in this very process, as `gossipdistill worker` runs it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from gossipdistill.errors import EXIT_NONE_FINISHED, GossipdistillError
from gossipdistill.launch.release import Release
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.stopping import StopRequest
from gossipdistill.launch.worker_process import WorkerProcess
from gossipdistill.observe.report import summarise


def run_alone(spec: WorkerSpec, watch: Callable[[str, dict[str, Any]], None]) -> tuple[int, dict[str, Any]]:
    """Run one peer to its end; returns the exit code and a summary of this peer alone."""
    stop = StopRequest()
    stop.install()

    def report(record: dict[str, Any]) -> None:
        watch(spec.name, record)

    report({"type": "started", "pid": os.getpid()})
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a user's task may print; standard output is for results
            result = WorkerProcess(spec, report, stop, Release()).run()
    except GossipdistillError:
        if stop.reason is None:
            raise
        raise SystemExit(stop.exit_code) from None  # whatever broke while everything was being stopped
    stop.settled()
    code = stop.exit_code or (0 if result["status"] == "finished" else EXIT_NONE_FINISHED)
    summary = summarise(spec.config, [result], result["wall_s"], code, spec.folder.parent)
    return code, summary

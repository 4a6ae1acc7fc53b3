"""Runs one worker in this process, for `gossipdistill worker`."""

from __future__ import annotations

import contextlib
import os
import traceback

from gossipdistill.assembly.blaming import LOG
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import GossipdistillError
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.records import SummaryRecord
from gossipdistill.observe.report import summarise
from gossipdistill.observe.told import Started, Told, Watch
from gossipdistill.printable import printable_lines
from gossipdistill.runtime.aside import aside
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.worker_process import WorkerProcess


def run_alone(spec: WorkerSpec, watch: Watch) -> tuple[int, SummaryRecord]:
    """Run one peer to its end; returns the exit code and a summary of this peer alone."""
    stop = StopRequest()
    stop.install()

    def report(record: Told) -> None:
        watch(spec.name, record)

    report(Started(os.getpid()))
    try:
        with aside():
            result = WorkerProcess(spec, report, stop, Release()).run()
    except GossipdistillError as error:
        if stop.reason is None:
            _log(error, spec)
            raise
        raise SystemExit(stop.exit_code) from None  # ignore errors that come from stopping
    stop.settled()
    code = stop.exit_code or exit_code_of([result])
    summary = summarise(spec.config, [result], result.wall_s or 0.0, code, spec.folder.parent)
    return code, summary


def _log(error: GossipdistillError, spec: WorkerSpec) -> None:
    """Write the traceback of an exception in the user's code into the same log as a worker of `run`."""
    if error.__cause__ is not None:
        with contextlib.suppress(OSError):
            spec.folder.mkdir(parents=True, exist_ok=True)
            with open(spec.folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(printable_lines("".join(traceback.format_exception(error))))
            if str(spec.typed(spec.folder / LOG)) not in str(error):
                error.add_note(f"the full report is in {spec.typed(spec.folder / LOG)}")

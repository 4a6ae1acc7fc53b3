"""One worker of a cluster under a fault plan: a launcher of its own, which kills, stops and starts it again.

Each machine does to its own peer what the plan says, so nobody needs a hand on the others' processes. The plan's
seconds begin with this peer's training; `--start-when` has all begin together. Expectations are for `run`, which sees
everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import Disk, KeptRoom
from gossipdistill.launchers.local import LocalRun, WorkerError
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.report import FAULTS_FILE, summarise


class AfflictedWorker(LocalRun):
    """Runs the worker of `spec`, whose `faults` is the plan, to its end."""

    def __init__(self, spec: WorkerSpec, watch: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__([spec], spec.folder / "plan", self._release_when_it_trains)
        self._told = watch
        self._outcome = KeptRoom(spec.folder / FAULTS_FILE, Disk())

    def _release_when_it_trains(self, name: str, record: dict[str, Any]) -> None:
        if record.get("type") != "error":  # `_finish` raises it
            self._told(name, record)
        if name and self._released_s is None and record.get("kind") == "started":
            self._released_s = time.monotonic()
            self._go(self._children[name])

    def _release_when_all_are_ready(self) -> None:
        """It starts by itself, when those are there for whom it waits."""

    def _start(self, spec: WorkerSpec, restarts: int = 0) -> None:
        super()._start(replace(spec, start_when=1) if restarts else spec, restarts)

    def _finish(self) -> int:
        """Returns the exit code: 0 also for a peer that the plan has ended.

        Raises:
            WorkerError: when it could not go on; the exit code is its own.
        """
        (spec,), (child,) = self.specs, self._children.values()
        if child.error is not None and self._stop is None:
            raise WorkerError(child.error["message"], child.error["exit_code"])
        peer = self._entry(child)
        code = 0 if self._stopped_as_asked(peer) else exit_code_of([peer])
        code = 128 + self._stop if self._stop is not None else code
        assert self._chaos is not None
        faults: Sequence[dict[str, Any]] = self._chaos.faults()
        wall_s = time.monotonic() - (self._released_s or self._started_s)
        self.summary = summarise(spec.config, [peer], wall_s, code, Path(spec.folder.parent), faults)
        self._write_outcome({"faults": faults})
        return int(self.summary["exit_code"])

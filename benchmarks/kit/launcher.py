"""Real worker processes that a benchmark can signal at chosen times, with everything that they say and when.

Modelled on `gossipdistill.launchers.local.LocalRun`, which decides by itself when to signal and when to restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

from benchmarks.kit.series import Sample

WORKER_MODULE = "gossipdistill.runtime.child"


class Startable(Protocol):
    """What a process is told: a specification of ours, or of somebody else's worker."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def threads(self) -> int | None: ...
    def to_json(self) -> str: ...


_READY_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.01


class BenchmarkError(Exception):
    """A worker did what it must not do; the text ends with its last words."""


@dataclass(frozen=True, slots=True)
class Said:
    """An event of a worker (`by`) about a peer, and when the launcher read it."""

    at_s: float
    by: str
    kind: str
    about: str
    line: str


@dataclass
class WorkerHandle:
    """One incarnation of a worker."""

    spec: Startable
    process: subprocess.Popen[bytes]
    spawned_s: float
    ready_s: float | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    """What it said when it was ready, as `step`; empty before."""
    progress: dict[str, Any] = field(default_factory=dict)
    """The newest of what it says four times a second."""
    samples: list[Sample] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    """What else it says, such as its result."""
    released: bool = False
    error: str | None = None
    ended_s: float | None = None


@dataclass
class Workers:
    """Context manager: whatever happens inside, no process is left behind afterwards."""

    module: str = WORKER_MODULE
    command: Sequence[str] = ()
    """Instead of the module: what is run, with the file of the specification as its last argument."""
    inside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By worker: what its command begins with, as one that enters a namespace."""
    whole_groups: bool = False
    """Whether at the end everything is killed that a worker has started, too; ours start nothing."""
    handles: dict[str, WorkerHandle] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    _all: list[WorkerHandle] = field(default_factory=list)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for handle in self._all:
            if self.whole_groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(handle.process.pid, signal.SIGKILL)
            if handle.process.poll() is None:
                handle.process.kill()
        for handle in self._all:
            handle.process.wait()
            assert handle.process.stdin is not None
            with contextlib.suppress(OSError):
                handle.process.stdin.close()

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self, spec: Startable) -> WorkerHandle:
        """A new incarnation of this worker; it waits for `go`."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        spec_file = spec.folder / "spec.json"
        spec_file.write_text(spec.to_json())
        command = self.command or (sys.executable, "-m", self.module)
        with open(spec.folder / "stderr.log", "ab") as log:
            process = subprocess.Popen(
                [*self.inside.get(spec.name, ()), *command, str(spec_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": str(spec.threads or 1)},
                start_new_session=True,  # Ctrl-C reaches the benchmark alone
            )
        handle = WorkerHandle(spec, process, time.monotonic())
        self.handles[spec.name] = handle
        self._all.append(handle)
        threading.Thread(target=self._read, args=(handle,), daemon=True).start()
        return handle

    def start_all(self, specs: Sequence[Startable]) -> None:
        """Start these, wait until all are ready, and release them together."""
        for spec in specs:
            self.start(spec)
        for handle in list(self.handles.values()):
            self.wait_ready(handle)
        for handle in self.handles.values():
            self.release(handle)

    def wait_ready(self, handle: WorkerHandle) -> None:
        """Until the worker says that it is ready; BenchmarkError if it ends instead."""
        if not self.wait(lambda: handle.ready_s is not None or handle.ended_s is not None, _READY_WITHIN_S):
            raise BenchmarkError(f"{handle.spec.name} is not ready after {_READY_WITHIN_S:.0f} s{last_words(handle)}")
        if handle.ready_s is None:
            raise BenchmarkError(f"{handle.spec.name} ended before it was ready{last_words(handle)}")

    @staticmethod
    def release(handle: WorkerHandle, ago_s: float = 0.0) -> None:
        """Let it train; the others have been training for `ago_s` seconds already."""
        assert handle.process.stdin is not None
        handle.process.stdin.write(f"go {ago_s:.3f}\n".encode())
        handle.process.stdin.flush()
        handle.released = True

    # --- watching ------------------------------------------------------------------------------------------------

    @staticmethod
    def wait(true: Callable[[], bool], at_most_s: float) -> bool:
        """Until a condition holds; whether it came to hold in time."""
        deadline_s = time.monotonic() + at_most_s
        while not true():
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_LOOK_EVERY_S)
        return True

    def demand_running(self, names: Sequence[str]) -> None:
        """BenchmarkError if one of these has ended."""
        for name in names:
            handle = self.handles[name]
            if handle.ended_s is not None:
                raise BenchmarkError(f"{name} ended (exit code {handle.process.returncode}){last_words(handle)}")

    def signal(self, name: str, number: signal.Signals) -> float:
        """Send a signal to one worker; the clock reading just before."""
        at_s = time.monotonic()
        self.handles[name].process.send_signal(number)
        return at_s

    def _read(self, handle: WorkerHandle) -> None:
        assert handle.process.stdout is not None
        with handle.process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    self._take(handle, record, time.monotonic())
        handle.process.wait()
        handle.ended_s = time.monotonic()

    def _take(self, handle: WorkerHandle, record: dict[str, Any], at_s: float) -> None:
        match record.get("type"):
            case "ready":
                handle.ready, handle.ready_s = record, at_s
            case "progress":
                handle.progress = record
                handle.samples.append(Sample.from_record(at_s, record))
            case "event":
                about = record["line"].partition(":")[0]
                self.said.append(Said(at_s, handle.spec.name, record["kind"], about, record["line"]))
            case "error":
                handle.error = str(record.get("message"))
            case _:
                handle.records.append(record)


def last_words(handle: WorkerHandle) -> str:
    """What a worker said before it ended, for an error message."""
    text = (handle.spec.folder / "stderr.log").read_text(errors="replace")[-2000:]
    return f": {handle.error or ''}\n{text}".rstrip()


def stderr_lines(folder: Path) -> int:
    """Lines that a worker wrote to standard error, in all its incarnations."""
    path = folder / "stderr.log"
    return len(path.read_text(errors="replace").splitlines()) if path.exists() else 0


def end_tidily_on_signals() -> None:
    """Make SIGINT (ignored where a shell put this into the background) and SIGTERM an exception, so that
    `Workers.__exit__` is reached."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)

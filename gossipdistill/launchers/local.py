"""Starts, watches and stops several peers on this machine, collects their results, and leaves no process behind.

A launcher is given policies for when training begins, whether a lost peer is restarted, and which faults are injected.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import Disk, KeptRoom
from gossipdistill.errors import EXIT_LOST, ConfigError, GossipdistillError
from gossipdistill.events import Event
from gossipdistill.launchers.beginning import Beginning, Together
from gossipdistill.launchers.collecting import Ended
from gossipdistill.launchers.injection import Do, Injection, NoFaults, SignalTo, StartAgain
from gossipdistill.launchers.processes import Child, Processes, how_it_ended, processes_ended_for_memory
from gossipdistill.launchers.restarts import NoRestarts, Restarts
from gossipdistill.observe.record import Record
from gossipdistill.observe.recorder import Recorder
from gossipdistill.observe.records import SummaryRecord
from gossipdistill.observe.report import as_json, noted
from gossipdistill.observe.told import Done, Exited, Failure, Progress, Ready, Result, Started, Told, Watch
from gossipdistill.runtime.peer_files import needed
from gossipdistill.runtime.stopping import signals_to_end

Summary = Callable[[Ended], tuple[SummaryRecord, Record]]
"""It maps an ended run to its summary, with the exit code, and to the record that is written to the run's file."""

_READY_WITHIN_S = 180.0
_GRACE_S = 1.7
"""The seconds from Ctrl-C to SIGKILL for what still lives, so that all processes end within two seconds."""


class WorkerError(GossipdistillError):
    """A worker could not take part; the exit code is the worker's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


def of_the_whole_run(ended: Ended) -> tuple[SummaryRecord, Record]:
    """The summary of all peers, which is also what is written to the file."""
    summary = ended.summary()
    return summary, summary


@dataclass
class LocalRun:
    """Runs the workers of `specs` to their end. `summary` is filled in by `run` and written to `file`."""

    specs: Sequence[WorkerSpec]
    folder: Path
    watch: Watch
    restarts: Restarts = field(default_factory=NoRestarts)
    injection: Injection = field(default_factory=NoFaults)
    beginning: Beginning = field(default_factory=Together)
    summarise: Summary = of_the_whole_run
    file: Path | None = None
    """The file of the run is this one; unset, it is summary.json in `folder`."""
    summary: SummaryRecord = field(init=False, repr=False)
    processes: Processes = field(default_factory=Processes)
    released_s: float | None = None
    """Training began at this reading of the monotonic clock."""
    _recorder: Recorder | None = None
    _stop: int | None = None
    _started_s: float = 0.0
    _ended_for_memory: int = 0
    """The number of processes of this machine that the system had killed for lack of memory before the run."""

    def run(self) -> int:
        """Start, watch and collect; returns the exit code. No process is left behind in any case.

        Raises:
            GossipdistillError: when a worker could not take part, before anything was released.
        """
        self.restarts.check(self.specs[0].config.strategy_class())
        outcome = KeptRoom(self.file or self.folder / "summary.json", Disk())
        with needed(self.folder):
            outcome.disk.make_folder(outcome.file.parent)
            outcome.take()
        self._started_s, self._ended_for_memory = time.monotonic(), processes_ended_for_memory()
        with self._signals():
            try:
                self.start()
                while self._goes_on():
                    self.turn()
                if self._stop is not None:
                    self.stop(self._stop)
            except BaseException:
                outcome.give_back()
                raise
            finally:
                self.processes.kill_all()
                if self._recorder is not None:
                    self._recorder.__exit__(None, None, None)
        return self.finish(outcome)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals to end end the run; the signal for a checkpoint is passed on to all workers."""
        before = {number: signal.signal(number, self._on_signal) for number in signals_to_end()}
        if hasattr(signal, "SIGUSR1"):

            def ask(number: int, frame: object) -> None:
                self.processes.pass_on(number, ready_only=True)

            before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all workers, unless a signal asks for an end meanwhile.

        Raises:
            ConfigError: when a peer's folder cannot be used.
        """
        for spec in self.specs:
            if self._stop is None:
                self._start(spec)

    def _start(self, spec: WorkerSpec, restarts: int = 0) -> None:
        child = self.processes.start(self.beginning.spec_of(spec, restarts), restarts)
        self.watch(spec.name, Started(child.process.pid, restarts))

    def _start_again(self, name: str) -> None:
        """Restart this peer while the others train. If that fails, the reason is shown and the peer stays lost."""
        child = self.processes.children[name]
        try:
            self._start(replace(child.spec, resume=True), child.restarts + 1)
        except ConfigError as error:
            self.watch(name, Failure(f"cannot be started again: {error}"))

    def _elapsed_s(self) -> float:
        """Seconds since training began."""
        return time.monotonic() - self.released_s if self.released_s is not None else 0.0

    def _begin_if_due(self, record: Told | None) -> None:
        if self.released_s is None and self.beginning.is_due(self.processes.living(), record):
            self.released_s = time.monotonic()
            for child in self.processes.living():
                child.go(self._elapsed_s())

    # --- watching ------------------------------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        if self._stop is not None:
            return False
        if self.processes.living():
            return True
        finished = any(child.result is not None for child in self.processes.children.values())
        return self.injection.awaits_restart() and not finished

    def turn(self) -> None:
        """Do what the fault policy asks for by now, and take one record of a worker, if one comes in time.

        Raises:
            GossipdistillError: when a worker cannot take part, and training has not begun.
        """
        wait_s = 0.1
        if self.released_s is not None:
            for do in self.injection.due(self._elapsed_s(), self.processes.children):
                self._do(do)
            wait_s = min(wait_s, max(self.injection.next_s() - self._elapsed_s(), 0.001))
        heard = self.processes.heard(wait_s)
        if heard is None:
            self._refuse_late()
            return
        child, record = heard
        if record is None:
            self._ended(child.spec.name, child)
        else:
            self._heard(child.spec.name, child, record)
        self._begin_if_due(record)

    def _refuse_late(self) -> None:
        waiting = [child for child in self.processes.children.values() if child.ready is None]
        if self.released_s is None and waiting and time.monotonic() - self._started_s > _READY_WITHIN_S:
            names, logs = (", ".join(one) for one in zip(*((c.spec.name, str(c.log)) for c in waiting), strict=True))
            raise GossipdistillError(f"not ready within {_READY_WITHIN_S:.0f} s: {names}; see {logs}")

    def _heard(self, name: str, child: Child, record: Told) -> None:
        if self.released_s is not None:
            self.injection.heard(child, record, self._elapsed_s())
        match record:
            case Ready():
                child.ready = record
                if self.released_s is not None:
                    child.go(self._elapsed_s())  # a restarted peer
            case Progress():
                child.progress = record
                child.work.heard(record)
            case Result(result) | Done(result):
                child.result = result
            case Failure():
                child.error = record
        if not isinstance(record, Failure) or self.released_s is not None:
            self.watch(name, record)  # before training begins it ends the run, which reports it

    def _ended(self, name: str, child: Child) -> None:
        child.exit_code = child.process.returncode
        status = child.result.status if child.result is not None else None
        if self.released_s is None and (child.error is not None or child.exit_code >= 0):
            raise _refusal(name, child)
        child.how = how_it_ended(child.exit_code, processes_ended_for_memory() > self._ended_for_memory)
        self.watch(name, Exited(child.how, child.result is not None, status))
        planned = self.injection.stopped(name)
        child.work.ended(planned)
        again = self.restarts.next_of(child)
        if again is not None and child.result is None and self._stop is None and not planned:
            child.work.crashes += 1
            self.watch(name, again)
            self._start_again(name)

    def _do(self, do: Do) -> None:
        match do:
            case SignalTo(name, number):
                self.processes.signal(name, number)
            case StartAgain(name):
                self._start_again(name)
            case Event():
                self._say(do)

    def _say(self, event: Event) -> None:
        """Show an event of the plan, and write it into the events of the run."""
        if self._recorder is None:
            self._recorder = Recorder(self.folder, lambda record: self.watch("", record), 0.0)
        self._recorder.record(event)

    # --- ending --------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop is not None:
            self.processes.kill_all()
        self._stop = number

    def stop(self, number: int) -> None:
        """Pass the signal on, and collect the results that come in time."""
        deadline_s = time.monotonic() + _GRACE_S
        self.processes.pass_on(number)
        self.processes.pass_on(signal.SIGCONT)  # a process that a fault plan has stopped must receive it too
        while time.monotonic() < deadline_s and self.processes.living():
            heard = self.processes.heard(0.05)
            if heard is None:
                continue
            child, record = heard
            if record is None:
                child.exit_code = child.process.returncode
            elif isinstance(record, Result):
                child.result = record.result

    def finish(self, outcome: KeptRoom) -> int:
        """After the last process has ended, fill in the summary and write the file of the run. Returns the exit code.
        What cannot be written is named in the summary."""
        wall_s = time.monotonic() - (self.released_s or self._started_s)
        children = self.processes.children
        ended = Ended(self.specs, self.folder, children, self.injection, self._stop, wall_s)
        self.summary, written = self.summarise(ended)
        unwritten: list[str] = []
        with noted(unwritten):
            outcome.write(f"{as_json(written, indent=1)}\n".encode())
        if unwritten:
            self.summary = self.summary.but(unwritten=unwritten, exit_code=self.summary.exit_code or EXIT_LOST)
        return self.summary.exit_code


def _refusal(name: str, child: Child) -> WorkerError:
    """Why this worker cannot take part."""
    if child.error is None:
        how = how_it_ended(child.exit_code)
        return WorkerError(f"{name} ended before it was ready ({how}); see {child.log}", 1)
    message = child.error.message
    if child.error.logged and str(child.log) not in message:
        message += f" (in {name}; the report is in {child.log})"
    return WorkerError(message, child.error.exit_code)

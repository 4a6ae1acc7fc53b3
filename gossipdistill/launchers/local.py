"""Several peers on this machine: start, release together, watch, restart, collect; and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gossipdistill
from gossipdistill.assembly.blaming import LOG
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import VARIABLES
from gossipdistill.durable import Disk, KeptRoom, put
from gossipdistill.errors import EXIT_LOST, EXIT_NONE_FINISHED, EXIT_UNMET, ConfigError, GossipdistillError, NeedsError
from gossipdistill.events import Event
from gossipdistill.files import UnusableError, decoded, parse_json
from gossipdistill.launchers.chaos import Chaos
from gossipdistill.launchers.lost_work import SHORT, Work
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.recorder import Recorder
from gossipdistill.observe.records import PeerRecord, read_record
from gossipdistill.observe.report import as_json, noted, summarise, unknown_peer
from gossipdistill.runtime.folder_lock import refuse_held
from gossipdistill.runtime.peer_files import needed
from gossipdistill.runtime.stopping import signals_to_end
from gossipdistill.strategies import Delivery

Watch = Callable[[str, dict[str, Any]], None]
"""Called with (peer's name, record) for everything a worker says, and for what the launcher sees of it."""

_READY_WITHIN_S = 180.0
_GRACE_S = 1.7
"""From Ctrl-C to the last SIGKILL: everything is gone within two seconds."""
_DRAIN_S = 1.0
"""For the last words of an ended process to be read."""


@dataclass
class Child:
    """One worker process and the last things known of it."""

    spec: WorkerSpec
    process: subprocess.Popen[bytes]
    ready: dict[str, Any] | None = None
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    exit_code: int | None = None
    how: str = ""
    """How it ended, in words."""
    restarts: int = 0
    work: Work = field(default_factory=Work)


class WorkerError(GossipdistillError):
    """A worker could not take part; the exit code is the worker's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


@dataclass
class LocalRun:
    """Runs the workers of `specs` to their end. `summary` is filled in by `run` and written to `folder`."""

    specs: Sequence[WorkerSpec]
    folder: Path
    watch: Watch
    max_restarts: int = 0
    summary: dict[str, Any] = field(default_factory=dict)
    _children: dict[str, Child] = field(default_factory=dict)
    _records: queue.Queue[tuple[str, int, dict[str, Any] | None]] = field(default_factory=queue.Queue)
    _chaos: Chaos | None = None
    _recorder: Recorder | None = None
    _stop: int | None = None
    _released_s: float | None = None
    _started_s: float = 0.0
    _ended_for_memory: int = 0
    """Processes of this machine that the system had ended for want of memory before the run."""
    _outcome: KeptRoom = field(init=False)

    def __post_init__(self) -> None:
        self._outcome = KeptRoom(self.folder / "summary.json", Disk())

    def run(self) -> int:
        """Start, watch and collect; returns the exit code. Always leaves no process behind.

        Raises:
            GossipdistillError: when a worker could not take part, before anything was released.
        """
        strategy = self.specs[0].config.strategy_class()
        if self.max_restarts and strategy.delivery is Delivery.COLLECTIVE:
            raise NeedsError(f"strategy {strategy.name} cannot take a lost peer back: leave out --max-restarts")
        if self.specs[0].faults is not None:
            self._chaos = Chaos(self.specs[0].faults, self.specs[0].names, [spec.name for spec in self.specs])
        with needed(self.folder):
            self._outcome.disk.make_folder(self._outcome.file.parent)
            self._outcome.take()
        self._started_s, self._ended_for_memory = time.monotonic(), processes_ended_for_memory()
        before = {number: signal.signal(number, self._on_signal) for number in signals_to_end()}
        if hasattr(signal, "SIGUSR1"):
            before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._pass_on)
        try:
            for spec in self.specs:
                if self._stop is None:
                    self._start(spec)
            while self._goes_on():
                self._turn()
            if self._stop is not None:
                self._end(self._stop)
        except BaseException:
            self._outcome.give_back()
            raise
        finally:
            self._kill_all()
            if self._recorder is not None:
                self._recorder.__exit__(None, None, None)
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._finish()

    def _pass_on(self, number: int, frame: object) -> None:
        """A wish for a checkpoint goes to all workers that are far enough to understand it: others would die of it."""
        for child in list(self._children.values()):
            if child.ready is not None and child.process.returncode is None:
                child.process.send_signal(number)

    # --- starting ------------------------------------------------------------------------------------------------

    def _start(self, spec: WorkerSpec, restarts: int = 0) -> None:
        if not restarts:
            refuse_held(spec.folder, spec.name)
        spec_file, disk = spec.folder / "spec.json", Disk()
        with needed(spec.folder):
            disk.make_folder(spec.folder)
            disk.remove(spec.folder / "result.json")
            put(spec_file, [spec.to_json().encode()], disk, synced=False)
            log = open(spec.folder / LOG, "ab")  # noqa: SIM115 - closed below
        environment = os.environ | importable() | dict.fromkeys(VARIABLES, str(spec.threads))
        with log:
            process = subprocess.Popen(
                # -P: the current folder is not searched for modules, so that a file of the user's replaces none.
                [sys.executable, "-P", "-m", "gossipdistill.runtime.child", str(spec_file)],
                cwd=spec.user_folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on
            )
        before = self._children.get(spec.name)
        work = before.work if before is not None else Work()
        self._children[spec.name] = Child(spec, process, restarts=restarts, work=work)
        reader = threading.Thread(target=self._read, args=(spec.name, process), daemon=True)
        waiter = threading.Thread(target=self._wait, args=(spec.name, process, reader), daemon=True)
        reader.start()
        waiter.start()
        self.watch(spec.name, {"type": "started", "pid": process.pid, "restarts": restarts})

    def _start_again(self, spec: WorkerSpec, restarts: int = 0) -> None:
        """Others train on meanwhile: what keeps this one from starting is said, and it stays lost."""
        try:
            self._start(spec, restarts)
        except ConfigError as error:
            self.watch(spec.name, {"type": "error", "message": f"cannot be started again: {error}"})

    def _read(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with contextlib.suppress(UnusableError):  # a torn last line
                    record = parse_json(decoded(line), nonfinite=True)
                    if isinstance(record, dict):
                        self._records.put((name, process.pid, record))

    def _wait(self, name: str, process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        process.wait()
        _kill_group(process.pid)  # what a user's task started, such as the processes of a data loader
        reader.join(_DRAIN_S)
        self._records.put((name, process.pid, None))

    # --- the fault plan --------------------------------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        """Since the release."""
        return time.monotonic() - (self._released_s if self._released_s is not None else time.monotonic())

    def _say(self, event: Event) -> None:
        """What the plan does, to whoever watches and into the events of the run."""
        if self._recorder is None:
            self._recorder = Recorder(self.folder, lambda record: self.watch("", record), 0.0)
        self._recorder.record(event)

    # --- watching ------------------------------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        if self._stop is not None:
            return False
        if any(child.exit_code is None for child in self._children.values()):
            return True
        finished = any(child.result is not None for child in self._children.values())
        return self._chaos is not None and self._chaos.awaits_restart() and not finished

    def _turn(self) -> None:
        wait_s = 0.1
        if self._chaos is not None and self._released_s is not None:
            self._chaos.turn(self._elapsed_s(), self._children, self._start_again, self._say)
            wait_s = min(wait_s, max(self._chaos.next_s() - self._elapsed_s(), 0.001))
        try:
            name, pid, record = self._records.get(timeout=wait_s)
        except queue.Empty:
            waiting = [name for name, child in self._children.items() if child.ready is None]
            if self._released_s is None and waiting and time.monotonic() - self._started_s > _READY_WITHIN_S:
                raise GossipdistillError(
                    f"not ready within {_READY_WITHIN_S:.0f} s: {', '.join(waiting)}; see "
                    + ", ".join(str(_log_of(self._children[name].spec)) for name in waiting)
                ) from None
            return
        child = self._children[name]
        if pid != child.process.pid:
            return  # the last words of a process that has been restarted
        if record is None:
            self._ended(name, child)
            return
        if self._chaos is not None and self._released_s is not None:
            self._chaos.heard(name, child, record, self._elapsed_s())
        match record.get("type"):
            case "ready":
                child.ready = record
                if self._released_s is not None:
                    self._go(child)  # a restarted one
            case "progress":
                child.progress = record
                child.work.heard(record)
            case "result" | "done":
                child.result = record["result"]
            case "error":
                child.error = record
        if record.get("type") != "error" or self._released_s is not None:
            self.watch(name, record)  # before the release it ends the run, which says so
        self._release_when_all_are_ready()

    def _release_when_all_are_ready(self) -> None:
        living = [child for child in self._children.values() if child.exit_code is None]
        if self._released_s is not None or not living or any(child.ready is None for child in living):
            return
        self._refuse_differences(living)
        self._released_s = time.monotonic()
        for child in living:
            self._go(child)

    def _refuse_differences(self, living: list[Child]) -> None:
        """Peers that would refuse one another are told so before any of them trains."""
        first, *others = living
        assert first.ready is not None
        for other in others:
            assert other.ready is not None
            mine, theirs = first.ready["fingerprint"], other.ready["fingerprint"]
            for key in sorted(set(mine) | set(theirs)):
                if mine.get(key) == theirs.get(key):
                    continue
                names = f"{first.spec.name} and {other.spec.name}"
                if key in ("model", "initial weights"):
                    counts = f"{first.ready['parameters']} and {other.ready['parameters']} parameters"
                    raise NeedsError(
                        f"strategy {first.spec.config.strategy.name} needs the same {key} on all peers; {names} "
                        f"differ ({counts}). Give all the same task.model, or use codistill_predictions"
                    )
                raise ConfigError(f"{names} differ in {key}: {mine.get(key)} and {theirs.get(key)}")
            strategy = first.spec.config.strategy_class()
            if strategy.delivery is Delivery.COLLECTIVE and first.ready["step"] != other.ready["step"]:
                raise ConfigError(
                    f"{strategy.name} goes in step, and the checkpoints of {first.spec.name} and {other.spec.name} are "
                    f"at steps {first.ready['step']} and {other.ready['step']}; begin anew, without --resume"
                )

    def _go(self, child: Child) -> None:
        assert child.process.stdin is not None
        with contextlib.suppress(OSError):  # it died a moment ago; `_ended` will say so
            child.process.stdin.write(f"go {self._elapsed_s():.6f}\n".encode())
            child.process.stdin.flush()

    def _ended(self, name: str, child: Child) -> None:
        child.exit_code = child.process.returncode
        status = child.result["status"] if child.result is not None else None
        if self._released_s is None and (child.error is not None or child.exit_code >= 0):
            self._refuse_start(name, child)
        child.how = how_it_ended(child.exit_code, processes_ended_for_memory() > self._ended_for_memory)
        record = {"how": child.how, "finished": child.result is not None, "status": status}
        self.watch(name, {"type": "exited", **record})
        planned = self._chaos is not None and self._chaos.stopped(name)
        child.work.ended()
        child.work.planned |= planned
        if child.result is None and child.restarts < self.max_restarts and self._stop is None and not planned:
            child.work.crashes += 1
            self.watch(name, {"type": "restarting", "attempt": child.restarts + 1, "of": self.max_restarts})
            self._start_again(replace(child.spec, resume=True), child.restarts + 1)
        self._release_when_all_are_ready()  # one that was killed is not waited for

    def _refuse_start(self, name: str, child: Child) -> None:
        log = _log_of(child.spec)
        if child.error is None:
            raise WorkerError(f"{name} ended before it was ready ({child.how}); see {log}", 1)
        message = child.error["message"]
        if child.error.get("logged") and str(log) not in message:
            message += f" (in {name}; the report lies in {log})"
        raise WorkerError(message, child.error["exit_code"])

    # --- ending --------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stop is not None:
            self._kill_all()
        self._stop = number

    def _end(self, number: int) -> None:
        """Pass the signal on, collect the results that come in time, kill the rest."""
        deadline_s = time.monotonic() + _GRACE_S
        for child in self._children.values():
            if child.exit_code is None:
                child.process.send_signal(number)
                child.process.send_signal(signal.SIGCONT)  # one that a fault plan has stopped is to hear it too
        while time.monotonic() < deadline_s and any(c.exit_code is None for c in self._children.values()):
            try:
                name, pid, record = self._records.get(timeout=0.05)
            except queue.Empty:
                continue
            child = self._children[name]
            if pid == child.process.pid and record is None:
                child.exit_code = child.process.returncode
            elif record is not None and record.get("type") == "result":
                child.result = record["result"]

    def _kill_all(self) -> None:
        for child in self._children.values():
            if child.process.returncode is None:
                _kill_group(child.process.pid)
        for child in self._children.values():
            child.process.wait()
            if child.process.stdin is not None:
                with contextlib.suppress(OSError):
                    child.process.stdin.close()

    def _finish(self) -> int:
        peers = [self._judged(child, self._entry(child)) for child in self._children.values()]
        code = exit_code_of(peers, [peer["name"] for peer in peers if self._stopped_as_asked(peer)])
        if code == EXIT_NONE_FINISHED:
            code = self._code_of_none()
        if self._stop is not None:
            code = 128 + self._stop
        faults: list[dict[str, Any]] = []
        expectations: list[dict[str, Any]] = []
        if self._chaos is not None:
            faults = self._chaos.faults()
            trouble = "the run was interrupted" if self._stop is not None else None
            expectations = self._chaos.expectations(peers, trouble)
            if code == 0 and not all(verdict["met"] for verdict in expectations):
                code = EXIT_UNMET
        wall_s = time.monotonic() - (self._released_s or self._started_s)
        self.summary = summarise(self.specs[0].config, peers, wall_s, code, self.folder, faults, expectations)
        self._write_outcome(self.summary)
        return int(self.summary["exit_code"])

    def _write_outcome(self, value: dict[str, Any]) -> None:
        """The file of the run as a whole; what cannot be written becomes part of the summary."""
        unwritten: list[str] = []
        with noted(unwritten):
            self._outcome.write(f"{as_json(value, indent=1)}\n".encode())
        if unwritten:
            self.summary["unwritten"] = unwritten
            self.summary["exit_code"] = self.summary["exit_code"] or EXIT_LOST

    def _code_of_none(self) -> int:
        """No peer finished: that of a refusal, if all were refused alike before their first step."""
        codes = {child.error["exit_code"] if child.error else EXIT_NONE_FINISHED for child in self._children.values()}
        return codes.pop() if codes == {ConfigError.exit_code} else EXIT_NONE_FINISHED

    def _stopped_as_asked(self, peer: dict[str, Any]) -> bool:
        stopped = self._chaos is not None and self._chaos.stopped(peer["name"])
        return stopped and peer["status"] in ("lost", "left")

    def _judged(self, child: Child, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry; as one of less than its share where a restarted peer did not do it."""
        config = child.spec.config
        others = [other.work.rate() for other in self._children.values() if other is not child]
        problem = child.work.problem(entry["steps"], config.seconds, config.steps, others)
        if entry["status"] != "finished" or not problem:
            return entry
        warnings = [*entry["warnings"], f"{SHORT}: {problem}"]
        return entry | {"status": SHORT, "reason": problem, "warnings": warnings}

    def _entry(self, child: Child) -> dict[str, Any]:
        """The peer's own result, or what the launcher knows of one that could not write it."""
        if child.result is not None:
            return child.result
        with contextlib.suppress(ConfigError):  # written, but not told in time
            return read_record(child.spec.folder / "result.json", PeerRecord)
        interrupted = "interrupted" if self._stop == signal.SIGINT else "left"
        status = "failed" if child.error else interrupted if self._stop is not None else "lost"
        message = child.error["message"] if child.error else child.how or how_it_ended(child.exit_code)
        if self._chaos is not None and self._chaos.stopped(child.spec.name):
            message += ", as the fault plan asked"
        return unknown_peer(child.spec.name) | {
            "status": status,
            "pid": child.process.pid,
            "incarnations": child.restarts + 1,
            "steps": child.progress.get("step", 0),
            "steps_per_s": round(child.progress.get("steps_per_s", 0.0), 3),
            "parcels_used": child.progress.get("exchanges", 0),
            "warnings": [message],
        }


def _log_of(spec: WorkerSpec) -> Path:
    return spec.typed(spec.folder / LOG)


def processes_ended_for_memory() -> int:
    """How many processes this system has ended for want of memory, in any control group; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def importable() -> dict[str, str]:
    """The environment with which a child finds this package although it does not search the current folder: where it
    was found there, as in a clone that is not installed."""
    home = str(Path(gossipdistill.__file__).parents[1])
    if not sys.path or os.path.abspath(sys.path[0] or ".") != home or sys.flags.safe_path:
        return {}
    return {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), home])}


def _kill_group(pid: int) -> None:
    """Each worker leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def how_it_ended(exit_code: int | None, memory_was_short: bool = False) -> str:
    """The exit code of a process in words; `memory_was_short`: the system has ended some process meanwhile for want of
    memory."""
    if exit_code is None:
        return "did not end in time and was killed"
    if exit_code == -signal.SIGKILL and memory_was_short:
        return "killed by SIGKILL, for want of memory: exit code 137"
    if exit_code == -signal.SIGABRT:
        return "killed by SIGABRT, exit code 134: its stderr.log says why"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"

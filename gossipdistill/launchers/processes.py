"""Starts the worker processes of a launcher, reads their records, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import gossipdistill
from gossipdistill.assembly.blaming import LOG
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import VARIABLES
from gossipdistill.durable import Disk, put
from gossipdistill.files import UnusableError, decoded, parse_json
from gossipdistill.launchers.lost_work import Work
from gossipdistill.observe.records import PeerRecord
from gossipdistill.observe.told import Failure, Progress, Ready, Told
from gossipdistill.observe.told import decoded as told_of
from gossipdistill.runtime.folder_lock import refuse_held
from gossipdistill.runtime.peer_files import needed

_DRAIN_S = 1.0
"""The seconds within which the last records of an ended process must be read."""


@dataclass
class Child:
    """One worker process and its last known state."""

    spec: WorkerSpec
    process: subprocess.Popen[bytes]
    ready: Ready | None = None
    progress: Progress = field(default_factory=Progress)
    result: PeerRecord | None = None
    error: Failure | None = None
    exit_code: int | None = None
    how: str = ""
    """The way in which it ended, in words."""
    restarts: int = 0
    work: Work = field(default_factory=Work)

    @property
    def lives(self) -> bool:
        """Whether it is not known to have ended."""
        return self.exit_code is None

    @property
    def log(self) -> Path:
        """The file of its standard error, as the user would type it."""
        return self.spec.typed(self.spec.folder / LOG)

    def go(self, elapsed_s: float) -> None:
        """Tell it that training began `elapsed_s` ago."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has just ended, which will be noticed
            self.process.stdin.write(f"go {elapsed_s:.6f}\n".encode())
            self.process.stdin.flush()


class Processes:
    """The newest process of each peer, by the peer's name. Records of older processes are ignored."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self._records: queue.Queue[tuple[str, int, Told | None]] = queue.Queue()

    def start(self, spec: WorkerSpec, restarts: int = 0) -> Child:
        """Start the worker of this peer.

        Raises:
            ConfigError: when its folder cannot be written to, or another living process holds it.
        """
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
                # -P: the current folder is not searched for modules, so that no file of the user's replaces one.
                [sys.executable, "-P", "-m", "gossipdistill.runtime.child", str(spec_file)],
                cwd=spec.user_folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the launcher alone, which passes it on
            )
        before = self.children.get(spec.name)
        child = Child(spec, process, restarts=restarts, work=before.work if before is not None else Work())
        self.children[spec.name] = child
        reader = threading.Thread(target=self._read, args=(spec.name, process), daemon=True)
        waiter = threading.Thread(target=self._wait, args=(spec.name, process, reader), daemon=True)
        reader.start()
        waiter.start()
        return child

    def heard(self, within_s: float) -> tuple[Child, Told | None] | None:
        """The next record of a process, with None for the record once the process has ended; None if nothing comes in
        time."""
        try:
            name, pid, record = self._records.get(timeout=within_s)
        except queue.Empty:
            return None
        child = self.children[name]
        return (child, record) if pid == child.process.pid else None

    def tell(self, child: Child, record: Told | None) -> None:
        """Put in a record as if this process had sent it; None as if it had ended."""
        self._records.put((child.spec.name, child.process.pid, record))

    def living(self) -> list[Child]:
        """The processes that are not known to have ended."""
        return [child for child in self.children.values() if child.lives]

    def pass_on(self, number: int, *, ready_only: bool = False) -> None:
        """Send a signal to all living processes; `ready_only`: only to those that already handle other signals than
        those to end."""
        for child in list(self.children.values()):
            if child.process.returncode is None and (child.ready is not None or not ready_only):
                child.process.send_signal(number)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the newest process of this peer; every signal but SIGTERM goes also to processes that a
        user's task has started. It is no error if the process is gone."""
        process = self.children[name].process
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGTERM:
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)

    def kill_all(self) -> None:
        """Kill all processes; none is left when this returns."""
        for child in self.children.values():
            if child.process.returncode is None:
                _kill_group(child.process.pid)
        for child in self.children.values():
            child.process.wait()
            if child.process.stdin is not None:
                with contextlib.suppress(OSError):
                    child.process.stdin.close()

    def _read(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with contextlib.suppress(UnusableError):  # an incomplete last line
                    record = parse_json(decoded(line), nonfinite=True)
                    told = told_of(record) if isinstance(record, dict) else None
                    if told is not None:
                        self._records.put((name, process.pid, told))

    def _wait(self, name: str, process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        process.wait()
        _kill_group(process.pid)  # processes of a user's task, such as those of a data loader
        reader.join(_DRAIN_S)
        self._records.put((name, process.pid, None))


def _kill_group(pid: int) -> None:
    """Kill the process group that this worker leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def importable() -> dict[str, str]:
    """The environment with which a child finds this package, since it does not search the current folder. This matters
    where the package is not installed, as in a clone."""
    home = str(Path(gossipdistill.__file__).parents[1])
    if not sys.path or os.path.abspath(sys.path[0] or ".") != home or sys.flags.safe_path:
        return {}
    return {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), home])}


def processes_ended_for_memory() -> int:
    """The number of processes that this system has killed for lack of memory, in any control group; 0 where it is not
    known."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def how_it_ended(exit_code: int | None, memory_was_short: bool = False) -> str:
    """The exit code of a process in words; `memory_was_short`: the system has meanwhile killed some process for lack of
    memory."""
    if exit_code is None:
        return "did not end in time and was killed"
    if exit_code == -signal.SIGKILL and memory_was_short:
        return "killed by SIGKILL, because memory ran out: exit code 137"
    if exit_code == -signal.SIGABRT:
        return "killed by SIGABRT, exit code 134: its stderr.log says why"
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"

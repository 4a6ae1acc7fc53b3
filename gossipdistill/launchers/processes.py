"""The worker processes of a launcher: starting them, hearing what they say, and leaving none behind."""

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
"""For the last words of an ended process to be read."""


@dataclass
class Child:
    """One worker process and the last things known of it."""

    spec: WorkerSpec
    process: subprocess.Popen[bytes]
    ready: Ready | None = None
    progress: Progress = field(default_factory=Progress)
    result: PeerRecord | None = None
    error: Failure | None = None
    exit_code: int | None = None
    how: str = ""
    """It ended like this, in words."""
    restarts: int = 0
    work: Work = field(default_factory=Work)

    @property
    def lives(self) -> bool:
        """Whether nothing is known of its end."""
        return self.exit_code is None

    @property
    def log(self) -> Path:
        """What it writes to its standard error lies there, as the user would type it."""
        return self.spec.typed(self.spec.folder / LOG)

    def go(self, elapsed_s: float) -> None:
        """Tell it that training began `elapsed_s` ago."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it died a moment ago, which will be heard
            self.process.stdin.write(f"go {elapsed_s:.6f}\n".encode())
            self.process.stdin.flush()


class Processes:
    """The newest process of each peer, by its name. Of older ones nothing is heard."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self._records: queue.Queue[tuple[str, int, Told | None]] = queue.Queue()

    def start(self, spec: WorkerSpec, restarts: int = 0) -> Child:
        """Start the worker of this peer.

        Raises:
            ConfigError: when its folder cannot be written to, or another living process has it.
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
                # -P: the current folder is not searched for modules, so that a file of the user's replaces none.
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
        """The next record of a process, or None in its place once the process has ended; nothing where nobody says
        anything in time."""
        try:
            name, pid, record = self._records.get(timeout=within_s)
        except queue.Empty:
            return None
        child = self.children[name]
        return (child, record) if pid == child.process.pid else None

    def tell(self, child: Child, record: Told | None) -> None:
        """As if this process had said it, or had ended."""
        self._records.put((child.spec.name, child.process.pid, record))

    def living(self) -> list[Child]:
        """Those of which no end is known."""
        return [child for child in self.children.values() if child.lives]

    def pass_on(self, number: int, *, ready_only: bool = False) -> None:
        """Send a signal to all that live; `ready_only`: to those that are far enough to understand more than an end."""
        for child in list(self.children.values()):
            if child.process.returncode is None and (child.ready is not None or not ready_only):
                child.process.send_signal(number)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the newest process of this peer; all but SIGTERM also to what a user's task has started. To
        one that is gone already is no error."""
        process = self.children[name].process
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGTERM:
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)

    def kill_all(self) -> None:
        """Nothing is left when this returns."""
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
                with contextlib.suppress(UnusableError):  # a torn last line
                    record = parse_json(decoded(line), nonfinite=True)
                    told = told_of(record) if isinstance(record, dict) else None
                    if told is not None:
                        self._records.put((name, process.pid, told))

    def _wait(self, name: str, process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
        process.wait()
        _kill_group(process.pid)  # what a user's task started, such as the processes of a data loader
        reader.join(_DRAIN_S)
        self._records.put((name, process.pid, None))


def _kill_group(pid: int) -> None:
    """Each worker leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def importable() -> dict[str, str]:
    """The environment with which a child finds this package although it does not search the current folder: where it
    was found there, as in a clone that is not installed."""
    home = str(Path(gossipdistill.__file__).parents[1])
    if not sys.path or os.path.abspath(sys.path[0] or ".") != home or sys.flags.safe_path:
        return {}
    return {"PYTHONPATH": os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), home])}


def processes_ended_for_memory() -> int:
    """How many processes this system has ended for want of memory, in any control group; 0 where that is not told."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


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

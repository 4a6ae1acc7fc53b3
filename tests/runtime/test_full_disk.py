"""The disk is full, read-only or broken at every write of a worker: there is a result and a table all the same."""

from __future__ import annotations

import contextlib
import errno
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from gossipdistill.assembly import building
from gossipdistill.cli.options import written_to
from gossipdistill.config.layers import Layer
from gossipdistill.config.origins import COMMAND_LINE
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import CheckpointFolder, Disk, KeptRoom, Parts
from gossipdistill.errors import ConfigError
from gossipdistill.ids import Boot, PeerName
from gossipdistill.launchers.local import LocalRun
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.mailbox import Mailbox
from gossipdistill.observe.record import read_record
from gossipdistill.observe.records import PeerRecord, SummaryRecord
from gossipdistill.observe.report import render
from gossipdistill.observe.told import Happened, Told
from gossipdistill.presence import NOWHERE
from gossipdistill.protocol.membership import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.runtime import alone, worker_process
from gossipdistill.runtime.alone import run_alone
from gossipdistill.runtime.log import unfailing
from gossipdistill.runtime.saving import Saver
from gossipdistill.runtime.worker_process import WorkerProcess
from gossipdistill.tasks import Task, accuracy

STEPS = 3
FULL = "No space left on device"


def task(shard: object) -> Task:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(24, 3, generator=generator), torch.arange(24) % 2
    return Task(
        model=lambda: nn.Linear(3, 2),
        train=(x, y),
        validation=(x, y),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": accuracy},
    )


def spec_at(folder: Path) -> WorkerSpec:
    values = {
        "steps": STEPS,
        "strategy.name": "isolated",
        "task.name": f"{__name__}:task",
        "linger_s": 0.0,
        "train.checkpoint_every_s": 1e-6,
    }
    return WorkerSpec(
        name="ada",
        place=0,
        count=1,
        resolved=resolve([Layer(COMMAND_LINE, values)]),
        folder=folder / "run" / "ada",
        listen=NOWHERE,
        advertise=NOWHERE,
        shard=(0, 1),
        device="cpu",
    )


# --- disks -----------------------------------------------------------------------------------------------------------


@dataclass
class Recorded(Disk):
    """Notes each operation that needs the disk to take something; `at` is the one at which things go wrong."""

    at: int = -1
    problem: int = errno.ENOSPC
    done: list[str] = field(default_factory=list)

    def _count(self, kind: str, file: Path) -> bool:
        """Whether it goes wrong now."""
        self.done.append(f"{kind} {file.name}")
        return len(self.done) - 1 == self.at

    def _fails(self, file: Path, named: bool = True) -> OSError:
        error = OSError(self.problem, "the disk says no")
        error.filename = str(file) if named else None
        return error


@dataclass
class BadOnce(Recorded):
    """One operation fails, and leaves half of what it was to write."""

    def make_folder(self, folder: Path) -> None:
        if self._count("folder", folder):
            raise self._fails(folder)
        super().make_folder(folder)

    def write(self, file: Path, parts: Parts) -> None:
        if self._count("write", file):
            data = b"".join(parts)
            super().write(file, [data[: len(data) // 2]])
            raise self._fails(file, named=False)
        super().write(file, parts)

    def write_over(self, file: Path, data: bytes) -> None:
        if self._count("write over", file):
            raise self._fails(file, named=False)
        super().write_over(file, data)

    def append(self, file: Path, data: bytes) -> None:
        if self._count("append", file):
            super().append(file, data[: len(data) // 2])
            raise self._fails(file, named=False)
        super().append(file, data)

    def sync(self, path: Path) -> None:
        if self._count("sync", path):
            raise self._fails(path)

    def rename(self, file: Path, to: Path) -> None:
        if self._count("rename", to):
            raise self._fails(file)
        super().rename(file, to)


@dataclass
class BadFromThen(BadOnce):
    """From one operation on all fail: the disk is read-only, or broken."""

    def _count(self, kind: str, file: Path) -> bool:
        super()._count(kind, file)
        return 0 <= self.at < len(self.done)


@dataclass
class Small(Recorded):
    """Holds what it had when the operation `at` began, and half of that one; what is removed comes back. All bytes of
    the files below the folder count."""

    root: Path = field(default_factory=Path)
    room: int | None = None

    def _take(self, kind: str, file: Path, data: bytes, before: int, over: bool = False) -> bytes:
        """What of `data` there is room for, where the file had `before` bytes, which are given back first; `over`:
        they are written over, and so there is room for as many in any case."""
        used = sum(one.stat().st_size for one in self.root.rglob("*") if one.is_file())
        if self._count(kind, file):
            self.room = used if over else used - before + len(data) // 2
        return data if self.room is None else data[: max(self.room - used + before, before if over else 0)]

    def write(self, file: Path, parts: Parts) -> None:
        data = b"".join(parts)
        fits = self._take("write", file, data, file.stat().st_size if file.exists() else 0)
        super().write(file, [fits])
        if len(fits) < len(data):
            raise self._fails(file, named=False)

    def write_over(self, file: Path, data: bytes) -> None:
        fits = self._take("write over", file, data, file.stat().st_size, over=True)
        super().write_over(file, fits)
        if len(fits) < len(data):
            raise self._fails(file, named=False)

    def append(self, file: Path, data: bytes) -> None:
        fits = self._take("append", file, data, 0)
        super().append(file, fits)
        if len(fits) < len(data):
            raise self._fails(file, named=False)

    def sync(self, path: Path) -> None:
        """Nothing is lost here."""


# --- a worker without a network --------------------------------------------------------------------------------------


class NoNetwork:
    """Stands for the thread of the network: there is nobody."""

    def __init__(self) -> None:
        self.mailbox = Mailbox(lock=threading.Lock())

    def start(self, driver: object) -> None:
        pass

    def stop(self, reason: str, timeout_s: float = 2.0, crashed: bool = False) -> None:
        pass

    def failure(self) -> None:
        return None


class NoDriver:
    """Has sent nothing."""

    def __init__(self, me: Identity) -> None:
        self.peer = Peer(me, expected=1, contacts=[], seeds=[], closed=True, now=0.0)
        self.traffic: dict[str, object] = {}

    def unanswered(self) -> list[str]:
        return []


class InStep(Saver):
    """Writes each checkpoint before the next step, so that every run does the same in the same order."""

    def save(self, checkpoint: Checkpoint, score: float | None = None) -> None:
        super().save(checkpoint, score)
        assert self.settle(20.0)


@pytest.fixture(autouse=True)
def _without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(self: WorkerProcess, network: object, boot: int, prints: dict[str, str], injected: object) -> NoDriver:
        return NoDriver(Identity(PeerName("ada"), Boot(boot), NOWHERE, 0, prints))

    monkeypatch.setattr(worker_process, "NetworkThread", NoNetwork)
    monkeypatch.setattr(worker_process, "Saver", InStep)
    monkeypatch.setattr(WorkerProcess, "_driver", driver)


@dataclass
class Ended:
    """A worker's end, as the user sees it."""

    code: int
    summary: SummaryRecord
    said: list[str]
    table: str

    @property
    def peer(self) -> PeerRecord:
        (one,) = self.summary.peers
        return one


def run(folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Ended:
    """`gossipdistill worker`, without what it prints."""
    said: list[str] = []

    def watch(name: str, record: Told) -> None:
        if isinstance(record, Happened):
            said.append(record.line)

    def process(*args: Any) -> WorkerProcess:
        return WorkerProcess(*args, disk=disk)

    monkeypatch.setattr(alone, "WorkerProcess", process)
    code, summary = run_alone(spec_at(folder), watch)
    out = io.StringIO()
    Console(file=out, width=400).print(render(summary))
    return Ended(code, summary, said, out.getvalue())


def tried(folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Ended | ConfigError:
    try:
        return run(folder, disk, monkeypatch)
    except ConfigError as error:
        return error


def files_of(folder: Path) -> dict[str, Path]:
    return {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}


def assert_right(ended: Ended, folder: Path, where: str, result_too: bool = True) -> None:
    """The table has the figures and names what is missing; what is there is whole; nothing half written is left."""
    assert ended.peer.status == "finished", where
    assert ended.peer.steps == STEPS, where
    assert "finished" in ended.table, where
    assert f"{100 * (ended.peer.val_accuracy or 0.0):.1f}" in ended.table, where
    unwritten = ended.peer.unwritten
    assert ended.code == (10 if unwritten else 0), (where, unwritten)
    assert ended.summary.exit_code == ended.code, where
    for problem in unwritten:
        assert f"not written: {problem}" in ended.table, where
        assert str(folder) in problem, where  # the path is named
    files = files_of(folder)
    assert not [name for name in files if name.endswith((".partial", ".room"))], (where, sorted(files))
    ours = folder / "run" / "ada"
    if not any("result.json" in problem for problem in unwritten):
        result = read_record(ours / "result.json", PeerRecord)
        assert (result.val_loss, result.steps) == (ended.peer.val_loss, STEPS), where
        assert result.unwritten == unwritten, where
    else:
        assert not result_too, where
    last = CheckpointFolder(ours / "checkpoints", {"peer": "ada"})
    saved, refusals = last.newest(lambda one: Checkpoint.decode(one.tensors, one.content))
    assert refusals == [], where
    if not any("the last checkpoint" in problem for problem in unwritten):
        assert saved is not None, where
        assert saved.progress["step"] == STEPS, where
    for name in files:
        if name.endswith(".safetensors") and "checkpoints" in name:
            assert name.replace(".safetensors", ".json") in files, where  # no half of one takes room


def operations(folder: Path, kind: type[Recorded], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All writes of a run that goes well."""
    disk = Small(root=folder) if kind is Small else kind()
    ended = run(folder, disk, monkeypatch)
    assert_right(ended, folder, "nothing went wrong")
    assert ended.code == 0
    assert ended.peer.unwritten == []
    return disk.done


BEGUN = "write result.json.room.partial"
"""The last that is written before training: what goes wrong up to there is told at once, with exit code 3."""


def each(
    tmp_path: Path,
    done: list[str],
    disk_at: Callable[[int, Path], Disk],
    monkeypatch: pytest.MonkeyPatch,
    result_too: bool,
) -> None:
    """The same run as often as it writes something, with the trouble at each of these writes."""
    assert {BEGUN, "write config.json.partial", "append events.jsonl"} < set(done)
    begun = done.index(BEGUN)
    for at, what in enumerate(done):
        folder = tmp_path / str(at)
        where = f"at operation {at} of {len(done)}: {what}"
        ended = tried(folder, disk_at(at, folder), monkeypatch)
        if isinstance(ended, ConfigError):
            assert at <= begun + 2, where  # a sync and a rename belong to it
            assert ended.exit_code == 3, where
            assert str(folder / "run" / "ada") in str(ended), where
            assert "the disk says no" in str(ended), where
            assert not [name for name in files_of(folder) if name.endswith((".partial", ".room"))], where
        else:
            assert at > begun, where
            assert_right(ended, folder, where, result_too)


def test_storage_full_from_any_write_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is not a byte more than at that write; what is removed comes back. The result is written in each case."""
    done = operations(tmp_path / "all", Small, monkeypatch)
    each(tmp_path, done, lambda at, folder: Small(at, root=folder), monkeypatch, result_too=True)


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EIO])
def test_any_one_operation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int) -> None:
    done = operations(tmp_path / "all", BadOnce, monkeypatch)
    each(tmp_path, done, lambda at, folder: BadOnce(at, problem), monkeypatch, result_too=True)


@pytest.mark.parametrize("problem", [errno.EROFS, errno.EDQUOT])
def test_nothing_can_be_written_from_any_operation_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    """Read-only, say: no result can be written then, and the table is there in each case."""
    done = operations(tmp_path / "all", BadFromThen, monkeypatch)
    each(tmp_path, done, lambda at, folder: BadFromThen(at, problem), monkeypatch, result_too=False)


# --- what stands in the way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "run", "run/ada", "run/ada/checkpoints"])
def test_a_file_in_a_folders_place_is_refused_by_name_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    file = tmp_path / "runs" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    problem = tried(tmp_path / "runs", Disk(), monkeypatch)
    assert isinstance(problem, ConfigError)
    assert str(tmp_path / "runs") in str(problem)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["boots.json", "events.jsonl", "config.json", "result.json", "validation.safetensors", "result.json.room"]
)
def test_a_folder_in_a_files_place_is_refused_by_name_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "run" / "ada" / name
    folder.mkdir(parents=True)
    problem = tried(tmp_path, Disk(), monkeypatch)
    assert isinstance(problem, ConfigError)
    assert f"{folder}: cannot be written: Is a directory" in str(problem)


def test_a_run_is_refused_before_any_process_is_started(tmp_path: Path) -> None:
    def watch(name: str, record: Told) -> None:
        raise AssertionError(record)

    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError, match=r"run.*: cannot be written: "):
        LocalRun([spec_at(tmp_path)], tmp_path / "run", watch).run()


def test_a_summary_that_cannot_be_written_is_in_the_table_and_the_exit_code(tmp_path: Path) -> None:
    local = LocalRun([spec_at(tmp_path)], tmp_path / "run", lambda name, record: None)
    outcome = KeptRoom(tmp_path / "run" / "summary.json", BadFromThen(at=0, problem=errno.EROFS))
    (tmp_path / "run").mkdir()
    local.released_s = 0.0
    assert local.finish(outcome) == 11  # no peer has finished: that says more
    (problem,) = local.summary.unwritten
    assert problem == f"{tmp_path / 'run' / 'summary.json'}: the disk says no"
    assert written_to(tmp_path / "run" / "summary.json", [problem]) == ""
    assert written_to(tmp_path / "run" / "summary.json", []) == f"Written to {tmp_path / 'run' / 'summary.json'}"


class Unkept(torch.optim.SGD):
    """Has a state, from its first step on, that no checkpoint can hold."""

    def step(self, closure: Any = None) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["handle"] = object()
        super().step(closure)


def test_a_state_that_cannot_be_kept_ends_no_training_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "build_optimizer", lambda name, model, *_, **__: Unkept(model.parameters(), lr=0.1))
    ended = run(tmp_path, Disk(), monkeypatch)
    problem = "optimizer.state.0.handle is of type object, which a checkpoint cannot hold; there is none yet"
    assert ended.said.count(f"warning: no checkpoint could be written: {problem}") == 1
    assert ended.peer.unwritten == [f"the last checkpoint: {problem}"]
    assert (ended.code, ended.peer.status, ended.peer.steps) == (10, "finished", STEPS)
    assert read_record(tmp_path / "run" / "ada" / "result.json", PeerRecord).unwritten == ended.peer.unwritten


def test_what_cannot_be_logged_is_passed_over() -> None:
    with open("/dev/full", "w") as full, contextlib.suppress(OSError):
        log = unfailing(full)
        for _ in range(3):
            print("x" * 10_000, file=log, flush=True)
        log.detach()
    with pytest.raises(OSError, match=FULL), open("/dev/full", "w") as plain:
        print("x" * 10_000, file=plain, flush=True)

"""The thread that writes checkpoints: it keeps nobody waiting, writes the newest, and says what goes wrong, once."""

from __future__ import annotations

import errno
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from gossipdistill.durable import CheckpointFolder, Disk, Parts, Saved
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.runtime.saving import Saver

TIMEOUT_S = 20.0


def checkpoint(step: int) -> Checkpoint:
    model = nn.Linear(2, 2)
    return Checkpoint.of(model, torch.optim.SGD(model.parameters(), lr=0.1), {"step": step})


def newest_step(folder: Path) -> int | None:
    def step(saved: Saved) -> int:
        return int(Checkpoint.decode(saved.tensors, saved.content).progress["step"])

    return CheckpointFolder(folder, {"peer": "ada"}).newest(step)[0]


@dataclass
class SlowDisk(Disk):
    """Writes nothing until it is let, and says when it was asked."""

    asked: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    def write(self, file: Path, parts: Parts) -> None:
        self.asked.set()
        assert self.let.wait(TIMEOUT_S)
        super().write(file, parts)


@dataclass
class FullDisk(Disk):
    full: bool = True

    def write(self, file: Path, parts: Parts) -> None:
        if self.full:
            super().write(file, parts[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(file, parts)


def saver_at(folder: Path, disk: Disk) -> Saver:
    return Saver(CheckpointFolder(folder, {"peer": "ada"}, boot=1, disk=disk))


def test_a_slow_disk_keeps_nobody_waiting_and_the_newest_is_written(tmp_path: Path) -> None:
    disk = SlowDisk()
    saver = saver_at(tmp_path, disk)
    saver.save(checkpoint(1))
    assert disk.asked.wait(TIMEOUT_S)
    for step in (2, 3, 4):
        saver.save(checkpoint(step))  # returns, or this test would end here
    assert not saver.settle(0.0)
    disk.let.set()
    assert saver.settle(TIMEOUT_S)
    assert newest_step(tmp_path) == 4
    assert len(CheckpointFolder(tmp_path, {}).numbers()) == 2  # 2 and 3 gave way
    assert saver.news() == []


def test_a_full_disk_is_said_once_and_so_is_its_end(tmp_path: Path) -> None:
    disk = FullDisk(full=False)
    saver = saver_at(tmp_path, disk)
    said = []
    for step, full in enumerate((False, True, True, True, False, False), start=1):
        disk.full = full
        saver.save(checkpoint(step))
        assert saver.settle(TIMEOUT_S)
        said.append(saver.news())
        if full:
            assert sorted(file.name for file in tmp_path.iterdir()) == ["1-1.json", "1-1.safetensors"]
            assert newest_step(tmp_path) == 1
    file = tmp_path / "1-2.safetensors"
    problem = f"no checkpoint could be written: {file}: No space left on device; the one before it stays"
    assert said == [[], [problem], [], [], ["checkpoints can be written again"], []]
    assert newest_step(tmp_path) == 6
    assert not list(tmp_path.glob("*.partial"))
    assert saver.problem == ""


def test_the_first_one_that_fails_says_that_there_is_none(tmp_path: Path) -> None:
    saver = saver_at(tmp_path, FullDisk())
    (tmp_path / "0-4.safetensors.partial").write_bytes(b"of a process that was killed")
    (tmp_path / "2-1.safetensors.partial").write_bytes(b"of a newer process")
    saver.save(checkpoint(1))
    assert saver.settle(TIMEOUT_S)
    problem = f"{tmp_path / '1-1.safetensors'}: No space left on device; there is none yet"
    assert saver.problem == problem
    assert saver.news() == [f"no checkpoint could be written: {problem}"]
    assert [file.name for file in tmp_path.iterdir()] == ["2-1.safetensors.partial"]


def test_a_copy_that_could_not_be_taken_is_said_once(tmp_path: Path) -> None:
    saver = saver_at(tmp_path, Disk())
    for _ in range(2):
        saver.failed(TypeError("optimizer.state.0.seen is of type Wrapped"))
    assert saver.news() == [
        "no checkpoint could be written: TypeError: optimizer.state.0.seen is of type Wrapped; there is none yet"
    ]
    saver.save(checkpoint(1))
    assert saver.settle(TIMEOUT_S)
    assert saver.news() == ["checkpoints can be written again"]


def test_a_state_that_is_no_json_is_a_problem_in_words_and_no_crash(tmp_path: Path) -> None:
    saver = saver_at(tmp_path, Disk())
    odd = checkpoint(1)
    odd.memory["odd"] = object()  # type: ignore[assignment]
    saver.save(odd)
    assert saver.settle(TIMEOUT_S)
    assert "not JSON serializable" in saver.news()[0]
    saver.save(checkpoint(2))
    assert saver.settle(TIMEOUT_S)
    assert newest_step(tmp_path) == 2

"""Events on disk: every one at once, and no more of them than two files of a bounded size hold."""

from __future__ import annotations

import contextlib
import errno
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossipdistill.durable import Disk
from gossipdistill.events import Event, EventKind
from gossipdistill.observe.recorder import FILE, OLDER_FILE, Recorder
from gossipdistill.observe.story import read_events
from gossipdistill.observe.told import Told


def steps(file: Path) -> list[int]:
    return [int(json.loads(line)["reason"]) for line in file.read_text().splitlines()]


def record(folder: Path, numbers: range, bytes_max: int) -> list[Told]:
    said: list[Told] = []
    with Recorder(folder, said.append, 0.0, bytes_max) as recorder:
        for number in numbers:
            recorder.record(Event(EventKind.WARNING, float(number), "", f"{number:03d}"))
    return said


def test_the_newest_events_stay_within_two_files_over_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "ada"
    said = record(folder, range(40), bytes_max=1000)
    said += record(folder, range(40, 100), bytes_max=1000)  # a process that was started again
    assert len(said) == 100
    assert sorted(file.name for file in folder.iterdir()) == [OLDER_FILE, FILE]
    assert all((folder / name).stat().st_size <= 1000 for name in (FILE, OLDER_FILE))
    kept = [*steps(folder / OLDER_FILE), *steps(folder / FILE)]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 1000 // 70  # of lines of about 70 bytes


def test_a_story_is_told_from_both_files(tmp_path: Path) -> None:
    record(tmp_path / "ada", range(20), bytes_max=1000)
    events, names, _ = read_events(tmp_path)
    assert names == ["ada"]
    assert [int(one.reason) for one in events] == list(range(int(events[0].reason), 20))
    assert len(events) > len(steps(tmp_path / "ada" / FILE))


def test_few_events_lie_in_one_file(tmp_path: Path) -> None:
    record(tmp_path, range(5), bytes_max=1000)
    assert steps(tmp_path / FILE) == [0, 1, 2, 3, 4]
    assert not (tmp_path / OLDER_FILE).exists()


@dataclass
class FullDisk(Disk):
    """Takes no more bytes than these of each call while it is full."""

    room: int | None = None

    def append(self, file: Path, data: bytes) -> None:
        if self.room is None:
            super().append(file, data)
            return
        super().append(file, data[: self.room])
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_loses_events_and_nothing_else_which_is_said_once_and_counted(tmp_path: Path) -> None:
    disk, said = FullDisk(), list[Told]()
    with Recorder(tmp_path, said.append, 0.0, disk=disk) as recorder:
        for number in range(6):
            disk.room = 20 if number in (2, 3) else None
            recorder.record(Event(EventKind.WARNING, float(number), "", f"{number}"))
        problem = f"{tmp_path / FILE}: No space left on device (2 events missing)"
        assert recorder.problem == problem
    assert [record.line for record in said if "cannot be written" in record.line] == [
        f"warning: events cannot be written: {tmp_path / FILE}: No space left on device"
    ]
    assert len(said) == 7
    whole = []
    for line in (tmp_path / FILE).read_text().splitlines():
        with contextlib.suppress(ValueError):
            whole.append(json.loads(line)["reason"])
    assert whole == ["0", "1", "4", "5", f"events are missing: {problem}"]


def test_before_it_is_needed_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(IsADirectoryError):
        Recorder(tmp_path, lambda record: None, 0.0).prepare()

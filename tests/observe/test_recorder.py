"""Events on disk: every one at once, and no more of them than two files of a bounded size hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gossipdistill.events import Event, EventKind
from gossipdistill.observe.recorder import FILE, OLDER_FILE, Recorder
from gossipdistill.observe.story import read_events


def steps(file: Path) -> list[int]:
    return [int(json.loads(line)["reason"]) for line in file.read_text().splitlines()]


def record(folder: Path, numbers: range, bytes_max: int) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
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

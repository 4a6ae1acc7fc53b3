"""The number of a start is above those of all earlier starts, even when the note of them is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossipdistill.runtime.start_count import StartCount

FAR_AHEAD = 10**16
"""A boot that no wall clock reaches: whoever wrote it had a clock that was wrong."""


def test_starts_are_counted_and_boots_rise_whatever_the_clock_says(tmp_path: Path) -> None:
    (tmp_path / "boots.json").write_text(json.dumps({"count": 3, "boot": FAR_AHEAD}))
    assert StartCount.next(tmp_path, fresh=False) == StartCount(4, FAR_AHEAD + 1)
    assert StartCount.next(tmp_path, fresh=True) == StartCount(1, FAR_AHEAD + 2)
    assert [file.name for file in tmp_path.iterdir()] == ["boots.json"]


BAD_NOTES = [
    "",
    '{"count": 3, "bo',
    "[]",
    '{"count": 3}',
    '{"count": "3", "boot": 4}',
    '{"count": 3, "boot": NaN}',
    "[" * 10**5,
    '{"count": 3, "boot": 1' + "0" * 5000 + "}",
    '{"count": 3, "boot": 9223372036854775807}',
    '{"count": -1, "boot": 4}',
]


@pytest.mark.parametrize("note", BAD_NOTES, ids=[note[:20] for note in BAD_NOTES])
def test_a_lost_note_is_made_up_for_by_the_checkpoints(tmp_path: Path, note: str) -> None:
    (tmp_path / "boots.json").write_text(note)
    made = StartCount.next(tmp_path, fresh=False, highest_known=FAR_AHEAD)
    assert made == StartCount(1, FAR_AHEAD + 1)
    assert made.problem.startswith(f"{tmp_path}/boots.json is damaged: ")
    assert made.problem.endswith("; starts are counted from 1 again")
    assert StartCount.next(tmp_path, fresh=False) == StartCount(2, FAR_AHEAD + 2)

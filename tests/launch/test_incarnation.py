"""The number of a start is above those of all earlier starts, even when the note of them is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossipdistill.launch.incarnation import Incarnation

FAR_AHEAD = 10**16
"""A boot that no wall clock reaches: whoever wrote it had a clock that was wrong."""


def test_starts_are_counted_and_boots_rise_whatever_the_clock_says(tmp_path: Path) -> None:
    (tmp_path / "boots.json").write_text(json.dumps({"count": 3, "boot": FAR_AHEAD}))
    assert Incarnation.next(tmp_path, fresh=False) == Incarnation(4, FAR_AHEAD + 1)
    assert Incarnation.next(tmp_path, fresh=True) == Incarnation(1, FAR_AHEAD + 2)
    assert [file.name for file in tmp_path.iterdir()] == ["boots.json"]


@pytest.mark.parametrize("note", ["", '{"count": 3, "bo', "[]", '{"count": 3}'])
def test_a_lost_note_is_made_up_for_by_the_checkpoints(tmp_path: Path, note: str) -> None:
    (tmp_path / "boots.json").write_text(note)
    assert Incarnation.next(tmp_path, fresh=False, highest_known=FAR_AHEAD) == Incarnation(1, FAR_AHEAD + 1)
    assert Incarnation.next(tmp_path, fresh=False) == Incarnation(2, FAR_AHEAD + 2)

"""A peer that is started elsewhere under the same key while its former process runs: that one ends, with its work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from commands import Command, free_pairs, write_roster


def test_with_its_own_key_a_newer_process_ends_the_older_which_keeps_its_work(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    ports = free_pairs(3)
    write_roster(tmp_path / "lab.toml", ["ada", "bo"], ports[:2])
    assert start("keys", "new", "--peers", "lab.toml").end() == 0
    options = ("--peers", "lab.toml", "--secure", "--seconds", "600", "--set", "train.step_time_s=0.02")
    older = start("worker", "--name", "ada", *options)
    bo = start("worker", "--name", "bo", *options)
    older.expect("exchanges, 2 of 2 peers")
    elsewhere = f"127.0.0.1:{ports[2]}"
    newer = start(
        "worker", "--name", "ada", *options, "--listen", elsewhere, "--advertise", elsewhere, "--out", "elsewhere"
    )
    assert older.end() == 7, older.err
    older.expect("superseded: a newer process of ada was heard by ada", 0)
    assert "Traceback" not in older.err
    folder = tmp_path / "runs" / "first-light" / "ada"
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "left"
    assert result["steps"] > 0
    notes = [json.loads(file.read_text())["note"] for file in (folder / "checkpoints").glob("*.json")]
    assert max(note["content"]["progress"]["step"] for note in notes) == result["steps"]
    assert newer.process.poll() is bo.process.poll() is None

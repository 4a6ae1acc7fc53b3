"""A run's events retold, from a simulated run that leaves the same files as a real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gossipdistill.errors import ConfigError
from gossipdistill.observe.story import tell


def write(run: Path, name: str, *entries: tuple[float, str, str, str, dict[str, object]]) -> None:
    (run / name).mkdir(parents=True)
    keys = ("at_s", "kind", "peer", "reason", "detail")
    lines = [json.dumps(dict(zip(keys, entry, strict=True))) for entry in entries]
    (run / name / "events.jsonl").write_text("\n".join(lines) + '\n{"at_s": 9', encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    parcel = {"topic": "push_sum", "number": 17, "to_boot": 5, "weight": 0.25}
    write(
        tmp_path,
        "ada",
        (1.0, "joined", "bo", "2 of 3 peers here", {}),
        (4.0, "suspect", "bo", "silent for 1.2 s", {}),
        (6.0, "dead", "bo", "silent for 3.2 s, and has refuted nothing", {}),
        (6.0, "parked", "bo", "push_sum 17 of weight 0.25 waits for it", parcel),
        (9.0, "returned", "bo", "restarted, 3 of 3 peers here", {}),
        (9.0, "written_off", "bo", "it ended with the process it was sent to", parcel),
    )
    write(tmp_path, "bo", (0.0, "started", "", "training at step 0", {}))
    write(
        tmp_path,
        "cy",
        (1.0, "joined", "bo", "2 of 3 peers here", {}),
        (6.5, "dead", "bo", "silent for 3.7 s, and has refuted nothing", {}),
        (7.0, "joined", "ada", "2 of 3 peers here", {}),
    )
    return tmp_path


def test_the_story_of_a_peer_is_told_in_order_and_ends_with_what_is_thought_of_it(run: Path) -> None:
    lines = tell(run, "bo")
    assert lines[0].startswith("bo: 9 events")
    assert [line.split(" s  ")[1].split(":")[0] for line in lines[1:-1]] == [
        "bo started",
        "ada hears bo for the first time",
        "ada suspects bo",
        "ada holds bo dead",
        "ada keeps a parcel for bo",
        "ada has bo back",
        "ada writes off a parcel for bo",
    ]
    assert "and cy, by 6.50 s" in lines[4]
    assert lines[-1] == "in the end bo is dead to cy; there to ada"


def test_the_story_of_a_parcel_says_what_became_of_it(run: Path) -> None:
    lines = tell(run, "ada/push_sum/17")
    assert any("keeps a parcel" in line for line in lines)
    assert any("holds bo dead" in line for line in lines)
    assert lines[-1] == "in the end it is lost with the process it went to"


def test_a_parcel_without_events_has_arrived(run: Path) -> None:
    (line,) = tell(run, "ada/push_sum/3")
    assert "nothing was written about it" in line
    assert "17" in line


def test_nobody_wrote_anything_about_a_quiet_peer(run: Path) -> None:
    assert tell(run, "cy")[-1] == "no peer reported a problem with cy"


@pytest.mark.parametrize("what", ["boo", "adda/push_sum/17"])
def test_an_unknown_peer_is_refused_with_the_nearest_names(run: Path, what: str) -> None:
    with pytest.raises(ConfigError, match=r"no peer .* has written events"):
        tell(run, what)


def test_a_folder_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no events\.jsonl"):
        tell(tmp_path, "ada")

"""5. Each command of the folders' README files works as it is written, up to the moment at which processes start."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from gossipdistill.cli import main
from gossipdistill.cli.scaffold import TWO_DESKS, UNLIKE_4, write_examples
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.launchers.preflight import check
from gossipdistill.topology import list_topologies

REPOSITORY = Path(__file__).parent.parent.parent
FOLDERS = ("topologies", "peers", "faults")


def commands(folder: str) -> list[str]:
    """The lines of code that are a command, without their comments."""
    text = (REPOSITORY / folder / "README.md").read_text()
    return [line.partition("#")[0].strip() for line in re.findall(r"^(?:    |\t)(gossipdistill .*)$", text, flags=re.M)]


EVERY = [(folder, line) for folder in FOLDERS for line in commands(folder)]


WOULD_START = 77
"""The exit code where all is planned and checked, and processes would start."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader of those files has written beside them; and nothing is started."""
    write_examples(tmp_path)
    for name, text in {"my/desks.toml": TWO_DESKS, "rosters/lab.toml": UNLIKE_4, "lab.toml": UNLIKE_4}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans/mine.toml").write_text((tmp_path / "bad-day.toml").read_text())

    def start(*anything: object) -> None:
        raise SystemExit(WOULD_START)

    for where in ("launchers.local.LocalRun.run", "runtime.alone.run_alone"):
        monkeypatch.setattr(f"gossipdistill.{where}", start)
    monkeypatch.setattr("gossipdistill.config.plan.refuse_unusable", lambda *anything: None)  # ports that others have
    return tmp_path


def test_commands_are_found_in_each_file() -> None:
    assert {folder for folder, _ in EVERY} == set(FOLDERS)
    assert len(EVERY) >= 12


@pytest.mark.parametrize(("folder", "line"), EVERY, ids=[line for _, line in EVERY])
def test_a_command_works_as_it_is_written(
    folder: str, line: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(line)
    assert program == "gossipdistill"
    monkeypatch.setattr(sys, "argv", ["gossipdistill", *arguments])
    try:
        main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    told = capsys.readouterr()
    assert code == (WOULD_START if arguments[0] in ("run", "worker") else 0), told.err
    assert told.err if code else told.out


NAMED = {"two-desks", "phases-example"}
"""They name four peers."""
SIZES = [
    (name, peers)
    for name, _ in list_topologies()
    for peers in ("4", *(() if name in NAMED else ("8",)), *(() if name in NAMED | {"random_regular"} else ("9",)))
]
"""9 peers with 3 random neighbours each would be 27 ends of links, which is odd."""


@pytest.mark.parametrize(("name", "peers"), SIZES)
def test_every_ready_made_topology_runs_with_as_many_peers_as_it_is_for(name: str, peers: str, tmp_path: Path) -> None:
    found = check(plan_local(Asked(topology=name, peers=peers, out=tmp_path)))
    assert found.examples.used == {"4": 100, "8": 100, "9": 88}[peers]

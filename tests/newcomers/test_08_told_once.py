"""8. What is advised exists, and what several peers say alike is told once."""

from __future__ import annotations

import ast
import io
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command

import gossipdistill
from gossipdistill.cli.entry import app
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import ConfigError
from gossipdistill.launchers.local import LocalRun, WorkerError
from gossipdistill.launchers.own_faults import worker_under_plan
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.display import Display
from gossipdistill.observe.notices import AGAIN_AFTER_S, HOLD_S, Notices, merged
from gossipdistill.observe.told import Failure, Progress, Told
from gossipdistill.observe.told import decoded as told
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.worker_process import WorkerProcess

ROOMS = [
    "assembly",
    "cli",
    "config",
    "doctor",
    "keys",
    "launchers",
    "machine",
    "observe",
    "runtime",
    "simulation",
    "tasks",
]
"""Of the package: these write what a user reads."""


@pytest.mark.parametrize(("by_run", "advice"), [(True, "anew without --resume"), (False, "anew with --fresh")])
def test_what_is_advised_when_no_checkpoint_can_be_used_exists(by_run: bool, advice: str, tmp_path: Path) -> None:
    spec = replace(plan_local(Asked(peers="2", out=tmp_path))[0], resume=True, released_by_launcher=by_run)
    torn = spec.folder / "checkpoints"
    torn.mkdir(parents=True)
    (torn / "1796062757184-1.json").write_text("{")
    (torn / "1796062757184-1.safetensors").write_bytes(b"junk")
    with pytest.raises(ConfigError, match=advice):
        WorkerProcess(spec, lambda record: None, StopRequest(), Release()).run()


def test_every_option_that_a_message_names_is_one_of_some_command() -> None:
    known = {name for command in commands(get_command(app)) for option in command.params for name in option.opts}
    named: dict[str, set[str]] = {}
    package = Path(gossipdistill.__file__).parent
    for file in (one for room in ROOMS for one in (package / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value):
                    named.setdefault(option, set()).add(file.name)
    assert len(named) > 15
    assert {option: files for option, files in named.items() if option not in known | {"--help", "--cpus"}} == {}


def commands(root: Any) -> list[Any]:
    inner = getattr(root, "commands", {}).values()
    return [root, *(command for one in inner for command in commands(one))]


def test_a_reason_that_ends_a_run_before_it_begins_is_told_once(tmp_path: Path) -> None:
    heard: list[Told] = []
    specs = plan_local(Asked(peers="2", out=tmp_path))
    run = LocalRun(specs, tmp_path, lambda name, record: heard.append(record))
    ended = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    ended.wait()
    children = run.processes.children
    children |= {spec.name: Child(spec, ended) for spec in specs}
    for child in children.values():
        run.processes.tell(child, Failure("no such key", 3))
    run.processes.tell(children["ada"], None)
    run.turn()
    run.turn()
    with pytest.raises(WorkerError, match="no such key") as raised:
        run.turn()
    assert raised.value.exit_code == 3
    assert heard == []
    assert ended.stdin is not None
    ended.stdin.close()


def test_what_several_peers_say_alike_is_told_once() -> None:
    notices = Notices()
    notices.add(0.0, 3.0, "ada", "resumed")
    notices.add(0.1, 3.1, "bo", "resumed")
    notices.add(0.1, 3.1, "ada", "warning")
    assert notices.due(HOLD_S / 2) == []
    assert notices.due(HOLD_S + 0.1) == [(3.0, ("ada", "bo"), "resumed"), (3.1, ("ada",), "warning")]
    notices.add(1.0, 4.0, "cy", "resumed")
    assert notices.due(math.inf) == []
    notices.add(1.0, 4.0, "ada", "resumed")  # it happened to ada again
    assert [notice.names for notice in notices.due(math.inf)] == [("ada",)]
    later = Notices()
    later.add(0.0, 0.0, "ada", "lost bo")
    assert len(later.due(1.0)) == 1
    later.add(1.1 + AGAIN_AFTER_S, 9.0, "bo", "lost bo")
    assert len(later.due(math.inf)) == 1


def test_warnings_that_are_alike_are_one_line_of_the_table() -> None:
    said = [("ada", "x"), ("bo", "x"), ("cy", "x"), ("cy", "y")]
    assert merged(said, 3) == ["all 3 peers: x", "cy: y"]
    assert merged(said, 4) == ["ada, bo, cy: x", "cy: y"]
    assert merged([("ada", "x"), ("ada", "x")], 1) == ["ada: x"]


def test_a_reason_that_ends_several_peers_is_one_line_of_the_display() -> None:
    out = io.StringIO()
    with Display(Console(file=out, width=200), "title") as display:
        for name in ("ada", "bo"):
            display(name, told({"type": "error", "message": "training failed at step 3"}))
            display(name, told({"type": "event", "kind": "warning", "at_s": 1.0, "line": "the disk is full"}))
    shown = out.getvalue()
    assert shown.count("training failed") == shown.count("the disk is full") == 1
    assert "ada, bo: training failed at step 3" in shown
    assert "1.00 s  ada, bo | the disk is full" in shown


def test_a_worker_under_a_plan_says_once_why_it_ends(tmp_path: Path) -> None:
    heard: list[Told] = []
    spec = plan_local(Asked(peers="2", out=tmp_path))[0]
    worker = worker_under_plan(spec, lambda name, record: heard.append(record))
    worker.watch("ada", Progress(step=3))
    worker.watch("ada", Failure("training failed"))
    assert heard == [Progress(step=3)]

"""A run of a task of the user's own in a folder that is not clean: names of other modules, another folder, exits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command

Start = Callable[..., Command]

NAMES = ("random", "types", "json", "logging", "queue", "tokenize", "torch", "numpy", "zmq", "gossipdistill")
TASK = """\
import os
import random
import tempfile

import torch
from torch import nn

import helper
from gossipdistill import Task


class Net(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += self.training
        if self.calls > helper.calls_max(HOW):
            raise ValueError("had enough")
        return super().forward(x)


def task(shard, how: str = "fine"):
    global HOW
    HOW = how
    assert random.random() < 1
    os.chdir(tempfile.gettempdir())
    import late_helper
    print("said by the task")
    x, y = torch.randn(80, 4), torch.arange(80) % 3
    return Task(lambda: Net(4, 3), (x[:40], y[:40]), (x[40:], y[40:]), nn.functional.cross_entropy)
"""


@pytest.fixture
def folder_of(start: Start) -> Start:
    def begin(*args: str) -> Command:
        # As the installed command does, and unlike `python -m`, which lets Python itself find the user's files.
        return start(*args, env={"PYTHONSAFEPATH": "1"})

    return begin


def test_a_folder_full_of_names_and_a_change_of_folder_hurt_nobody(folder_of: Start, tmp_path: Path) -> None:
    folder = _filled(tmp_path)
    command = folder_of(
        "run", "--task", "mine:task", "--strategy", "isolated", "--peers", "2", "--steps", "5", "--format", "json"
    )
    assert command.end() == 0, command.err
    assert command.json()["exit_code"] == 0
    assert (folder / "runs/first-light/summary.json").exists()
    assert "said by the task" in (folder / "runs/first-light/bo/stderr.log").read_text()


@pytest.mark.parametrize(("how", "code", "step"), [("at_once", 3, 0), ("later", 11, 2)])
def test_a_run_in_which_all_fail_says_where(folder_of: Start, tmp_path: Path, how: str, code: int, step: int) -> None:
    folder = _filled(tmp_path)
    command = folder_of(
        "run",
        "--task",
        "mine:task",
        "--strategy",
        "isolated",
        "--peers",
        "2",
        "--steps",
        "5",
        "--set",
        f"task.how={how}",
        "--format",
        "json",
    )
    assert command.end() == code, command.err
    line = TASK[: TASK.index("raise ValueError")].count("\n") + 1
    said = f"training failed at step {step}: ValueError: had enough ({folder}/mine.py:{line}), in Task.model"
    for peer in command.json()["peers"]:
        assert peer["status"] == "failed"
        assert peer["warnings"] == [f"{said}; the full report is in runs/first-light/{peer['name']}/stderr.log"]
        assert "had enough" in (folder / f"runs/first-light/{peer['name']}/stderr.log").read_text()


def _filled(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "mine.py").write_text(TASK)
    (tmp_path / "late_helper.py").write_text("")
    (tmp_path / "helper.py").write_text("def calls_max(how): return {'at_once': 0, 'later': 2}.get(how, 1000)\n")
    return tmp_path

"""A user's mistakes as `gossipdistill worker` and `simulate` tell them, in this process: exit code, step, file, line,
reason, and where the whole report lies. What the user's code changes of the process changes nothing."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from gossipdistill.user_code import TorchSettings
from tests.command_line import Outcome, called

TASK = """\
import os
import signal
import sys

import torch
from torch import nn

from gossipdistill import Task


class Odd(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.calls, self.inner = how, 0, nn.Linear(4, 3)

    def forward(self, x):
        if self.training:
            self.calls += 1
            if self.how == "forward" and self.calls > 3:
                raise ArithmeticError("fourth call")  # line: forward
            if self.how == "exits" and self.calls > 3:
                sys.exit("enough")  # line: exits
            if self.how == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")  # line: memory
        return self.inner(x) if self.how != "backward" else Cut.apply(self.inner(x))


class Detached(nn.Module):
    def forward(self, x):
        return x.detach()


class Cut(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        raise LookupError("no way back")  # line: backward


class Wilful(torch.optim.SGD):
    def step(self, closure=None):
        raise ValueError("will not step")  # line: optimizer


class Loss:
    calls = 0

    def __call__(self, out, y):
        if torch.is_grad_enabled():
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("third loss")  # line: loss
        return nn.functional.cross_entropy(out, y)


def metric(out, y):
    if len(y) > 2:
        raise RuntimeError(f"{metric.calls}")
    return 0.5


class Late:
    calls = 0

    def __call__(self, out, y):
        self.calls += 1
        if self.calls > 1:
            raise ZeroDivisionError("at the end")  # line: metric
        return 0.5


def build(how):
    if how == "constructor":
        raise TypeError("too narrow")  # line: constructor
    if how == "no_module":
        return 7
    if how == "detached":
        return nn.Sequential(nn.Linear(4, 3), Detached())
    if how == "batchnorm":
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    return Odd(how)


def task(shard, how: str = "fine"):
    print("said by the task")
    os.system("echo said by a child of it")
    if how == "factory":
        raise StopIteration  # line: factory
    if how == "quits":
        sys.exit(0)  # line: quits
    if how == "changes":
        os.chdir("/")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        sys.stdout = sys.stderr
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.arange(60) % 3
    if how == "label":
        y[5] = -1
    return Task(
        model=lambda: build(how), train=(x[:40], y[:40]), validation=(x[40:], y[40:]), transfer=x[40:].clone(),
        loss=Loss() if how == "loss" else nn.functional.cross_entropy,
        metrics={"luck": Late()} if how == "metric" else {},
    )  # line: task
"""
Say = Callable[..., Outcome]
WORKER = ("worker", "--name", "ada", "--shard", "1/1", "--task", "odd:task", "--strategy", "isolated", "--fresh")


def line_of(mark: str) -> int:
    lines = [number for number, text in enumerate(TASK.splitlines(), 1) if text.endswith(f"# line: {mark}")]
    if mark == "task":  # the call begins a few lines above its end
        return next(number for number, text in enumerate(TASK.splitlines(), 1) if text.startswith("    return Task("))
    return lines[0]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Say]:
    """Runs `gossipdistill ARGS...` in this process, in a folder with the task: (exit code, output, errors)."""
    (tmp_path / "odd.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for key in ("SET", "PEERS", "NAME", "OUT", "DATA", "LISTEN"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    }
    threads = torch.get_num_threads()

    def run(*args: str) -> Outcome:
        return called(monkeypatch, capfd, *args)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    TorchSettings.forget()
    sys.modules.pop("odd", None)


LOG = r"; the full report is in runs/first-light/ada/stderr.log"
MISTAKES = [
    ("factory", (), 3, "task.name = 'odd:task': failed: StopIteration (FILE:factory)"),
    ("quits", (), 3, "task.name = 'odd:task': failed: SystemExit: 0 (FILE:quits)"),
    ("constructor", (), 3, "Task.model: failed: TypeError: too narrow (FILE:constructor)"),
    ("no_module", (), 3, "Task.model: must return a torch.nn.Module, returned a int"),
    ("label", (), 3, "label -1 at row 5 of this peer's training data is refused by Task.loss; accepted: 0 to 2: "),
    ("detached", (), 3, "training failed at step 0: RuntimeError: element 0 of tensors does not require grad"),
    ("batchnorm", ("--set", "train.batch_size=1"), 3, "train.batch_size = 1, accepted: 2 or more"),
    (
        "memory",
        (),
        3,
        "training failed at step 0: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB "
        "(FILE:memory), in Task.model: train.batch_size = 8; a smaller one needs less memory",
    ),
    ("backward", (), 3, "training failed at step 0: LookupError: no way back (FILE:backward), in Task.model"),
    (
        "fine",
        ("--set", "train.optimizer=odd:Wilful"),
        3,
        "training failed at step 0: ValueError: will not step (FILE:optimizer), in train.optimizer: train.optimizer = ",
    ),
    ("loss", (), 11, ": RuntimeError: third loss (FILE:loss), in Task.loss"),
    ("forward", (), 11, "training failed at step 3: ArithmeticError: fourth call (FILE:forward), in Task.model"),
    ("exits", (), 11, "training failed at step 3: SystemExit: enough (FILE:exits), in Task.model"),
    ("metric", (), 11, ": ZeroDivisionError: at the end (FILE:metric), in Task.metrics['luck']"),
]


@pytest.mark.parametrize(("how", "more", "code", "message"), MISTAKES, ids=[f"{m[0]}{len(m[1])}" for m in MISTAKES])
def test_a_worker_tells_the_users_mistake(
    say: Say, tmp_path: Path, how: str, more: tuple[str, ...], code: int, message: str
) -> None:
    ended = say(
        *WORKER,
        "--steps",
        "5",
        "--set",
        f"task.how={how}",
        "--set",
        "linger_s=0",
        "--set",
        "train.batch_size=8",
        "--set",
        "train.step_time_s=0",
        *more,
    )
    said = ended[2].splitlines()[-1]
    for mark in (
        "factory",
        "quits",
        "constructor",
        "memory",
        "backward",
        "optimizer",
        "loss",
        "forward",
        "exits",
        "metric",
    ):
        message = message.replace(f"FILE:{mark})", f"{tmp_path / 'odd.py'}:{line_of(mark)})")
    assert ended[0] == code, said
    assert message in said
    assert "a fault of ours" not in said
    assert ended[1] == ""
    if how not in ("no_module",):
        assert said.endswith(LOG)
        report = (tmp_path / "runs/first-light/ada/stderr.log").read_text()
        assert report.startswith("Traceback")
        assert "odd.py" in report or how in ("detached", "batchnorm", "label")
    if how in ("detached", "batchnorm", "label"):  # no frame is the user's: where the task is made
        assert f"({tmp_path / 'odd.py'}:{line_of('task')})" in said


@pytest.mark.parametrize(("how", "code", "step"), [("forward", 11, 3), ("backward", 3, 0)])
def test_a_simulation_tells_the_peer_as_well(say: Say, how: str, code: int, step: int) -> None:
    ended = say(
        "simulate",
        "--task",
        "odd:task",
        "--strategy",
        "isolated",
        "--peers",
        "2",
        "--virtual-seconds",
        "2",
        "--set",
        f"task.how={how}",
        "--set",
        "task.shards=same",
    )
    said = ended[2].splitlines()[-1]
    assert ended[:2] == (code, "")
    assert f"training failed at step {step}: " in said
    assert re.search(r", at peer (ada|bo); the full report is in /", said)
    assert "odd.py" in Path(said.rpartition(" ")[2]).read_text()


def test_what_a_task_changes_of_the_process_changes_nothing(say: Say, tmp_path: Path) -> None:
    out, here = sys.stdout, Path.cwd()
    code, said, err = say(
        *WORKER, "--steps", "5", "--set", "task.how=changes", "--set", "linger_s=0", "--format", "json"
    )
    assert code == 0, err
    summary = json.loads(said)  # one object and nothing else, although the task and a child of it have printed
    assert "said by a child of it" in err
    assert (tmp_path / "runs/first-light/ada/result.json").exists()
    assert (Path.cwd(), sys.stdout) == (here, out)
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    text = "handlers of SIGINT, SIGUSR1 were replaced, by the task or what it imports; ours are set again"
    assert [warning for warning in summary["peers"][0]["warnings"] if "SIG" in warning] == [text]
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

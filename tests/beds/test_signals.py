"""Signals to real workers and to a run: who asks, what is saved first, which exit code, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import START_S, Command, assert_gone, free_pairs, is_alive, state_of, until, write_roster
from memory_group import MemoryGroup

from gossipdistill.errors import EXIT_LOST

pytestmark = pytest.mark.bed

MINUTES = 4
MIB = 1 << 20
#: Takes memory until the kernel ends a process: slowly, so that the room of the first to go is enough for the others.
HOG = "import time\nheld = []\nwhile True: held.append(b'x' * (2 << 20)); time.sleep(0.02)"

Started = Callable[..., Command]
POLITE = {signal.SIGTERM: "left", signal.SIGHUP: "left", signal.SIGINT: "interrupted"}


class Pair:
    """Two workers, ada and bo, by their lines, on this machine."""

    def __init__(self, folder: Path, started: Started) -> None:
        self.folder, self._started = folder, started
        write_roster(folder / "two.toml", ["ada", "bo"], free_pairs(2))
        self.workers = {name: self.start(name) for name in ("ada", "bo")}
        for name in self.workers:
            self.await_event(name, "joined")

    def start(self, name: str) -> Command:
        return self._started(
            "worker",
            "--name",
            name,
            "--peers",
            "two.toml",
            "--seconds",
            "3600",
            "--start-when",
            "2",
            "--start-within",
            str(START_S),
            "--set",
            "train.checkpoint_every_s=1",
            env={"OMP_NUM_THREADS": "1"},
        )

    def run_folder(self, name: str) -> Path:
        return self.folder / "runs/first-light" / name

    def kinds(self, name: str) -> list[str]:
        file = self.run_folder(name) / "events.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line)["kind"] for line in lines if line.endswith("\n")]

    def await_event(self, name: str, kind: str, times: int = 1) -> None:
        until(lambda: self.kinds(name).count(kind) >= times, START_S, f"{name}: {kind}: {self.workers[name].err}")

    def result(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.run_folder(name) / "result.json").read_text()))

    def checkpoints(self, name: str) -> list[Path]:
        return sorted((self.run_folder(name) / "checkpoints").glob("*.json"))

    def await_checkpoint(self, name: str) -> None:
        until(lambda: bool(self.checkpoints(name)), START_S, f"a checkpoint of {name}")


@pytest.mark.parametrize("number", POLITE, ids=lambda number: number.name)
def test_who_is_asked_to_end_saves_and_says_goodbye(number: signal.Signals, tmp_path: Path, started: Started) -> None:
    pair = Pair(tmp_path, started)
    pair.await_checkpoint("bo")
    bo = pair.workers["bo"].process
    bo.send_signal(number)
    assert pair.workers["bo"].end() == 128 + number, pair.workers["bo"].err
    assert "Traceback" not in pair.workers["bo"].err
    result = pair.result("bo")
    assert result["status"] == POLITE[number]
    pair.await_event("ada", "left")
    assert "dead" not in pair.kinds("ada")

    again = pair.workers["bo"] = pair.start("bo")
    again.expect(rf"resumed: from its checkpoint at step {result['steps']}\b")  # it was written last of all
    for name, command in pair.workers.items():
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == 143, f"{name}: {command.err}"
    assert_gone([bo.pid, *(command.process.pid for command in pair.workers.values())])


def test_nohup_is_respected(tmp_path: Path, started: Started) -> None:
    ports = free_pairs(1)
    alone = started(
        "worker",
        "--name",
        "ada",
        "--shard",
        "1/1",
        "--listen",
        f"127.0.0.1:{ports[0]}",
        "--seconds",
        "3600",
        within=["nohup"],
        env={"OMP_NUM_THREADS": "1"},
    )
    ada = tmp_path / "runs/first-light/ada"
    until(lambda: _trains(ada), START_S, "the start")
    alone.process.send_signal(signal.SIGHUP)
    alone.process.send_signal(signal.SIGUSR1)  # it lives, and saves when asked
    until(lambda: any((ada / "checkpoints").glob("*.json")), START_S, "a checkpoint")
    alone.process.send_signal(signal.SIGTERM)
    assert alone.end() == 143


def test_killed_stopped_and_woken(tmp_path: Path, started: Started) -> None:
    pair = Pair(tmp_path, started)
    bo = pair.workers["bo"].process
    bo.send_signal(signal.SIGSTOP)
    pair.await_event("ada", "dead")
    assert state_of(bo.pid) == "T"
    bo.send_signal(signal.SIGCONT)
    pair.await_event("ada", "returned")

    pair.await_checkpoint("bo")
    bo.send_signal(signal.SIGKILL)
    assert pair.workers["bo"].end() == -signal.SIGKILL
    pair.await_event("ada", "dead", times=2)
    pair.workers["bo"] = pair.start("bo")
    pair.workers["bo"].expect("resumed: from its checkpoint at step")
    pair.await_event("ada", "returned", times=2)
    assert is_alive(pair.workers["ada"].process.pid)


@pytest.mark.parametrize("number", POLITE, ids=lambda number: number.name)
def test_a_run_passes_it_on_and_leaves_no_orphan(number: signal.Signals, tmp_path: Path, started: Started) -> None:
    run = started("run", "--peers", "2", "--seconds", "3600")
    pids = list(run.pids(2).values())
    folder = tmp_path / "runs/first-light"
    for name in ("ada", "bo"):
        until(lambda name=name: _trains(folder / name), START_S, f"the start of {name}")
    os.kill(pids[1], signal.SIGSTOP)  # one that cannot answer is not to be left behind
    run.process.send_signal(number)
    assert run.end() == 128 + number, run.err
    assert_gone(pids)
    assert "Traceback" not in run.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["exit_code"] == 128 + number
    assert summary["peers"][0]["status"] == POLITE[number]
    assert any((folder / "ada/checkpoints").glob("*.json"))


def test_where_memory_runs_out_a_worker_ends_and_not_its_launcher(tmp_path: Path, started: Started) -> None:
    try:
        group = MemoryGroup()
    except OSError as error:
        pytest.skip(f"signals bed: no control group of its own: {error}")
    try:
        run = started("run", "--peers", "2", "--steps", "1000", within=group.within(), env={"OMP_NUM_THREADS": "1"})
        pids = run.pids(2)
        for name in pids:
            until(lambda name=name: _trains(tmp_path / "runs/first-light" / name), START_S, f"the start of {name}")
        group.limit_to(group.used_bytes() + 150 * MIB)  # less than a worker has
        hog = subprocess.Popen([*group.within(), sys.executable, "-c", HOG])
        try:
            ended = run.expect(r"^(ada|bo) .* is gone: killed by SIGKILL, because memory ran out")[1]
        finally:
            hog.kill()
            hog.wait()
        assert run.end() == EXIT_LOST, run.err
        summary = json.loads((tmp_path / "runs/first-light/summary.json").read_text())
        status = {peer["name"]: peer["status"] for peer in summary["peers"]}
        assert status.pop(ended) == "lost"
        assert list(status.values()) == ["finished"]
        assert_gone(list(pids.values()))
    finally:
        group.remove()


def _trains(folder: Path) -> bool:
    events = folder / "events.jsonl"
    return events.exists() and '"started"' in events.read_text()

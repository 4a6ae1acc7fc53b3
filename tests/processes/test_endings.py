"""How a local run ends: well, by a lost worker, by Ctrl-C, by SIGTERM, by the death of its launcher."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import GONE_S, SLACK_S, START_S, Command, assert_gone, free_pairs, is_alive, until, write_roster

Start = Callable[..., Command]
QUICK = ("--set", "train.step_time_s=0.005")


def started(folder: Path, name: str) -> bool:
    """Whether the peer of this name is training."""
    events = folder / "runs" / "first-light" / name / "events.jsonl"
    return events.exists() and '"started"' in events.read_text()


def wait_until_training(command: Command, *names: str) -> None:
    def training() -> bool:
        assert command.process.poll() is None, command.err
        return all(started(command.folder, name) for name in names)

    until(training, START_S, "the start of the training")


def test_a_healthy_run_ends_with_one_json_object_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    names = ["ada", "bo", "cy", "dee"]
    models = ["mlp", "cnn", "mlp", "cnn"]
    write_roster(tmp_path / "unlike.toml", names, free_pairs(4), [f'"task.model" = "{model}"' for model in models])
    command = start("run", "--peers", "unlike.toml", "--steps", "150", *QUICK, "--format", "json")
    assert command.end() == 0, command.err
    summary = command.json()
    assert [peer["status"] for peer in summary["peers"]] == ["finished"] * 4
    assert [peer["steps"] for peer in summary["peers"]] == [150] * 4
    # A wide bound for a loaded machine; on an idle one it is a few tenths of a second.
    assert all(0 <= peer["first_exchange_s"] < 1.0 + SLACK_S for peer in summary["peers"])
    assert all(peer["parcels_used"] > 0 for peer in summary["peers"])
    assert json.loads((tmp_path / "runs/first-light/summary.json").read_text()) == summary
    assert_gone(list(command.pids().values()))
    config = json.loads((tmp_path / "runs/first-light/bo/config.json").read_text())
    assert config["task.model"] == {"value": "cnn", "from": "roster entry of bo"}
    assert config["steps"] == {"value": 150, "from": "command line"}
    assert config["train.lr"] == {"value": 0.05, "from": "default"}
    shown = start("show", "--format", "json")
    assert (shown.end(), shown.json()) == (0, summary)


def test_kill_9_of_a_worker_is_told_and_the_others_finish(start: Start) -> None:
    command = start("run", "--peers", "3", "--seconds", "3", "--format", "json")
    pids = command.pids(3)
    wait_until_training(command, "ada", "bo", "cy")
    os.kill(pids["bo"], signal.SIGKILL)
    assert command.end() == 10, command.err
    assert_gone(list(pids.values()))
    status = {peer["name"]: peer["status"] for peer in command.json()["peers"]}
    assert status == {"ada": "finished", "bo": "lost", "cy": "finished"}
    assert "killed by SIGKILL" in command.err
    assert command.json()["val_accuracy"]["over"] == 2


def test_workers_end_while_their_launcher_is_stopped_and_it_tells_so_afterwards(start: Start, tmp_path: Path) -> None:
    command = start("run", "--peers", "2", "--seconds", "3", "--max-restarts", "1", "--format", "json", *QUICK)
    wait_until_training(command, "ada", "bo")
    command.process.send_signal(signal.SIGSTOP)
    results = [tmp_path / "runs" / "first-light" / name / "result.json" for name in ("ada", "bo")]

    def finished() -> bool:
        return all(file.exists() and json.loads(file.read_text())["status"] == "finished" for file in results)

    until(finished, START_S, "the end of the training")
    command.process.send_signal(signal.SIGCONT)
    assert command.end() == 0, command.err
    assert [peer["incarnations"] for peer in command.json()["peers"]] == [1, 1]


def test_a_worker_that_is_killed_before_the_start_is_not_waited_for(start: Start) -> None:
    command = start("run", "--peers", "2", "--steps", "20", *QUICK)
    os.kill(command.pids(2)["bo"], signal.SIGKILL)
    assert command.end() == 10, command.err
    assert "lost" in command.out


def test_a_lost_worker_is_restarted_and_goes_on_from_its_checkpoint(start: Start) -> None:
    command = start(
        "run",
        "--peers",
        "2",
        "--seconds",
        "4",
        "--max-restarts",
        "1",
        "--format",
        "json",
    )
    pid = command.pids(2)["bo"]
    wait_until_training(command, "ada", "bo")
    bo_folder = command.folder / "runs/first-light/bo"
    until(lambda: any(bo_folder.glob("checkpoints/*.json")), 20, "a checkpoint")  # though one is due every 10 s
    os.kill(pid, signal.SIGKILL)
    # To start a process takes much of four seconds: this is told, and the run is no success.
    assert command.end() == 10, command.err
    ada, bo = command.json()["peers"]
    assert (ada["status"], bo["status"], bo["incarnations"]) == ("finished", "short", 2)
    (warning,) = [line for line in bo["warnings"] if line.startswith("short: ")]
    assert warning.endswith("it was lost and started again once")
    assert '"resumed"' in (bo_folder / "events.jsonl").read_text()


def interrupt(command: Command, number: int) -> dict[str, Any]:
    """Send a signal; everything ends within two seconds. Returns the summary, which is on disk."""
    pids = command.shown_pids()
    began_s = time.monotonic()
    command.process.send_signal(number)
    assert command.end() == 128 + number, command.err
    assert time.monotonic() - began_s < GONE_S + SLACK_S
    assert not any(map(is_alive, pids))
    assert "Traceback" not in command.err
    summary: dict[str, Any] = json.loads((command.folder / "runs/first-light/summary.json").read_text())
    assert summary["exit_code"] == 128 + number
    return summary


def test_sigterm_ends_all_within_two_seconds_also_where_each_has_mass_to_leave(start: Start) -> None:
    command = start("run", "--peers", "2", "--strategy", "sgp", "--seconds", "60")
    wait_until_training(command, "ada", "bo")
    assert [peer["status"] for peer in interrupt(command, signal.SIGTERM)["peers"]] == ["left", "left"]


def test_ctrl_c_while_the_workers_start(start: Start) -> None:
    command = start("run", "--seconds", "60")
    command.pids()
    assert {peer["status"] for peer in interrupt(command, signal.SIGINT)["peers"]} == {"interrupted"}


def test_resume_goes_on_where_ctrl_c_ended_it(start: Start) -> None:
    first = start("run", "--peers", "2", "--steps", "400", "--set", "train.step_time_s=0.02")
    wait_until_training(first, "ada", "bo")
    peers = interrupt(first, signal.SIGINT)["peers"]
    assert [peer["status"] for peer in peers] == ["interrupted", "interrupted"]
    second = start("run", "--peers", "2", "--steps", "400", "--resume", *QUICK, "--format", "json")
    assert second.end() == 0, second.err
    summary = second.json()
    assert (summary["name"], [peer["steps"] for peer in summary["peers"]]) == ("first-light", [400, 400])
    assert [peer["incarnations"] for peer in summary["peers"]] == [2, 2]
    resumed = (first.folder / "runs/first-light/ada/events.jsonl").read_text()
    assert f"from its checkpoint at step {peers[0]['steps']}" in resumed


@pytest.mark.parametrize("moment", ["starting", "training"])
def test_workers_end_when_their_launcher_is_killed(start: Start, moment: str) -> None:
    command = start("run", "--peers", "2", "--seconds", "60")
    pids = list(command.pids(2).values())
    if moment == "training":
        wait_until_training(command, "ada", "bo")
    command.process.kill()
    assert_gone(pids)


def test_all_reduce_ends_cleanly_when_a_peer_is_lost(start: Start) -> None:
    command = start("run", "--peers", "3", "--strategy", "all_reduce", "--seconds", "60", "--format", "json")
    pids = command.pids(3)
    wait_until_training(command, "ada", "bo", "cy")
    os.kill(pids["bo"], signal.SIGKILL)
    assert command.end(75) == 11, command.err
    status = {peer["name"]: peer["status"] for peer in command.json()["peers"]}
    assert status == {"ada": "failed", "bo": "lost", "cy": "failed"}
    assert "all_reduce stopped, as it does when a peer is lost" in command.err
    assert "Traceback" not in command.err
    assert_gone(list(pids.values()))


def test_ctrl_c_ends_workers_that_are_blocked_in_a_collective(start: Start) -> None:
    command = start("run", "--peers", "2", "--strategy", "all_reduce", "--seconds", "60")
    pids = command.pids(2)
    wait_until_training(command, "ada", "bo")
    os.kill(pids["bo"], signal.SIGSTOP)  # the others now wait for it inside of gloo
    interrupt(command, signal.SIGINT)


def test_a_run_that_diverges_says_so(start: Start) -> None:
    command = start(
        "run",
        "--peers",
        "1",
        "--strategy",
        "isolated",
        "--steps",
        "60",
        *QUICK,
        "--set",
        "train.lr=1e12",
        "--set",
        "train.lr_schedule=constant",
        "--format",
        "json",
    )
    assert command.end() == 10, command.err
    (ada,) = command.json()["peers"]
    assert (ada["status"], ada["val_loss"]) == ("diverged", None)
    assert ada["reason"].startswith("parameter 1.weight is not finite; try train.lr below 1e+12")

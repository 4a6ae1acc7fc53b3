"""`run --faults` with real processes: signals are sent, sockets are bent, and what was expected is judged."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

from commands import GONE_S, SLACK_S, Command, assert_gone, state_of, until

from benchmarks.recordings import told
from benchmarks.recordings.recorded import differences_of_run

Start = Callable[..., Command]

PLAN = """
[[fault]]
kind = "drop"
link = ["ada", "dee"]
from_s = 2
probability = 0.5

[[fault]]
kind = "kill"
peer = "bo"
at_s = 2.5
restart_after_s = 0.5

[[fault]]
kind = "kill"
peer = "cy"
at_s = 3

[[fault]]
kind = "pause"
peer = "dee"
from_s = 3
to_s = 4

[[expect]]
metric = "pace_ratio"
at_least = 0.01

[[expect]]
metric = "val_accuracy"
at_least = 1.1
"""


def test_a_plan_kills_restarts_pauses_and_drops_and_an_unmet_expectation_is_exit_code_20(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "plan.toml").write_text(PLAN)
    command = start("run", "--peers", "4", "--seconds", "9", "--faults", "plan.toml", "--format", "json")
    assert command.end() == 20, command.err
    assert_gone(command.shown_pids())
    summary = command.json()
    assert summary["exit_code"] == 20
    status = {peer["name"]: (peer["status"], peer["incarnations"]) for peer in summary["peers"]}
    assert status == {"ada": ("finished", 1), "bo": ("finished", 2), "cy": ("lost", 1), "dee": ("finished", 1)}
    assert summary["peers"][2]["warnings"] == ["killed by SIGKILL, as the fault plan asked"]
    dropped, killed, ended, paused = summary["faults"]
    assert dropped["fired"] > 0
    assert [killed["fired"], ended["fired"], paused["fired"]] == [1, 1, 1]
    assert 4.0 <= paused["ended_s"] < 9.0
    assert [verdict["met"] for verdict in summary["expectations"]] == [True, False]
    assert "NOT MET: val_accuracy of 3 finished peers" in command.err
    assert "bo is killed, and started again 0.5 s later" in command.err
    events = (tmp_path / "runs/first-light/events.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in events]
    assert kinds.count("fault") == len(kinds) >= 6
    resumed = (tmp_path / "runs/first-light/bo/events.jsonl").read_text()
    assert '"resumed"' in resumed
    differences = differences_of_run(tmp_path / "runs/first-light", "run")
    assert not differences, told("run_files", differences)


def test_a_peer_that_the_plan_stops_for_good_is_no_lost_peer(start: Start, tmp_path: Path) -> None:
    (tmp_path / "end.toml").write_text('[[fault]]\nkind = "kill"\npeer = "bo"\nat_s = 0.5\n')
    command = start("run", "--peers", "2", "--seconds", "1.5", "--faults", "end.toml")
    assert command.end() == 0, command.err
    assert "fault 1, 0.5 s to the end: bo is killed (fired 1 x)" in command.out


def test_a_peer_that_the_plan_has_stopped_ends_when_the_launcher_is_killed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "stop.toml").write_text('[[fault]]\nkind = "pause"\npeer = "bo"\nfrom_s = 0.5\nto_s = 50\n')
    command = start("run", "--peers", "2", "--seconds", "60", "--faults", "stop.toml")
    bo = command.pids(2)["bo"]
    command.expect("bo is stopped")
    until(lambda: state_of(bo) == "T", GONE_S, "the stop of bo")
    command.process.kill()
    assert_gone(command.shown_pids())


def test_ctrl_c_reaches_a_peer_that_the_plan_has_stopped(start: Start, tmp_path: Path) -> None:
    (tmp_path / "stop.toml").write_text('[[fault]]\nkind = "pause"\npeer = "bo"\nfrom_s = 0.5\nto_s = 50\n')
    command = start("run", "--peers", "2", "--seconds", "60", "--faults", "stop.toml", "--format", "json")
    command.expect("bo is stopped")
    began_s = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130, command.err
    assert time.monotonic() - began_s < GONE_S + SLACK_S
    assert_gone(command.shown_pids())
    assert {peer["status"] for peer in command.json()["peers"]} == {"interrupted"}

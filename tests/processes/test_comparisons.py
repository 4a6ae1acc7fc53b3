"""`compare` with real processes: the same data and budget for all, and one table whatever happens."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from commands import GONE_S, SLACK_S, START_S, Command, assert_gone, free_pairs, until, write_roster

from benchmarks.recordings import told
from benchmarks.recordings.recorded import differences_of_run

Start = Callable[..., Command]


def wait_for_row(folder: Path, row: str) -> None:
    events = folder / "runs/first-light-compare" / row / "ada/events.jsonl"
    until(lambda: events.exists() and '"started"' in events.read_text(), START_S, f"the start of {row}")


def test_rows_share_data_and_budget(start: Start, tmp_path: Path) -> None:
    models = ['"task.model" = "mlp"', '"task.model" = "cnn"']
    write_roster(tmp_path / "unlike.toml", ["ada", "bo"], free_pairs(2), models)
    command = start(
        "compare",
        "--peers",
        "unlike.toml",
        "--steps",
        "30",
        "--set",
        "train.step_time_s=0.05",
        "--set",
        "strategy.temperature=2",
        "--strategies",
        "codistill_predictions,gossip_averaging,pooled",
    )
    assert command.end() == 0, command.err
    summary = json.loads((tmp_path / "runs/first-light-compare/compare.json").read_text())
    assert [(run["strategy"], run["peers"], run["steps"]) for run in summary["runs"]] == [
        ("codistill_predictions", 2, 30),
        ("gossip_averaging", 2, 30),
        ("pooled", 1, 30),
    ]
    assert [run["models"] for run in summary["runs"]] == [["mlp", "cnn"], ["mlp", "mlp"], ["mlp"]]
    head, *table = command.out.splitlines()
    assert head.startswith(
        "digits, 2 peers: 100 labelled examples each, mostly of 3 classes; 600 unlabelled ones shared"
    )
    assert any("by predictions (1 MLP, 1 CNN)" in line for line in table)
    assert any(line.startswith("Again:") or "Again:" in line for line in table)
    shown = start("show")
    assert shown.end() == 0
    assert shown.out.splitlines()[0] == head
    differences = differences_of_run(tmp_path / "runs/first-light-compare", "compare")
    assert not differences, told("run_files", differences)


def test_a_lost_worker_is_told_in_its_row_and_ctrl_c_keeps_what_there_is(start: Start, tmp_path: Path) -> None:
    command = start(
        "compare", "--peers", "2", "--seconds", "3", "--strategies", "isolated,codistill_predictions,pooled"
    )
    wait_for_row(tmp_path, "isolated-s0")
    os.kill(command.pids(2)["bo"], signal.SIGKILL)
    wait_for_row(tmp_path, "codistill-predictions-s0")
    began_s = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130, command.err
    assert time.monotonic() - began_s < GONE_S + SLACK_S
    assert_gone(command.shown_pids())
    first, second = json.loads((tmp_path / "runs/first-light-compare/compare.json").read_text())["runs"]
    assert (first["exit_code"], first["troubles"]) == (10, ["bo lost (killed by SIGKILL)"])
    assert second["exit_code"] == 130
    assert "alone: bo lost (killed by SIGKILL)" in command.out


def test_a_strategy_runs_again_under_a_plan(start: Start, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        '[[fault]]\nkind = "slow"\npeer = "bo"\nfrom_s = 0.2\nfactor = 50\n'
        '[[expect]]\nmetric = "val_accuracy"\nat_least = 1.1\n'
    )
    command = start(
        "compare",
        "--peers",
        "2",
        "--steps",
        "60",
        "--set",
        "train.step_time_s=0.02",
        "--faults",
        "bad.toml",
        "--strategies",
        "gossip_averaging",
    )
    assert command.end() == 20, command.err
    fair, disturbed = json.loads((tmp_path / "runs/first-light-compare/compare.json").read_text())["runs"]
    assert (fair["faults"], fair["steps"], fair["exit_code"]) == (None, 60, 0)
    assert (disturbed["faults"], disturbed["finished"], disturbed["exit_code"]) == ("bad", 2, 20)
    assert disturbed["steps"] < 60, "the slow peer ends with the time that the fair run took"
    assert "by averaging weights, under bad: NOT MET: val_accuracy of 2 finished peers" in command.out

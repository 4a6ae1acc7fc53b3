"""Checkpoints of real processes: asked for by a signal, left by a kill, damaged by somebody, put aside by --fresh."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from commands import SLACK_S, START_S, Command, until

from gossipdistill.durable import CheckpointFolder, Number, Saved
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.runtime.run_clock import carried_over_s

Start = Callable[..., Command]
STEPS = 600
PADDED = ("--set", "train.step_time_s=0.01", "--set", "train.checkpoint_every_s=0", "--format", "json")
OPTIONS = ("--name", "ada", "--shard", "1/1", "--strategy", "isolated", "--steps", str(STEPS), *PADDED)


def newest(folder: Path) -> tuple[Number, Checkpoint] | None:
    """Of the checkpoints in this folder of a peer."""

    def use(saved: Saved) -> tuple[Number, Checkpoint]:
        return saved.number, Checkpoint.decode(saved.tensors, saved.content)

    return CheckpointFolder(folder / "checkpoints", {"peer": "ada"}).newest(use)[0]


def step_of(folder: Path) -> int:
    found = newest(folder)
    return int(found[1].progress["step"]) if found is not None else 0


def events(folder: Path, kind: str) -> list[str]:
    file = folder / "events.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else iter(())
    return [event["reason"] for event in lines if event["kind"] == kind]


def test_killed_terminated_and_damaged_isolated_training_ends_bit_for_bit_as_if_nothing_had_been(
    start: Start, tmp_path: Path
) -> None:
    straight = start("worker", *OPTIONS, "--set", "name=straight", "--set", "train.step_time_s=0")
    folder = tmp_path / "runs/cut/ada"
    command = start("worker", *OPTIONS, "--set", "name=cut")
    until(lambda: bool(events(folder, "started")), START_S, "the start of the training")
    for _ in range(2):  # it goes on after each
        before = step_of(folder)
        command.process.send_signal(signal.SIGUSR1)
        until(lambda before=before: step_of(folder) > before, 20, "the checkpoint asked for")  # type: ignore[misc]
    asked_for = step_of(folder)
    command.process.kill()
    command.process.wait()

    command = start("worker", *OPTIONS, "--set", "name=cut")
    command.expect(f"resumed: from its checkpoint at step {asked_for}$")
    until(lambda: len(events(folder, "started")) == 2, START_S, "the start of the training")
    command.process.terminate()
    assert command.end() == 143, command.err
    at_the_end = newest(folder)
    assert at_the_end is not None
    result = json.loads((folder / "result.json").read_text())
    assert at_the_end[1].progress["step"] == result["steps"]

    number = at_the_end[0]
    (folder / "checkpoints" / f"{number.boot}-{number.serial}.safetensors").write_bytes(b"torn")
    command = start("worker", *OPTIONS, "--set", "name=cut", "--set", "train.step_time_s=0")
    assert command.end() == 0, command.err
    (refused,) = events(folder, "checkpoint_refused")
    assert f"checkpoint {number.boot}-{number.serial} is refused: it is torn: 4 of " in refused
    command.expect(f"resumed: from its checkpoint at step {asked_for}$", 0)

    assert straight.end() == 0, straight.err
    one, other = newest(tmp_path / "runs/straight/ada"), newest(folder)
    assert one is not None
    assert other is not None
    assert (one[1].progress["step"], other[1].progress["step"]) == (STEPS, STEPS)
    assert set(one[1].tensors) == set(other[1].tensors)
    for name, tensor in one[1].tensors.items():
        assert torch.equal(tensor, other[1].tensors[name]), name


def test_without_a_usable_checkpoint_it_is_an_error_and_fresh_begins_anew(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "runs/first-light/ada"
    options = ("worker", *OPTIONS, "--set", "train.step_time_s=0", "--steps", "20")
    assert start(*options).end() == 0
    command = start(*options, "--set", "task.model=cnn")
    assert command.end() == 3, command.err
    command.expect(
        r"no checkpoint here can be used \(.*it is of another model: .*remove them, or begin anew with --fresh", 0
    )
    command = start(*options, "--set", "task.model=cnn", "--fresh")
    assert command.end() == 0, command.err
    assert step_of(folder) == 20
    assert len(CheckpointFolder(folder / "checkpoints", {}).numbers()) == 1
    assert events(folder, "resumed") == []


def test_a_run_by_seconds_that_was_cut_short_goes_on_for_the_rest_of_them(start: Start, tmp_path: Path) -> None:
    options = ("worker", "--name", "ada", "--shard", "1/1", "--strategy", "isolated", "--seconds", "8", *PADDED)
    folder = tmp_path / "runs/first-light/ada"
    command = start(*options)
    until(lambda: bool(events(folder, "started")), START_S, "the start of the training")
    command.process.send_signal(signal.SIGUSR1)
    until(lambda: step_of(folder) > 0, 7, "the checkpoint asked for")
    command.process.terminate()
    assert command.end() == 143, command.err
    cut = newest(folder)
    assert cut is not None
    over_s = cut[1].progress["elapsed_s"]
    assert 0 < over_s < 8
    command = start(*options)
    assert command.end() == 0, command.err
    wall_s = json.loads((folder / "result.json").read_text())["wall_s"]
    assert 8 - over_s <= wall_s < 8 - over_s + SLACK_S + 0.5
    finished = newest(folder)
    assert finished is not None
    assert carried_over_s(finished[1].progress["elapsed_s"], 8) == 0.0  # started once more, it has all its seconds
    assert carried_over_s(over_s, 8) == over_s
    assert carried_over_s(over_s, None) == 0.0


def test_a_run_asks_all_its_workers_and_none_that_is_still_starting_dies_of_it(start: Start, tmp_path: Path) -> None:
    command = start("run", "--peers", "2", "--seconds", "60", "--set", "train.checkpoint_every_s=0")
    command.pids(2)
    command.process.send_signal(signal.SIGUSR1)
    folders = [tmp_path / "runs/first-light" / name for name in ("ada", "bo")]
    until(lambda: all(events(folder, "started") for folder in folders), START_S, "the start of the training")
    assert not any(any(folder.glob("checkpoints/*")) for folder in folders)
    command.process.send_signal(signal.SIGUSR1)
    until(lambda: all(any(folder.glob("checkpoints/*.json")) for folder in folders), 20, "the checkpoints")
    assert all(not events(folder, "finished") for folder in folders)
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130, command.err

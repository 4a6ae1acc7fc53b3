"""What a rebuilding must not change is as it was recorded, and each comparison can fail.

`python -m benchmarks.recordings` says what is recorded and how it is recorded anew. Storms are compared where they are
blown (tests/sim/test_storms.py), files of `run` and `compare` where those are run (tests/processes).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks.recordings import FOLDER, help_texts, losses, run_files, storms, told
from benchmarks.recordings.recorded import recorded_keys, recordings
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope, Receipt, Verdict
from gossipdistill.sim.scenario import Storm, storm_of

CHEAP = (9, 6, 8)
"""A walker, a streamer and a publisher, in storms of a fraction of a second."""


@pytest.mark.parametrize("name", ["words", "help_without_sentences", "help"])
def test_texts_are_as_recorded(name: str) -> None:
    differences = recordings()[name].differences()
    assert not differences, told(name, differences)


def test_losses_and_files_are_as_recorded() -> None:
    """In a process of its own, since kernels are chosen before torch is imported."""
    names = ("losses", "run_files")
    command = [sys.executable, "-m", "benchmarks.recordings", "--check", *names, "--without-launchers"]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("seed", CHEAP)
def test_what_is_said_in_a_storm_is_as_recorded(seed: int) -> None:
    now = tuple(storms.digest_of(seed).split())
    then = storms.recorded(FOLDER)[seed]
    assert now == then, told("storms", [f"storm {seed} is {now}, and was {then}"])


# --- each comparison can fail ---------------------------------------------------------------------------------------


def test_a_changed_constant_is_another_storm() -> None:
    def slower(seed: int) -> Storm:
        storm = storm_of(seed)
        return replace(storm, limits=replace(storm.limits, probe_interval_s=1.01 * storm.limits.probe_interval_s))

    before = storms.recorded(FOLDER)[CHEAP[0]]
    after = storms.digest_of(CHEAP[0], slower).split()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_sentence_is_no_part_of_a_storm_but_what_it_is_about_is() -> None:
    def said(number: int, reason: str) -> list[bytes | memoryview]:
        receipt = Receipt("mass", number, Verdict.REFUSED, reason)
        return storms.frames_without_sentences(Envelope(PeerName("ada"), Boot(1), PeerName("bo"), Boot(1), receipt))

    assert said(1, "not today") == said(1, "another time")
    assert said(1, "not today") != said(2, "not today")


def test_another_rate_is_another_training_and_other_kernels_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken() -> dict[str, Any]:
        return {
            "kernels": losses.kernels(),
            "figures": {"quadratic": {"sgp": losses.simulated("sgp", "quadratic", tmp_path)}},
        }

    before = taken()
    assert losses.differences(before, taken()) == []
    monkeypatch.setattr(losses, "SETTINGS", (*losses.SETTINGS, "train.lr=0.0500001"))
    after = taken()
    assert len(losses.differences(before, after)) == 1
    assert losses.differences(before, after | {"kernels": ["another release"]}) == []
    monkeypatch.setattr(losses, "SETTINGS", (*losses.SETTINGS, "train.lr=0.051"))
    assert len(losses.differences(before, taken() | {"kernels": ["another release"]})) == 1


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> dict[str, list[str]]:
    """What differs in both texts of `--help` once an option of `run` is changed."""
    made = typer.main.get_command

    def get_command(app: typer.Typer) -> Any:
        command: Any = made(app)
        change(next(one for one in command.commands["run"].params if one.name == "max_restarts"))
        return command

    with monkeypatch.context() as patch:
        patch.setattr(typer.main, "get_command", get_command)
        return {name: recordings()[name].differences() for name in ("help", "help_without_sentences")}


def test_another_sentence_is_a_difference_of_sentences_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = changed(monkeypatch, lambda option: setattr(option, "help", "Said otherwise."))
    assert found["help"]
    assert not found["help_without_sentences"]


@pytest.mark.parametrize(
    "change", [{"default": 1}, {"metavar": "K"}, {"opts": ["--restarts-max"]}, {"hidden": True}], ids=str
)
def test_another_option_is_a_difference_without_sentences_too(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = changed(monkeypatch, lambda option: [setattr(option, name, value) for name, value in change.items()])
    assert found["help"]
    assert found["help_without_sentences"]


def test_facts_in_brackets_are_no_sentence() -> None:
    assert help_texts.without_sentence("How often. [env var: A_B;\n  default: 3]") == "[env var: A_B; default: 3]"
    assert help_texts.without_sentence("How [often].") == ""


def keys_of_result(**changes: Any) -> run_files.Keys:
    peer = {"name": "ada", "loss": 0.5, "links": [{"from": "bo", "exchanges": 1}]} | changes
    return run_files.keys_of([{name: value for name, value in peer.items() if value != "absent"}], "result.json")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"loss": None}, []),  # for want of an exchange, say
        ({"links": []}, []),
        ({"loss": 1}, ["result.json, /loss is whole, and was number"]),
        ({"loss": "absent"}, ["result.json, /loss is gone"]),
        ({"age_s": 1.0}, ["result.json, /age_s is new"]),
        ({"links": [{"from": "bo"}]}, ["result.json, /links[]/exchanges is gone"]),
    ],
    ids=str,
)
def test_a_key_that_is_new_gone_or_of_another_type_is_named(changes: dict[str, Any], told: list[str]) -> None:
    recorded = keys_of_result()
    assert run_files.of_text(run_files.as_text(recorded)) == recorded
    assert run_files.differences(recorded, keys_of_result(**changes)) == told


def test_what_is_not_in_every_object_may_be_missing() -> None:
    both = run_files.merged([keys_of_result(), keys_of_result(loss="absent")])
    assert both["result.json", "/loss"] == {"number", "absent"}
    assert run_files.differences(both, keys_of_result(loss="absent")) == []
    assert run_files.differences(keys_of_result(), both) == ["result.json, /loss is not always there any more"]


def test_of_an_event_that_did_not_happen_no_detail_is_known() -> None:
    def keys(kind: str, **detail: Any) -> run_files.Keys:
        return run_files.keys_of([{"at_s": 0.1, "kind": kind, "detail": detail}], "events.jsonl")

    assert run_files.differences(keys("parked", weight=0.5), keys("muted", mute_s=1.0)) == [
        "events.jsonl, /detail of parked is gone"
    ]
    some = run_files.merged(
        [keys("parked", weight=0.5), run_files.keys_of([{"at_s": 0.1, "kind": "view"}], "events.jsonl")]
    )
    assert run_files.differences(some, keys("muted", mute_s=1.0)) == []
    assert run_files.differences(some, keys("parked", mass=0.5)) == [
        "events.jsonl, /detail of parked/mass is new",
        "events.jsonl, /detail of parked/weight is gone",
    ]


def test_a_difference_says_how_it_is_recorded_anew() -> None:
    assert told("words", []) == ""
    assert "--record words`, in a commit of its own" in told("words", ["one"])


def test_every_file_of_a_run_is_recorded() -> None:
    files = {file for file, _ in recorded_keys()}
    assert {"PEER/result.json", "PEER/events.jsonl", "PEER/spec.json", "summary.json", "compare.json"} <= files
    assert json.loads((FOLDER / losses.FILE).read_text())["figures"].keys() == set(losses.TASKS)

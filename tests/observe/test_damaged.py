"""Run folders that hold anything: shown, or refused with the file and the reason; and nothing acts on the terminal."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import RenderableType
from safetensors.numpy import save_file
from test_run_outcomes import simulation_of

from gossipdistill.errors import ConfigError
from gossipdistill.observe import examination, report, simulated
from gossipdistill.observe.display import Display
from gossipdistill.observe.examination import ExaminationRecord
from gossipdistill.observe.fitting import PlainConsole
from gossipdistill.observe.records import SummaryRecord
from gossipdistill.observe.show import find_and_wait, render
from gossipdistill.observe.story import tell
from gossipdistill.observe.told import decoded as told
from gossipdistill.printable import printable

EVIL = "\x1b[2J\x1b]0;t\x07\x9b31m\x7f\u202e\u2066\u2028\ud800[red][/]:smile:\nbo finished"
CONFIG = {
    "name": {"value": "run"},
    "peers": {"value": "2"},
    "seed": {"value": 0},
    "topology": {"value": "complete"},
    "task.name": {"value": "digits"},
    "strategy.name": {"value": "isolated"},
    "task.shards": {"value": "disjoint"},
}


EXAMPLES = {"used": 100, "pool": 800, "asked": None, "transfer": 10}


def peer(text: str = "fine") -> dict[str, Any]:
    return {
        "name": text,
        "status": "finished",
        "incarnations": 2,
        "steps": 5,
        "steps_per_s": 1.0,
        "cpu_s_per_step": None,
        "val_loss": 0.5,
        "val_accuracy": 0.5,
        "metrics": {text: 1.0},
        "bytes_sent": 1,
        "bytes_received": None,
        "parcels_used": 1,
        "age_s": {"median": 0.1},
        "quarantined": {text: 1},
        "warnings": [text, "two"],
        "reason": text,
        "troubles": [text],
        "unusual_norms": {text: 2},
        "out_of_range": {text: 2},
        "turned_away": {f"{text}: rate": 3},
        "malformed": text,
        "waited_s": 1.0,
        "links": [{"from": text, "to": text}],
        "examples": EXAMPLES,
    }


def summary(text: str = "fine") -> dict[str, Any]:
    fault = {"what": text, "began_s": 1.0, "ended_s": None, "fired": 3}
    return {
        "schema": 1,
        "name": text,
        "task": text,
        "strategy": text,
        "topology": text,
        "seed": 0,
        "wall_s": 1.5,
        "exit_code": 0,
        "val_accuracy": {"mean": 0.5, "worst": 0.4, "ensemble": 0.6, "over": 1},
        "data": text,
        "peers": [peer(text)],
        "links": [],
        "faults": [fault],
        "expectations": [{"line": text, "met": False}],
    }


def comparison_of(text: str = "fine") -> dict[str, Any]:
    row = {
        "strategy": text,
        "seed": 0,
        "exit_code": 130,
        "faults": None,
        "peers": 2,
        "finished": 1,
        "troubles": [text],
        "warnings": [text],
        "models": [text],
        "val_accuracy": {"mean": 0.5, "worst": 0.4},
        "val_loss": 0.5,
        "bytes_sent_per_peer": 1.0,
        "bytes_are_computed": True,
        "cpu_s_per_step": 0.1,
        "expectations": [{"line": text, "met": True}],
    }
    return {
        "schema": 1,
        "name": text,
        "task": text,
        "budget": {"steps": 5, "seconds": None},
        "step_time_s": 0.0,
        "examples_per_peer": 100,
        "transfer_examples": 10,
        "classes": True,
        "config": CONFIG,
        "peers": 2,
        "seeds": [0],
        "runs": [row, row | {"faults": text}],
        "exit_code": 130,
        "examples": EXAMPLES,
        "strategies": [text],
    }


def drawn(renderable: RenderableType, width: int = 200, terminal: bool = False) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=width, highlight=False, markup=False, emoji=False, force_terminal=terminal).print(
        renderable
    )
    return out.getvalue()


def collected(run: Path, text: str = "fine") -> Path:
    """A run that has no summary yet: one peer with its result, settings, faults and events."""
    folder = run / "ada"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"topology": {"value": text}}))
    (folder / "result.json").write_text(json.dumps(peer(text)))
    (folder / "faults.json").write_text(json.dumps({"faults": summary(text)["faults"]}))
    event = {"at_s": 1.0, "kind": text, "peer": text, "reason": text, "detail": {"topic": "t", "number": 1}}
    (folder / "events.jsonl").write_text(json.dumps(event) + "\n")
    return run


def is_harmless(said: str) -> bool:
    return all(line.isprintable() for line in said.split("\n")) and not any(
        line.startswith("bo finished") for line in said.split("\n")
    )


@pytest.mark.parametrize("width", [60, 400])
def test_no_text_of_a_run_folder_acts_on_the_terminal(tmp_path: Path, width: int) -> None:
    console = PlainConsole(file=io.StringIO(), markup=False)
    kinds = {"summary.json": summary(EVIL), "compare.json": comparison_of(EVIL)}
    for name, held in kinds.items():
        folder = tmp_path / name.removesuffix(".json")
        folder.mkdir()
        (folder / name).write_text(json.dumps(held))
        found = find_and_wait(tmp_path, folder.name, 0.0, console)
        said = drawn(render(found), width)
        assert is_harmless(said)
        assert report.as_json(found).isprintable()  # for programs: nothing is lost
        assert json.loads(report.as_json(found)) == held
        if width == 400:
            assert printable(EVIL)[:20] in said
            assert "[red][/]:smile:" in said
    found = find_and_wait(tmp_path, collected(tmp_path / "run", EVIL).name, 0.0, console)
    said = drawn(render(found), width)
    assert is_harmless(said)
    assert width == 60 or said.count("[red][/]:smile:") >= 8


def test_no_text_of_an_event_acts_on_the_terminal(tmp_path: Path) -> None:
    run = collected(tmp_path, EVIL)
    os.rename(run / "ada", run / "a\x1bda")
    assert tell(run, "a\x1bda")[0].startswith("a\\x1bda: 1 events")
    for line in [*tell(run, "a\x1bda"), *tell(run, "a\x1bda/t/1"), *tell(run, "a\x1bda/t/2")]:
        assert line.isprintable(), line
    braces = {"at_s": 1.0, "kind": "{who.__class__}{0}{", "peer": "bo", "reason": ""}
    (run / "a\x1bda" / "events.jsonl").write_text(json.dumps(braces) + "\n")
    assert "{who.  class  }{0}{" in tell(run, "a\x1bda")[1]


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_that_a_worker_says_acts_on_the_terminal(terminal: bool) -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=100, markup=False, emoji=False, force_terminal=terminal)
    with Display(console, EVIL) as display:
        display("ada", told({"type": "started", "pid": 1}))
        display("ada", told({"type": "event", "kind": "dead", "at_s": 1.0, "peer": EVIL, "line": EVIL}))
        display("ada", told({"type": "error", "message": EVIL}))
        display("ada", told({"type": "waiting", "text": EVIL}))
        display("", told({"type": "event", "kind": "fault", "at_s": 1.0, "line": EVIL}))
    said = out.getvalue()
    assert "\x1b[2J" not in said
    assert not set(said) & set("\x07\x9b\x7f\u202e\u2066\u2028\ud800")
    assert terminal or is_harmless(said)
    assert "[red][/]:smile:" in said


def test_a_table_of_the_doctor_and_of_a_simulation_says_what_it_is_given_to_say() -> None:
    finding = {"check": EVIL, "verdict": "problem", "about": EVIL, "found": EVIL, "advice": EVIL}
    whole = {
        "schema": 1,
        "peers": EVIL,
        "name": EVIL,
        "exit_code": 1,
        "waited_s": 0.0,
        "versions": {},
        "others": {},
        "findings": [finding],
        "counts": {"problem": 1, "warning": 0, "ok": 0},
    }
    assert is_harmless(drawn(examination.render(ExaminationRecord.model_validate(whole))))
    run = SummaryRecord.model_validate(summary(EVIL)).but(simulation=simulation_of(EVIL))
    assert is_harmless(drawn(simulated.render(run)))


BAD: dict[str, str] = {
    "": "is no JSON",
    "[]": "holds no JSON object, but a list",
    "{}": "is missing",
    '{"a": NaN}': "not finite",
    '{"a":' * 5000: "nested",
    '{"a": 1' + "0" * 5000 + "}": "too many digits",
    '{"name": 1, "name": 2}': "has the key 'name' twice",
}


@pytest.mark.parametrize(("text", "words"), BAD.items(), ids=list(BAD.values()))
@pytest.mark.parametrize("name", ["summary.json", "compare.json"])
def test_a_damaged_summary_is_refused_with_its_reason(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        find_and_wait(tmp_path, None, 0.0, PlainConsole(file=io.StringIO()))
    assert f"{name}: is damaged: " in str(caught.value)
    assert words in str(caught.value)


def wrong(value: Any) -> list[Any]:
    """The same with each entry, at any depth, missing or of another type, one at a time."""
    made: list[Any] = []
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        if isinstance(value, dict):
            made.append({other: entry for other, entry in value.items() if other != key})
        for other in (None, True, 3, -1.5, "x", [], {}, [[]], {"x": []}, 10**30, EVIL):
            changed = value.copy()
            changed[key] = other
            made.append(changed)
        for inner in wrong(value[key]):
            changed = value.copy()
            changed[key] = inner
            made.append(changed)
    return made


@pytest.mark.parametrize(("name", "held"), [("summary.json", summary()), ("compare.json", comparison_of())])
def test_whatever_a_key_holds_the_table_is_shown_or_refused(tmp_path: Path, name: str, held: dict[str, Any]) -> None:
    (tmp_path / "run").mkdir()
    refusals: list[str] = []
    shown = 0
    for changed in wrong(held)[::3]:
        (tmp_path / "run" / name).write_text(json.dumps(changed))
        try:
            found = find_and_wait(tmp_path, "run", 0.0, PlainConsole(file=io.StringIO()))
        except ConfigError as error:
            refusals.append(str(error))
            continue
        assert is_harmless(drawn(render(found), 100))
        shown += 1
    assert all(f"{name}: is damaged: " in words for words in refusals)
    assert min(shown, len(refusals)) > 20


@pytest.mark.parametrize("name", ["result.json", "config.json", "faults.json"])
def test_a_damaged_file_of_a_peer_is_told_in_the_table_or_refused(tmp_path: Path, name: str) -> None:
    run = collected(tmp_path / "run")
    whole = json.loads((run / "ada" / name).read_text())
    for changed in [*wrong(whole)[::7][:80], None]:
        (run / "ada" / name).write_text(json.dumps(changed) if changed is not None else "{")
        try:
            said = drawn(report.render(report.load_summary(run)))
        except ConfigError as error:
            said = str(error)
        assert is_harmless(said)
    assert ("ada: " if name == "result.json" else "") + f"{name}" in said
    assert "is damaged: is no JSON" in said


def ensemble_of(run: Path) -> float | None:
    accuracy = report.load_summary(run).val_accuracy
    assert accuracy is not None
    return accuracy.ensemble


def test_a_bad_validation_file_leaves_out_the_ensemble_and_is_told(tmp_path: Path) -> None:
    run = collected(tmp_path / "run")
    file = run / "ada" / "validation.safetensors"
    good = {"outputs": np.ones((4, 2), np.float32), "labels": np.zeros(4, np.int64)}
    save_file(good, file)
    assert ensemble_of(run) == 1.0
    whole = file.read_bytes()
    held: dict[str, bytes | dict[str, np.ndarray[Any, Any]]] = {
        "is no safetensors file": b"",
        "is no safetensors": (1 << 60).to_bytes(8, "little") + whole[8:],
        "no safetensors file": whole[:-3],
        "holds no 'labels'": {"outputs": good["outputs"]},
        "holds outputs [4, 2] for labels [3]": good | {"labels": np.zeros(3, np.int64)},
        "holds outputs [0, 2]": {"outputs": np.ones((0, 2), np.float32), "labels": np.zeros(0, np.int64)},
    }
    for words, content in held.items():
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            save_file(content, file)
        assert ensemble_of(run) is None
        assert words in report.load_summary(run).peers[0].warnings[-1]
    file.unlink()
    os.mkfifo(file)
    assert "is a pipe" in report.load_summary(run).peers[0].warnings[-1]


def test_lines_that_are_no_events_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    run = collected(tmp_path)
    file = run / "ada" / "events.jsonl"
    good = file.read_text()
    bad = [
        "[" * 100_000,
        '{"at_s": 1}',
        good.replace("1.0", "NaN").strip(),
        "1" + "0" * 5000,
        '{"at_s": "1"}',
        "\ufeff",
    ]
    file.write_text(good + "\n".join(bad) + "\n\n" + good + '{"at_s": 9')
    lines = tell(run, "ada")
    assert lines[0].startswith("ada: 2 events")
    assert lines[-1].startswith("ada/events.jsonl: 6 lines are no events, and passed over; line 2: is nested more")
    file.unlink()
    os.mkfifo(file)
    assert tell(run, "ada")[-1] == "ada/events.jsonl is a pipe or a device, not an ordinary file"


def test_what_lies_in_the_place_of_a_run_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for name in ("loop", "file", "x" * 300, "nul\0"):
        with pytest.raises(ConfigError, match="no such run"):
            report.find_run(tmp_path, name)
    with pytest.raises(ConfigError, match="holds no runs yet"):
        report.newest_run(tmp_path / "file")
    (tmp_path / "run" / "summary.json").mkdir(parents=True)
    assert report.newest_run(tmp_path) == tmp_path / "run"
    with pytest.raises(ConfigError, match=r"summary\.json: is damaged: is a folder, not a file"):
        report.load_summary(tmp_path / "run")

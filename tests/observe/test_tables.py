"""Tables at 80 and 120 columns, live rows, and what is said beside them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from gossipdistill.errors import ConfigError
from gossipdistill.files import read_object
from gossipdistill.observe import comparison, report
from gossipdistill.observe.display import Display
from gossipdistill.observe.fitting import Column, Fitting, console
from gossipdistill.observe.records import CompareRecord, CompareRow, PeerRecord, SummaryRecord
from gossipdistill.observe.show import find_and_wait, render
from gossipdistill.observe.told import decoded as told


def drawn(renderable: RenderableType, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    out.print(renderable)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def peer(name: str, status: str = "finished", **changed: Any) -> PeerRecord:
    whole = {
        "name": name,
        "status": status,
        "incarnations": 1,
        "steps": 12750,
        "steps_per_s": 149.7,
        "cpu_s_per_step": 0.00112,
        "val_loss": 0.2412,
        "val_accuracy": 0.932,
        "metrics": {"accuracy": 0.932},
        "bytes_sent": 2_700_000,
        "bytes_received": 2_700_000,
        "parcels_used": 1225,
        "age_s": {"median": 0.12},
        "quarantined": {},
        "warnings": [],
    }
    return PeerRecord.model_validate(whole | changed)


def summary(*peers: PeerRecord) -> SummaryRecord:
    whole = {
        "schema": 1,
        "name": "first-light",
        "task": "digits",
        "strategy": "codistill_predictions",
        "topology": "complete",
        "seed": 0,
        "wall_s": 15.4,
        "exit_code": 0,
        "val_accuracy": {"mean": 0.929, "worst": 0.915, "ensemble": 0.931, "over": 3},
        "peers": list(peers),
    }
    return SummaryRecord.model_validate(whole)


PEERS = (peer("ada"), peer("bo", "interrupted", incarnations=2), report.unknown_peer("cy"), peer("dee"))


@pytest.mark.parametrize(
    ("held", "told"), [([1.5, 0.6, 0.9], False), ([1e-3, 2e-3, 0.9], True), ([9.0, 1.0, 1.0], True)]
)
def test_weights_that_do_not_add_up_are_told(held: list[float], told: bool) -> None:
    peers = [peer(name, push_sum_weight=weight) for name, weight in zip(("ada", "bo", "cy"), held, strict=True)]
    lines = " ".join(drawn(report.render(summary(*peers).but(push_sum_weight=sum(held))), 120))
    assert ("the push-sum weights of 3 peers add up to" in lines) == told
    assert "add up" not in " ".join(drawn(report.render(summary(*PEERS)), 120)), "no strategy of mass"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_of_a_run_is_never_cut(width: int) -> None:
    lines = drawn(report.render(summary(*PEERS)), width)
    table = lines[1:6]
    assert all("…" not in line and len(line) <= width for line in lines)
    assert [line.split()[0] for line in table] == ["peer", "ada", "bo", "cy", "dee"]
    assert "interrupted (start 2)" in table[2]
    assert "accuracy %" in table[0]
    assert ("CPU ms/step" in table[0]) == (width == 120)
    assert "over 3 of 4 peers (those that finished)" in " ".join(lines)
    assert any(line.startswith("cy: no result was written") for line in lines)


def test_what_was_turned_away_of_whom_is_told_but_not_what_happens_to_the_honest() -> None:
    away = {"bo: muted": 120, "bo: oversize": 2, "cy: repeated": 7, ": not_admitted": 3}
    lines = drawn(
        report.render(summary(peer("ada", turned_away=away), peer("bo", turned_away={"ada: repeated": 1}))), 120
    )
    assert "ada: turned away: bo: muted x120, bo: oversize x2" in lines
    assert not any("repeated" in line or "not_admitted" in line for line in lines)


def test_columns_go_by_their_importance() -> None:
    columns = [Column("name"), Column("middle", dispensable=1), Column("least", dispensable=2)]
    table = Fitting(columns, [["ada", "1234567890", "abc"]])
    assert drawn(table, 40)[0].split() == ["name", "middle", "least"]
    assert drawn(table, 20)[0].split() == ["name", "middle"]
    assert drawn(table, 10)[0].split() == ["name"]


def run_row(strategy: str, seed: int = 0, **changed: Any) -> CompareRow:
    whole = {
        "strategy": strategy,
        "seed": seed,
        "peers": 4,
        "finished": 4,
        "troubles": [],
        "warnings": [],
        "models": ["mlp", "cnn", "mlp", "cnn"],
        "val_accuracy": {"mean": 0.9, "worst": 0.8},
        "val_loss": 0.3,
        "bytes_sent_per_peer": 2_700_000.0,
        "bytes_are_computed": False,
        "cpu_s_per_step": 0.002,
    }
    return CompareRow.model_validate(whole | changed)


def compared(*runs: CompareRow, seeds: tuple[int, ...] = (0,)) -> CompareRecord:
    config = {"task.shards": "label_skew", "task.classes_per_peer": 3}
    whole = {
        "task": "digits",
        "peers": 4,
        "examples_per_peer": 100,
        "transfer_examples": 600,
        "classes": True,
        "budget": {"steps": 750, "seconds": None},
        "step_time_s": 0.02,
        "seeds": list(seeds),
        "runs": list(runs),
        "config": {key: {"value": value, "from": "default"} for key, value in config.items()},
    }
    return CompareRecord.model_validate(whole)


def test_the_table_of_a_comparison() -> None:
    lines = drawn(
        comparison.render(
            compared(
                run_row("isolated", cpu_s_per_step=0.001, bytes_sent_per_peer=0.0),
                run_row("codistill_predictions"),
                run_row("all_reduce", models=["mlp"] * 4, bytes_are_computed=True),
                run_row("pooled", peers=1, finished=1, models=["mlp"]),
            )
        ),
        150,
    )
    assert lines[0] == (
        "digits, 4 peers: 100 labelled examples each, mostly of 3 classes; 600 unlabelled ones shared; "
        "750 steps of 20 ms (padded); seed 0"
    )
    assert [line.split() for line in lines[2:4]] == [
        ["accuracy", "%", "sent", "per", "CPU", "per"],
        ["mean", "worst", "peer", "step"],
    ]
    assert lines[4].split() == ["alone", "90.0", "80.0", "0", "kB", "1.00", "x"]
    assert lines[5].startswith("by predictions (2 MLPs, 2 CNNs) ")
    assert lines[5].endswith("2.7 MB   2.00 x")
    assert lines[6].endswith("waits for the slowest; bytes by formula")
    assert lines[7].split()[-2:] == ["-", "-"]
    assert lines[-1] == (
        'In the rows "by predictions" no example, label or weight left a peer. '
        "(What predictions can reveal: docs/privacy.md)"
    )


def test_a_row_under_a_plan_stands_below_its_own_and_tells_what_was_expected() -> None:
    lines = ["met: pace_ratio of ada and cy is 0.98; expected: at least 0.95", "NOT MET: rejoin_s of bo is 7"]
    verdicts = [{"met": line.startswith("met"), "line": line} for line in lines]
    fair, disturbed = run_row("gossip_averaging"), run_row("gossip_averaging", faults="bad-day", expectations=verdicts)
    table = drawn(comparison.render(compared(fair, disturbed)), 150)
    assert table[4].endswith("needs one architecture")
    assert table[5].startswith("  the same, under bad-day ")
    assert table[5].endswith("1 of 2 expectations met")
    assert table[-2:] == [f"by averaging weights, under bad-day: {line}" for line in lines]


def test_troubles_of_a_row_are_told() -> None:
    lost = run_row("isolated", finished=3, troubles=["bo lost (killed by SIGKILL)"])
    never = run_row(
        "all_reduce",
        finished=0,
        troubles=["did not start"],
        val_accuracy=None,
        val_loss=None,
        bytes_sent_per_peer=None,
        cpu_s_per_step=None,
    )
    lines = drawn(comparison.render(compared(lost, never)), 120)
    assert any("3 of 4 peers finished" in line for line in lines)
    assert "alone: bo lost (killed by SIGKILL)" in lines
    assert "all_reduce: did not start" in lines


def test_seeds_are_summed_up_as_mean_and_standard_error() -> None:
    scores = [{"mean": 0.8, "worst": 0.7}, {"mean": 0.9, "worst": 0.7}]
    runs = [run_row("isolated", seed, val_accuracy=score) for seed, score in enumerate(scores)]
    lines = drawn(comparison.render(compared(*runs, seeds=(0, 1))), 180)
    assert "85.0 ± 5.0" in lines[4]
    assert "70.0 ± 0.0" in lines[4]
    assert comparison.spread([]) is None
    assert comparison.spread([2.0]) == (2.0, None)


def test_a_task_without_accuracy_is_compared_by_its_loss() -> None:
    lines = drawn(comparison.render(compared(run_row("isolated", val_accuracy=None))), 150)
    assert "loss" in lines[3]
    assert "0.3000" in lines[4]


@pytest.mark.parametrize("width", [80, 120])
def test_live_rows_fit(width: int) -> None:
    screen = Console(file=io.StringIO(), width=width, height=40, force_terminal=True, highlight=False)
    display = Display(screen, "first-light: codistill_predictions on digits, 4 peers")
    progress = {
        "type": "progress",
        "step": 12750,
        "share": 0.5,
        "elapsed_s": 3.0,
        "steps_per_s": 49.7,
        "loss": None,
        "exchanges": 1225,
        "alive": 3,
        "expected": 4,
    }
    for name in ("ada", "bo"):
        display(name, told({"type": "started", "pid": 31337}))
        display(name, told(progress))
    display("bo", told({"type": "exited", "how": "killed by SIGKILL", "finished": False}))
    lines = drawn(display, width)[1:]
    assert all("…" not in line and len(line) <= width for line in lines)
    assert lines[2].split()[:3] == ["ada", "31337", "training"]
    assert "3 of 4" in lines[2]
    assert "not finite" in lines[2]
    assert "gone" in lines[3]


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = Console(file=io.StringIO(), width=120)
    with Display(out, "a title") as display:
        display("ada", told({"type": "started", "pid": 7}))
        display("ada", told({"type": "event", "kind": "joined", "at_s": 1.0, "line": "bo: joined"}))
        display("ada", told({"type": "event", "kind": "view", "at_s": 5.0, "line": "view: I see 2 of 4 [peers]"}))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines() == ["a title", "ada: process 7", "   5.00 s  ada | view: I see 2 of 4 [peers]"]


def test_a_console_that_is_no_terminal_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert console().width == 120
    monkeypatch.setenv("COLUMNS", "90")
    assert console().width == 90


# --- runs on disk ----------------------------------------------------------------------------------------------------


def write_peer(folder: Path, name: str, result: PeerRecord | None) -> None:
    values = {"name": "r", "peers": "2", "topology": "complete", "seed": 0, "task.name": "digits", "strategy.name": "x"}
    (folder / name).mkdir(parents=True)
    config = {key: {"value": value, "from": "default"} for key, value in values.items()}
    (folder / name / "config.json").write_text(json.dumps(config))
    if result is not None:
        report.write_json(folder / name / "result.json", result)


def test_show_collects_what_workers_wrote(tmp_path: Path) -> None:
    write_peer(tmp_path / "r", "ada", peer("ada", wall_s=3.0))
    write_peer(tmp_path / "r", "bo", None)
    found = find_and_wait(tmp_path, None, 0.0, console(stderr=True))
    assert isinstance(found, SummaryRecord)
    assert [entry.status for entry in found.peers] == ["finished", "lost"]
    assert found.exit_code == 10
    assert any("bo" in line for line in drawn(render(found), 120))


def test_show_collects_what_each_peer_did_to_itself_by_a_plan(tmp_path: Path) -> None:
    def fault(began_s: float | None, ended_s: float | None, fired: int) -> dict[str, Any]:
        return {"what": "bo is killed", "began_s": began_s, "ended_s": ended_s, "fired": fired}

    for name, entry in (("ada", fault(3.1, 5.0, 0)), ("bo", fault(3.0, 5.2, 1)), ("cy", fault(None, None, 0))):
        write_peer(tmp_path / "r", name, peer(name))
        report.write_json(tmp_path / "r" / name / report.FAULTS_FILE, {"faults": [entry]})
    found = find_and_wait(tmp_path, None, 0.0, console(stderr=True))
    assert found.plain()["faults"] == [fault(3.0, 5.2, 1)]
    assert "fault 1, 3.0 s to 5.2 s: bo is killed (fired 1 x)" in "\n".join(drawn(render(found), 120))


def test_show_waits_for_those_who_still_write_only(tmp_path: Path) -> None:
    write_peer(tmp_path / "r", "ada", peer("ada", serving=True))
    write_peer(tmp_path / "r", "bo", None)
    out = Console(file=io.StringIO(), width=120)
    find_and_wait(tmp_path, "r", 0.6, out)
    assert "waiting: no result yet of bo" in out.file.getvalue()  # type: ignore[attr-defined]
    report.write_json(tmp_path / "r/ada/result.json", peer("ada"))
    for path in (tmp_path / "r/bo").iterdir():
        os.utime(path, (0, 0))  # it has been silent for long: nobody will hear of it
    find_and_wait(tmp_path, "r", 60.0, out)


def test_show_finds_comparisons_and_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    report.write_json(tmp_path / "c/compare.json", compared(run_row("isolated")))
    found = find_and_wait(tmp_path, None, 0.0, console(stderr=True))
    assert isinstance(found, CompareRecord)
    assert found.runs
    with pytest.raises(ConfigError, match="did you mean c"):
        report.find_run(tmp_path, "cc")
    (tmp_path / "c/compare.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        find_and_wait(tmp_path, "c", 0.0, console(stderr=True))


def test_figures_that_are_not_finite_are_written_as_null(tmp_path: Path) -> None:
    value = {"loss": float("nan"), "curve": [1.0, float("inf"), None], "peers": [{"accuracy": 0.5, "steps": 3}]}
    report.write_json(tmp_path / "summary.json", value)
    written = {"loss": None, "curve": [1.0, None, None], "peers": [{"accuracy": 0.5, "steps": 3}]}
    assert read_object(tmp_path / "summary.json") == written

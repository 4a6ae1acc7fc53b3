"""What the ends of the peers mean for a run: exit code, table, comparison, and what `show` collects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from test_tables import drawn, peer, summary, write_peer

from gossipdistill.errors import EXIT_LOST, EXIT_NONE_FINISHED
from gossipdistill.launchers.compare import Row, entry_of
from gossipdistill.observe import report, simulated
from gossipdistill.observe.endings import exit_code_of, trouble_of
from gossipdistill.observe.fitting import console
from gossipdistill.observe.records import PeerRecord, SimulationRecord, SummaryRecord
from gossipdistill.observe.show import find_and_wait, render

SILENT = "nothing was exchanged: bo lived for 9 s, and nothing of theirs has come"
NAN = "parameter 0.weight is not finite; try train.lr below 3"


def diverged(name: str) -> PeerRecord:
    return peer(name, "diverged", reason=NAN, warnings=[f"diverged: {NAN}"], val_loss=None, val_accuracy=0.1)


def silent(name: str) -> PeerRecord:
    return peer(name, troubles=[SILENT], warnings=["at chance: so", SILENT])


def simulation_of(figure: str) -> SimulationRecord:
    curve: dict[str, list[float]] = {key: [] for key in ("at_s", "loss", "consensus", "exchanges_per_s", "alive")}
    whole = {
        "virtual_s": 1,
        "building_s": 0.1,
        "per_peer": {figure: {"mean": 1, "least": 1, "most": 1}},
        "mass_error": None,
        "violations": [],
        "events": 1,
        "events_per_s": 1.0,
        "protocol_us_per_event": 1.0,
        "consensus_distance": None,
        "learner_s": 0.0,
        "memory_mib": 1.0,
        "notes": [],
        "messages": {},
        "curve": curve,
    }
    return SimulationRecord.model_validate(whole)


@pytest.mark.parametrize(
    ("peers", "asked", "code"),
    [
        ([peer("ada"), peer("bo")], (), 0),
        ([peer("ada"), diverged("bo")], (), EXIT_LOST),
        ([diverged("ada"), diverged("bo")], (), EXIT_LOST),
        ([peer("ada", "collapsed")], (), EXIT_LOST),
        ([silent("ada"), silent("bo")], (), EXIT_LOST),
        ([peer("ada"), report.unknown_peer("bo")], (), EXIT_LOST),
        ([peer("ada"), report.unknown_peer("bo")], ("bo",), 0),
        ([diverged("ada"), report.unknown_peer("bo")], ("bo",), EXIT_LOST),
        ([peer("ada", "left"), report.unknown_peer("bo")], (), EXIT_NONE_FINISHED),
        ([report.unknown_peer("bo")], ("bo",), EXIT_NONE_FINISHED),
    ],
)
def test_the_exit_code(peers: list[PeerRecord], asked: tuple[str, ...], code: int) -> None:
    assert exit_code_of(peers, asked) == code


def test_the_table_says_success_of_nothing_that_is_none() -> None:
    whole = summary(peer("ada"), diverged("bo"), silent("cy"), peer("dee", warnings=["at chance: so"]))
    lines = drawn(report.render(whole), 120)
    assert lines[3].split()[:2] == ["bo", "diverged"]
    assert f"bo: diverged: {NAN}" in lines
    assert f"cy: {SILENT}" in lines
    assert "cy, dee: at chance: so" in lines
    assert sum(SILENT in line for line in lines) == 1
    assert "over 3 of 4 peers (those that finished)" in " ".join(lines)
    screen = Console(width=120, force_terminal=True, color_system="standard", highlight=False)
    with screen.capture() as captured:
        screen.print(report.render(whole))
    red = [line for line in captured.get().splitlines() if "\x1b[1;31m" in line]
    assert [any(word in line for line in red) for word in ("diverged: par", "nothing was", "at chance")] == [
        True,
        True,
        False,
    ]
    nobody = drawn(report.render(summary(diverged("ada")).but(val_accuracy=None)), 120)
    assert "no peer finished, so there is no mean" in nobody


def test_a_comparison_names_them_in_their_row() -> None:
    whole = summary(*(one.but(wall_s=3.0) for one in (peer("ada"), diverged("bo"), silent("cy")))).but(exit_code=10)
    entry = entry_of(Row("sgp", 0), whole, [], "")
    assert entry.troubles == [f"bo diverged ({NAN})", f"cy finished ({SILENT})"]
    assert entry.warnings == ["cy: at chance: so"]
    assert (entry.finished, entry.val_loss) == (2, pytest.approx(0.2412))
    assert trouble_of(report.unknown_peer("dee")) == "dee lost (no result was written: still running, or lost)"
    assert trouble_of(peer("ada")) == ""


def test_show_collects_them_from_what_workers_wrote(tmp_path: Path) -> None:
    write_peer(tmp_path / "r", "ada", silent("ada"))
    write_peer(tmp_path / "r", "bo", diverged("bo"))
    found = find_and_wait(tmp_path, None, 0.0, console(stderr=True))
    assert isinstance(found, SummaryRecord)
    assert found.exit_code == EXIT_LOST
    lines = drawn(render(found), 120)
    assert f"ada: {SILENT}" in lines
    assert f"bo: diverged: {NAN}" in lines
    assert json.loads(report.as_json(found))["peers"][1]["reason"] == NAN


def test_a_simulation_names_a_few_and_counts_the_rest() -> None:
    many = [diverged(f"p{n}") for n in range(9)] + [peer("ada")]
    whole = summary(*many).but(simulation=simulation_of("val_loss"))
    lines = drawn(simulated.render(whole), 150)
    assert "peers: 9 diverged, 1 finished" in lines
    assert f"p0, p1, p2 and 6 more: diverged: {NAN}" in lines
    assert any(line.startswith("per peer (1 that finished)") for line in lines)

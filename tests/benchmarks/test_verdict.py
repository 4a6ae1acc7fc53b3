"""PASS and FAIL from made-up figures."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.pace.ratios import own_spread, pace_ratio, pair_ratios, verdicts

ROW = "codistill_predictions"


def figures(steps_per_s: float, exchanges_per_s: float, **more: Any) -> dict[str, Any]:
    """Of one scene: two untouched workers that are alike."""
    return {
        "steps_per_s": {"ada": steps_per_s, "bo": steps_per_s},
        "cores": {"ada": 0.1, "bo": 0.2},
        "exchanges_per_s": {"ada > bo": exchanges_per_s, "bo > ada": exchanges_per_s + 1},
    } | more


def repeat(kill_exchanges_per_s: float = 45.0, **told: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Isolated twice and one row that was healthy and saw a kill."""
    lines = {"suspect_s": {"ada": 1.4, "bo": 1.5}, "lines_per_change_max": 1, "stderr_lines": 0} | told
    alone = {"healthy": figures(50.0, 0.0), "kill": figures(48.0, 0.0)}
    row = {
        "healthy": figures(48.0, 46.0),
        "kill": figures(48.0, kill_exchanges_per_s, **lines),
        "restart": {"rejoin_s": 1.0},
    }
    return {"isolated": alone, "isolated again": {"healthy": figures(46.0, 0.0)}, ROW: row}


def passed(found: list[Any], text: str) -> bool | None:
    [verdict] = [verdict for verdict in found if text in verdict.target]
    return verdict.passed


def test_pace_is_beside_both_isolated_runs_of_the_same_repeat_and_scene() -> None:
    assert pace_ratio(repeat(), ROW, "healthy") == pytest.approx(1.0)
    assert pace_ratio(repeat(), ROW, "kill") == pytest.approx(1.0)
    assert pace_ratio(repeat(), ROW, "stop") is None
    assert own_spread(repeat()) == pytest.approx(46 / 50)


def test_exchanges_are_beside_the_same_pair_when_all_were_healthy() -> None:
    assert pair_ratios([repeat(23.0)], ROW, "kill") == {"ada > bo": 0.5, "bo > ada": pytest.approx(24 / 47)}


def test_a_pair_that_falls_silent_fails() -> None:
    assert passed(verdicts([repeat(0.0)], [ROW]), "kill: exchanges of the worst") is False


def test_a_pair_that_only_met_while_somebody_was_missing_is_not_judged() -> None:
    found = repeat()
    found[ROW]["healthy"]["exchanges_per_s"]["cy > ada"] = 0.3
    assert "cy > ada" not in pair_ratios([found], ROW, "kill")


def test_a_row_that_was_not_run_in_a_repeat_is_left_out() -> None:
    assert pair_ratios([{}, repeat(23.0)], ROW, "kill")["ada > bo"] == 0.5
    assert pair_ratios([{}], ROW, "kill") == {}


def test_everything_reached_passes_and_what_was_not_measured_says_so() -> None:
    found = verdicts([repeat(), repeat(), repeat()], [ROW, "isolated", "all_reduce"])
    assert {verdict.passed for verdict in found} == {True, None}
    assert passed(found, "kill: suspect") is True
    assert passed(found, "stop: suspect") is None
    assert "not measured" in next(verdict.line() for verdict in found if verdict.passed is None)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"suspect_s": {"ada": 1.4, "bo": 2.1}}, "kill: suspect"),
        ({"suspect_s": {"ada": 1.4, "bo": None}}, "kill: suspect"),
        ({"lines_per_change_max": 2}, "kill: log lines"),
        ({"stderr_lines": 7}, "kill: lines on standard error"),
    ],
)
def test_one_bad_repeat_is_enough_for_a_lost_peer(told: dict[str, Any], text: str) -> None:
    assert passed(verdicts([repeat(), repeat(**told), repeat()], [ROW]), text) is False


def test_a_peer_that_never_comes_back_fails() -> None:
    bad = repeat()
    bad[ROW]["restart"]["rejoin_s"] = None
    assert passed(verdicts([repeat(), bad], [ROW]), "restart") is False

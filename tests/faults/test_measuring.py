"""From reports to verdicts: ratios against the quiet seconds, returns, accuracy; what is not measured is not met."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.faults import FaultPlan
from gossipdistill.faults.expect import Expect
from gossipdistill.faults.measuring import SAMPLES_MAX, Measurements, _slope
from gossipdistill.observe.records import VerdictRecord

PEERS = ("ada", "bo", "cy", "dee")
SLOW = {"kind": "slow", "peer": "dee", "from_s": 3, "to_s": 9, "factor": 10}
KILL = {"kind": "kill", "peer": "bo", "at_s": 5, "restart_after_s": 2}


def measured(metric: str, *faults: dict[str, Any], **keys: Any) -> Measurements:
    bound = keys if keys.keys() & {"at_least", "at_most"} else {"at_least": 0.95} | keys
    plan = FaultPlan.model_validate({"fault": list(faults), "expect": [{"metric": metric, **bound}]})
    return Measurements(plan, PEERS)


def train(
    m: Measurements,
    peer: str,
    from_s: float,
    to_s: float,
    pace: float,
    links: dict[str, float] | None = None,
    at: tuple[float, dict[str, float]] = (0.0, {}),
) -> tuple[float, dict[str, float]]:
    """Reports four times a second, `pace` steps/s and `links` exchanges/s each; returns the totals at the end."""
    steps, exchanges = at
    now_s = from_s
    while now_s <= to_s:
        ran_s = now_s - from_s
        totals = {sender: exchanges.get(sender, 0) + rate * ran_s for sender, rate in (links or {}).items()}
        m.report(peer, now_s, int(steps + pace * ran_s), {s: int(total) for s, total in totals.items()})
        now_s += 0.25
    return steps + pace * (to_s - from_s), {
        s: exchanges.get(s, 0) + r * (to_s - from_s) for s, r in (links or {}).items()
    }


def verdict(
    m: Measurements, accuracies: dict[str, float | None] | None = None, trouble: str | None = None
) -> VerdictRecord:
    (one,) = m.verdicts(accuracies or {}, trouble)
    return VerdictRecord.of(one)


def test_pace_is_compared_with_the_quiet_seconds_and_the_worst_peer_counts() -> None:
    m = measured("pace_ratio", SLOW)
    for peer, slower in (("ada", 1.0), ("bo", 0.8), ("cy", 0.9)):
        train(m, peer, 3.25, 12, 50 * slower, at=train(m, peer, 0, 3, 50))
    assert verdict(m).plain() == {
        "metric": "pace_ratio",
        "peers": ["ada", "bo", "cy"],
        "at_least": 0.95,
        "measured": pytest.approx(0.8, abs=0.04),
        "met": False,
        "line": f"NOT MET: pace_ratio of ada, bo and cy is {verdict(m).measured:.3g}; expected: at least 0.95",
    }


def test_only_the_time_of_the_fault_counts() -> None:
    m = measured("pace_ratio", SLOW, peers=["ada"], at_least=0.97)
    at = train(m, "ada", 3, 9, 50, at=train(m, "ada", 0, 3, 50))
    train(m, "ada", 9, 30, 1, at=at)
    assert verdict(m).measured == pytest.approx(1.0, abs=0.02)
    assert verdict(m).met


def test_a_fault_that_is_over_at_once_is_watched_for_a_while() -> None:
    m = measured("pace_ratio", {"kind": "clock_jump", "peer": "dee", "at_s": 3, "seconds": 5}, peers=["ada"])
    at = train(m, "ada", 3, 6, 25, at=train(m, "ada", 0, 3, 50))
    train(m, "ada", 6, 30, 50, at=at)
    assert verdict(m).measured == pytest.approx(0.5, abs=0.02)


def test_what_a_peer_reports_after_it_is_done_is_no_pace() -> None:
    m = measured("pace_ratio", SLOW, peers=["ada"])
    at = train(m, "ada", 3, 6, 50, at=train(m, "ada", 0, 3, 50))
    m.done("ada", 6.0)
    m.done("ada", 7.0)
    train(m, "ada", 6.25, 20, 0, at=at)
    assert verdict(m).measured == pytest.approx(1.0, abs=0.02)


def test_the_time_in_which_a_peer_is_dead_counts_as_no_pace() -> None:
    m = measured("pace_ratio", {**KILL, "at_s": 3}, peers=["bo"])
    train(m, "bo", 0, 3, 50)
    train(m, "ada", 0, 6, 50)
    m.returned("bo", 4.5, steps_before=100)  # from its checkpoint
    train(m, "bo", 4.5, 6, 50, at=(100, {}))
    assert verdict(m).measured == pytest.approx(0.5, abs=0.05)


def test_exchanges_are_summed_over_the_links_between_the_peers_meant() -> None:
    m = measured("exchange_ratio", SLOW, peers=["ada", "cy"])
    for peer, other, later in (("ada", "cy", 5.0), ("cy", "ada", 2.0)):
        at = train(m, peer, 0, 3, 50, {other: 5.0, "dee": 9.0})
        train(m, peer, 3.25, 12, 50, {other: later, "dee": 0.0}, at=at)
    assert verdict(m).measured == pytest.approx(0.7, abs=0.06)
    assert "exchange_ratio between ada and cy is" in verdict(m).line


def test_two_separate_windows_weigh_by_their_length() -> None:
    first, second = {**SLOW, "to_s": 6.5}, {**SLOW, "from_s": 10, "to_s": 17}
    m = measured("pace_ratio", first, second, {**SLOW, "peer": "cy", "from_s": 4, "to_s": 5}, peers=["ada"])
    at = train(m, "ada", 3, 6.5, 50, at=train(m, "ada", 0, 3, 50))
    at = train(m, "ada", 10, 17, 20, at=train(m, "ada", 6.5, 10, 1, at=at))
    assert verdict(m).measured == pytest.approx((3.5 + 7 * 0.4) / 10.5, abs=0.03)


def test_without_a_yardstick_or_a_fault_in_time_nothing_is_measured() -> None:
    m = measured("pace_ratio", SLOW, peers=["ada"])
    assert verdict(m).reason == "too few reports of ada in the quiet seconds before 3 s"
    m.report("ada", 2.0, 10, {})
    assert verdict(m).reason == "too few reports of ada in the quiet seconds before 3 s"
    assert (verdict(m).measured, verdict(m).met) == (None, False)
    train(m, "ada", 0, 3, 50)
    assert verdict(m).reason == "ada did not report long enough while faults lasted (to 3.0 s)"
    idle = measured("exchange_ratio", SLOW, peers=["ada", "cy"])
    assert verdict(idle).reason == "too few reports of ada and cy in the quiet seconds before 3 s"
    train(idle, "ada", 0, 12, 50)
    train(idle, "cy", 0, 12, 50)
    assert verdict(idle).reason == "nothing of ada and cy in the quiet seconds before 3 s"


def test_a_run_that_was_cut_short_meets_nothing() -> None:
    m = measured("pace_ratio", SLOW, peers=["ada"])
    train(m, "ada", 0, 12, 50)
    assert verdict(m).met
    line = "NOT MET: pace_ratio of ada is not measured (the run was interrupted); expected: at least 0.95"
    assert verdict(m, trouble="the run was interrupted").line == line


def test_a_return_counts_until_both_sides_have_used_something_new() -> None:
    m = measured("rejoin_s", KILL, at_most=2.0)
    assert verdict(m).reason == "bo was not started again before the end"
    m.report("ada", 4.0, 100, {"bo": 7})
    m.report("bo", 4.0, 100, {"ada": 7})
    m.returned("bo", 8.0, 50)
    m.report("ada", 8.1, 200, {"bo": 7})
    assert verdict(m).reason == "bo was ready at 8.0 s, and used nothing of a neighbour"
    m.report("bo", 8.25, 51, {})
    m.report("bo", 8.5, 60, {"cy": 1})
    assert verdict(m).reason == "bo was ready at 8.0 s, and no neighbour used anything of it"
    m.report("ada", 9.0, 201, {"bo": 8})
    m.report("ada", 9.5, 202, {"bo": 9})
    assert (verdict(m).measured, verdict(m).met) == (1.0, True)
    assert verdict(m).line == "met: rejoin_s of bo is 1; expected: at most 2"


def test_the_slowest_of_several_returns_counts() -> None:
    m = measured("rejoin_s", KILL, at_most=2.0)
    for ready_s, wait_s in ((6.0, 3.0), (20.0, 1.0)):
        m.returned("bo", ready_s, 0)
        m.report("bo", ready_s + wait_s, 1, {"ada": 1})
        m.report("ada", ready_s + wait_s, 1, {"bo": int(ready_s)})
    assert verdict(m).measured == 3.0


def test_accuracy_is_a_mean_or_the_worst_of_those_meant() -> None:
    accuracies = {"ada": 0.9, "bo": None, "cy": 0.7}
    mean = measured("val_accuracy", SLOW, at_least=0.75)
    assert (verdict(mean, accuracies).measured, verdict(mean, accuracies).met) == (0.8, True)
    assert verdict(mean, accuracies).peers == ["ada", "cy"]
    assert "val_accuracy of 2 finished peers, their mean, is 0.8;" in verdict(mean, accuracies).line
    assert verdict(mean, {"bo": None}).reason == "no finished peer has an accuracy"
    worst = measured("val_accuracy", SLOW, at_least=0.75, peers=["ada", "cy"])
    assert (verdict(worst, accuracies).measured, verdict(worst, accuracies).met) == (0.7, False)
    best = measured("val_accuracy", SLOW, at_most=0.75, peers=["ada", "cy"])
    assert verdict(best, accuracies).measured == 0.9
    everybody = measured("val_accuracy", SLOW, peers="all")
    assert verdict(everybody, accuracies).reason == "bo and dee did not finish, or the task has no accuracy"


def test_many_peers_are_counted_not_listed() -> None:
    names = [f"peer-{n}" for n in range(9)]
    plan = FaultPlan.model_validate(
        {"expect": [{"metric": "val_accuracy", "peers": "all", "at_least": 0.5, "at_most": 0.9}]}
    )
    (one,) = Measurements(plan, names).verdicts(dict.fromkeys(names, 0.7))
    assert one.line() == "met: val_accuracy of 9 peers is 0.7; expected: at least 0.5 and at most 0.9"


def test_memory_of_a_long_run_is_bounded_and_its_figures_hold() -> None:
    m = measured("pace_ratio", {**SLOW, "from_s": 2000, "to_s": 4000}, peers=["ada"])
    train(m, "ada", 2000.25, 4200, 25, at=train(m, "ada", 0, 2000, 50))
    assert len(m._tracks["ada"].samples) <= SAMPLES_MAX
    assert verdict(m).measured == pytest.approx(0.5, abs=0.01)


@given(st.floats(0.5, 50), st.floats(0, 3), st.lists(st.floats(0, 60), min_size=2, max_size=30, unique=True))
def test_the_slope_of_a_straight_line_is_its_rate(rate: float, offset: float, times_s: list[float]) -> None:
    if max(times_s) - min(times_s) < 0.1:
        return
    assert _slope([(at_s, offset + rate * at_s) for at_s in sorted(times_s)]) == pytest.approx(rate, rel=1e-6)


def test_bounds() -> None:
    both = Expect(metric="val_accuracy", at_least=0.5, at_most=0.6)
    assert [both.met(value) for value in (0.4, 0.5, 0.6, 0.7)] == [False, True, True, False]
    assert Expect(metric="rejoin_s", at_most=5.0).met(0.0)
    assert both.bound() == "at least 0.5 and at most 0.6"

"""How the horizon follows the pace of the receiver and of each sender."""

from __future__ import annotations

import pytest

from gossipdistill.learning.pace import FLOOR_S, PERIODS, Gaps, Paces


def paces(step_s: float = 0.0, **words: list[float]) -> Paces:
    """A peer with steps at this pace, which has heard words at these times."""
    made = Paces()
    for step in range(4):
        made.steps.look(step * step_s)
    for sender, times in words.items():
        for at_s in times:
            made.heard(sender, at_s)
    return made


def test_a_quick_pace_leaves_the_floor() -> None:
    quick = paces(0.02, bo=[0.2 * n for n in range(10)])
    assert quick.horizon_s(10, "bo") == quick.horizon_s(10, "nobody") == quick.horizon_s(10) == FLOOR_S


def test_the_slower_of_both_counts() -> None:
    assert paces(2.0).horizon_s(10, "bo") == PERIODS * 20.0, "before its second word, my own pace"
    assert paces(0.02, bo=[0.0, 100.0]).horizon_s(10, "bo") == PERIODS * 100.0
    assert paces(60.0, bo=[0.2 * n for n in range(10)]).horizon_s(10, "bo") == PERIODS * 600.0
    assert paces(2.0, bo=[0.0, 50.0]).horizon_s(10, "bo", words=4) == PERIODS * 4 * 50.0


def test_a_straggler_has_its_own_horizon_and_does_not_lengthen_that_of_others_or_of_silence() -> None:
    made = paces(0.02, bo=[0.2 * n for n in range(10)], cy=[100.0 * n for n in range(10)])
    assert made.horizon_s(10, "cy") == PERIODS * 100.0
    assert made.horizon_s(10, "bo") == made.horizon_s(10) == FLOOR_S


@pytest.mark.parametrize("pause_s", [600.0, 1e6])
def test_one_pause_counts_for_nothing(pause_s: float) -> None:
    before = [20.0 * n for n in range(6)]
    made = paces(2.0, bo=[*before, before[-1] + pause_s, before[-1] + pause_s + 20.0])
    assert made.horizon_s(10, "bo") == PERIODS * 20.0
    made.steps.look(6.0 + pause_s)
    assert made.horizon_s(10, "bo") == PERIODS * 20.0


def test_words_that_come_in_pairs_are_no_quick_rhythm() -> None:
    made = paces(0.02, bo=[at_s for n in range(6) for at_s in (40.0 * n, 40.0 * n + 1.0)])
    assert made.horizon_s(10, "bo") == PERIODS * 39.0


def test_what_comes_out_of_order_or_at_one_time_is_no_gap() -> None:
    gaps = Gaps()
    for at_s in (5.0, 5.0, 3.0, 6.0):
        gaps.look(at_s)
    assert (gaps.last_s, gaps.usual_s) == (6.0, 1.0)

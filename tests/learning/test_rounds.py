"""Who is awaited in lockstep, and for how long."""

from __future__ import annotations

import pytest

from gossipdistill.ids import PeerName
from gossipdistill.learning.rounds import UNAWAITED_MAX, Lockstep

BO, CY, DEE = PeerName("bo"), PeerName("cy"), PeerName("dee")
ALL = frozenset({BO, CY, DEE})


def in_round(number: int, *to: PeerName, timeout_s: float = 5.0) -> Lockstep:
    rounds = Lockstep(timeout_s)
    rounds.posted(number, to)
    return rounds


def test_before_my_first_frame_nobody_is_awaited() -> None:
    assert Lockstep(5.0).awaited(0.0, ALL) == frozenset()
    assert in_round(0).awaited(0.0, ALL) == frozenset()


def test_each_neighbour_is_awaited_until_its_frame_of_my_round_is_here() -> None:
    rounds = in_round(0, BO, CY)
    assert rounds.awaited(1.0, ALL) == {BO, CY}
    rounds.heard(BO, 0)
    assert rounds.awaited(1.5, ALL) == {CY}
    rounds.heard(CY, 0)
    assert rounds.awaited(2.0, ALL) == frozenset()
    assert rounds.waited_s == 1.0
    rounds.posted(1, [BO, CY])
    rounds.heard(CY, 1)
    assert rounds.awaited(3.0, ALL) == {BO}


def test_a_frame_of_the_round_after_will_do() -> None:
    rounds = in_round(3, BO)
    rounds.heard(BO, 4)
    assert rounds.awaited(0.0, ALL) == frozenset()
    assert rounds.catch_up() is None


def test_one_who_dies_or_is_done_in_mid_round_is_not_awaited_any_more() -> None:
    rounds = in_round(0, BO, CY)
    rounds.heard(CY, 0)
    assert rounds.awaited(0.0, ALL) == {BO}
    assert rounds.awaited(0.1, frozenset({CY})) == frozenset()
    assert rounds.late == {}
    assert rounds.waited_s == pytest.approx(0.1)


def test_a_round_ends_at_its_time_out_and_the_late_one_is_awaited_again_once_it_is_heard() -> None:
    rounds = in_round(0, BO)
    assert rounds.awaited(10.0, ALL) == {BO}
    assert rounds.awaited(14.9, ALL) == {BO}
    assert rounds.awaited(15.0, ALL) == frozenset()
    assert rounds.late == {BO: 1}
    rounds.posted(1, [BO])
    assert rounds.awaited(15.1, ALL) == frozenset()  # not again for the same one
    rounds.posted(2, [BO])
    assert rounds.awaited(15.2, ALL) == frozenset()
    rounds.heard(BO, 0)  # late, but there: it will jump to the round of my next frames
    assert rounds.awaited(15.3, ALL) == frozenset()
    rounds.posted(3, [BO])
    assert rounds.awaited(15.3, ALL) == {BO}
    rounds.heard(BO, 3)
    assert rounds.awaited(15.4, ALL) == frozenset()


def tease(rounds: Lockstep, seconds: float) -> None:
    """Bo sends a frame whenever it is not awaited, so that it is, and is silent until it has been given up."""
    now, number = 0.0, 0
    while now < seconds:
        if rounds.awaited(now, ALL):
            now += 0.1
            continue
        now, number = now + 0.01, number + 1
        rounds.posted(number, [BO])
        rounds.heard(BO, number - 1)


def test_one_that_keeps_the_others_waiting_on_purpose_costs_ever_less() -> None:
    rounds = in_round(0, BO)
    tease(rounds, 1000.0)
    first_s = rounds.waited_s
    assert first_s <= 9 * 5.2
    tease(rounds := in_round(0, BO), 10_000.0)
    assert rounds.waited_s - first_s <= 9_000.0 / (UNAWAITED_MAX + 1) * 1.2


def test_one_that_is_late_now_and_then_is_awaited_as_before() -> None:
    rounds, now = in_round(0, BO), 0.0
    for number in range(1, 20):
        assert rounds.awaited(now, ALL) == {BO}
        assert rounds.awaited(now + 5.0, ALL) == frozenset()
        now += 1000.0
        rounds.posted(number, [BO])
        rounds.heard(BO, number - 1)
        rounds.posted(number, [BO])


def test_one_who_returns_is_not_awaited_before_it_is_heard() -> None:
    rounds = in_round(50, BO)
    rounds.heard(BO, 50)
    rounds.posted(51, [BO])
    assert rounds.awaited(0.0, frozenset()) == frozenset()  # it has died
    rounds.posted(52, [BO])  # and is back
    assert rounds.awaited(0.1, ALL) == frozenset()
    rounds.heard(BO, 7)
    rounds.posted(53, [BO])
    assert rounds.awaited(0.2, ALL) == {BO}
    rounds.heard(BO, 53)
    assert rounds.awaited(0.3, ALL) == frozenset()


def test_a_newcomer_in_mid_run_is_not_awaited_before_its_first_frame() -> None:
    rounds = in_round(8, BO)
    rounds.heard(BO, 8)
    rounds.posted(9, [BO, CY])
    assert rounds.awaited(0.0, ALL) == {BO}
    rounds.heard(CY, 9)
    rounds.heard(BO, 9)
    rounds.posted(10, [BO, CY])
    assert rounds.awaited(0.1, ALL) == {BO, CY}


def test_whoever_is_behind_its_neighbours_jumps_to_their_round() -> None:
    rounds = in_round(0, BO, CY)
    rounds.heard(BO, 40)
    assert rounds.catch_up() == 40
    assert rounds.awaited(0.0, ALL) == frozenset()
    assert rounds.catch_up() is None  # once


def test_a_minority_that_claims_to_be_ahead_moves_nobody() -> None:
    rounds = in_round(5, BO, CY, DEE)
    rounds.heard(BO, 10**12)
    rounds.heard(CY, 5)
    assert rounds.catch_up() is None
    rounds.heard(DEE, 20)
    assert rounds.catch_up() == 20

"""Robust mixing: a plain mean among friends, and little harm from a liar, whatever it says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.robust import Defence, Rule

ROBUST = [Rule.CLIP, Rule.TRIMMED_MEAN, Rule.MEDIAN]
WIDTH = 4
honest_values = st.floats(-10.0, 10.0, width=32)
any_values = st.floats(allow_nan=False, allow_infinity=False, width=32)


def vectors(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(values, min_size=WIDTH, max_size=WIDTH)


class Point(nn.Module):
    """WIDTH numbers, half of them a parameter and half a buffer, and a counter."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(values[:2]))
        self.register_buffer("running", torch.tensor(values[2:]))
        self.register_buffer("count", torch.tensor(7))


def arrays(values: list[float]) -> dict[str, Tensor]:
    return {"weight": torch.tensor(values[:2]), "running": torch.tensor(values[2:]), "count": torch.tensor(99.0)}


def value(model: Point) -> list[float]:
    assert int(model.count) == 7, "a counter is no weight"
    return [*model.weight.tolist(), *model.running.tolist()]


def mixed(
    rule: Rule, own: list[float], others: list[list[float]], liars_max: int = 1, fresh: int | None = None
) -> list[float]:
    """Where `own` comes to when all of `others` are known and the first `fresh` of them are new."""
    model = Point(own)
    weight = 1.0 / (1 + len(others))
    named = {f"p{number}": (weight, arrays(one)) for number, one in enumerate(others)}
    defence = Defence(rule, liars_max, horizon_of=lambda _: 30.0)
    if fresh is not None:
        defence.mix_in(Point(own), dict(list(named.items())[fresh:]), now=0.0)
        named = dict(list(named.items())[:fresh])
    defence.mix_in(model, named, now=1.0)
    return value(model)


@settings(deadline=None, max_examples=60)
@given(rule=st.sampled_from(ROBUST), own=vectors(honest_values), count=st.integers(2, 5))
def test_where_all_agree_nothing_moves(rule: Rule, own: list[float], count: int) -> None:
    assert mixed(rule, own, [own] * count) == pytest.approx(own, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(own=vectors(honest_values), other=vectors(honest_values), count=st.integers(2, 5))
def test_neighbours_of_one_mind_are_met_as_by_the_plain_mean(own: list[float], other: list[float], count: int) -> None:
    """All neighbours say the same: clipping leaves them as they are."""
    plain = Point(own)
    mix_in(plain, [(1.0 / (1 + count), arrays(other))] * count)
    assert mixed(Rule.CLIP, own, [other] * count) == pytest.approx(value(plain), rel=1e-5, abs=1e-5)


@settings(deadline=None, max_examples=100)
@given(own=vectors(honest_values), others=st.lists(vectors(honest_values), min_size=2, max_size=5))
def test_without_liars_to_expect_all_are_the_plain_mean(own: list[float], others: list[list[float]]) -> None:
    plain = Point(own)
    mix_in(plain, [(1.0 / (1 + len(others)), arrays(other)) for other in others])
    for rule in (Rule.CLIP, Rule.TRIMMED_MEAN):
        assert mixed(rule, own, others, liars_max=0) == pytest.approx(value(plain), rel=1e-5, abs=1e-5)


one_liar = given(
    own=vectors(honest_values),
    honest=st.lists(vectors(honest_values), min_size=1, max_size=5),
    lie=vectors(any_values),
    fresh=st.integers(1, 6),
)


@settings(deadline=None, max_examples=200)
@one_liar
def test_clipping_bounds_what_one_neighbour_can_do(
    own: list[float], honest: list[list[float]], lie: list[float], fresh: int
) -> None:
    """Nobody pulls further than the honest neighbour who is furthest away."""
    after = mixed(Rule.CLIP, own, [lie, *honest], fresh=min(fresh, 1 + len(honest)))
    furthest = max(math.dist(own, one) for one in honest)
    assert math.dist(own, after) <= furthest * (1 + 1e-5) + 1e-4


@settings(deadline=None, max_examples=200)
@one_liar
def test_the_trimmed_mean_stays_among_the_honest(
    own: list[float], honest: list[list[float]], lie: list[float], fresh: int
) -> None:
    after = mixed(Rule.TRIMMED_MEAN, own, [lie, *honest], fresh=min(fresh, 1 + len(honest)))
    for place, entry in enumerate(after):
        among = [own[place], *(one[place] for one in honest)]
        assert min(among) - 1e-5 <= entry <= max(among) + 1e-5


@settings(deadline=None, max_examples=200)
@one_liar
def test_the_median_of_the_mixed_nearest_moves_by_at_most_twice_the_honest_spread(
    own: list[float], honest: list[list[float]], lie: list[float], fresh: int
) -> None:
    """Whom an honest model is mixed with is no further from it than the furthest honest one, liar or not; and of the
    mixed ones the honest are the majority."""
    after = mixed(Rule.MEDIAN, own, [lie, *honest], fresh=min(fresh, 1 + len(honest)))
    spread = max(math.dist(one, other) for one in [own, *honest] for other in honest)
    for place, entry in enumerate(after):
        assert abs(entry - own[place]) <= 2 * spread * (1 + 1e-5) + 1e-4


def test_the_median_does_not_see_a_liar_who_is_further_than_the_honest_are() -> None:
    own, honest = [0.0] * WIDTH, [[1.0] * WIDTH, [3.0] * WIDTH, [2.0] * WIDTH]
    for lie in (50.0, -50.0, 1e38):
        assert mixed(Rule.MEDIAN, own, [*honest, [lie] * WIDTH]) == pytest.approx([1.5] * WIDTH)


@settings(deadline=None, max_examples=60)
@given(rule=st.sampled_from(ROBUST), lies=st.lists(vectors(any_values), min_size=1, max_size=2))
def test_nobody_is_believed_where_all_neighbours_may_lie(rule: Rule, lies: list[list[float]]) -> None:
    assert mixed(rule, [1.0] * WIDTH, lies, liars_max=2) == [1.0] * WIDTH


def test_the_formulas_by_hand() -> None:
    own, others = [0.0] * WIDTH, [[1.0] * WIDTH, [3.0] * WIDTH, [50.0] * WIDTH]
    # tau is the distance of the second: all three pull by 1, 3 and 3 times a quarter.
    assert mixed(Rule.CLIP, own, others) == pytest.approx([7 / 4] * WIDTH)
    assert mixed(Rule.TRIMMED_MEAN, own, others) == pytest.approx([2.0] * WIDTH)
    # Nearest to 0, 1 and 3 are those three, to 50 they are 1, 3 and itself: the median of 4/3, 4/3, 4/3 and 18.
    assert mixed(Rule.MEDIAN, own, others) == pytest.approx([4 / 3] * WIDTH)
    # One of three is new: clipping takes its quarter alone, the others go a third of the way.
    assert mixed(Rule.CLIP, own, others, fresh=1) == pytest.approx([1 / 4] * WIDTH)
    assert mixed(Rule.MEDIAN, own, others, fresh=1) == pytest.approx([4 / 9] * WIDTH)


def test_what_is_beyond_the_horizon_is_forgotten() -> None:
    model = Point([0.0] * WIDTH)
    defence = Defence(Rule.CLIP, 1, horizon_of=lambda _: 30.0)
    defence.mix_in(model, {"bo": (0.0, arrays([1.0] * WIDTH))}, now=0.0)
    defence.mix_in(model, {"cy": (0.5, arrays([1.0] * WIDTH))}, now=30.0)
    assert list(defence.known) == ["cy"]
    assert value(model) == [0.0] * WIDTH, "a single neighbour, who may lie"

"""Mixing matrices and the judgement of schedules, held against what the papers say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.errors import ConfigError
from gossipdistill.topology import (
    Computed,
    Schedule,
    adjacency,
    generators,
    judge,
    metropolis,
    uniform_column,
    uniform_row,
)


def names(n: int) -> tuple[str, ...]:
    return tuple(f"p{k}" for k in range(n))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Schedule, int, frozenset[str]]:
    """Any directed schedule of two phases, or a ready-made one, with any subset alive."""
    peers = names(draw(st.integers(1, 7)))
    pairs = [[a, b] for a in peers for b in peers if a != b]
    phase = st.lists(st.sampled_from(pairs), unique_by=tuple) if pairs else st.just([])
    schedule = draw(
        st.one_of(
            st.builds(lambda one, two: generators.phases(peers, phases=[one, two]), phase, phase),
            st.sampled_from([build(peers) for build in (generators.ring, generators.one_peer_exponential)]),
            st.sampled_from([build(peers) for build in (generators.star, generators.complete)]),
        )
    )
    return schedule, draw(st.integers(0, 9)), frozenset(draw(st.sets(st.sampled_from(peers))))


@given(scenes())
def test_weights_sum_to_one_whoever_is_alive(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    for living in (None, alive):
        rows, columns = uniform_row(schedule, exchange, living), uniform_column(schedule, exchange, living)
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-12)
        np.testing.assert_allclose(columns.sum(axis=0), 1.0, atol=1e-12)
        assert rows.min() >= 0.0
        assert columns.min() >= 0.0
        links = adjacency(schedule, exchange, living)
        for weights in (rows, columns):
            np.testing.assert_array_equal(weights > 0.0, links | np.eye(len(links), dtype=bool))


@given(scenes())
def test_metropolis_is_symmetric_and_doubly_stochastic(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    links = adjacency(schedule, exchange, alive)
    if not np.array_equal(links, links.T):
        with pytest.raises(ConfigError, match="both directions"):
            metropolis(schedule, exchange, alive)
        return
    weights = metropolis(schedule, exchange, alive)
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-12)
    assert weights.min() >= 0.0


@given(scenes())
def test_the_dead_keep_what_they_have_and_say_nothing(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    for dead in (place for name, place in schedule.places.items() if name not in alive):
        for weights in (uniform_row(schedule, exchange, alive), uniform_column(schedule, exchange, alive)):
            assert weights[dead, dead] == 1.0
            assert weights[dead].sum() == weights[:, dead].sum() == 1.0


def test_matrices_written_out() -> None:
    schedule = generators.edges(names(3), edges=[["p0", "p1"], ["p0", "p2"], ["p1", "p2"]])
    rows = np.array([[6, 0, 0], [3, 3, 0], [2, 2, 2]]) / 6
    columns = np.array([[2, 0, 0], [2, 3, 0], [2, 3, 6]]) / 6
    star = np.array([[1, 1, 1], [1, 2, 0], [1, 0, 2]]) / 3
    np.testing.assert_allclose(uniform_row(schedule, 0), rows)
    np.testing.assert_allclose(uniform_column(schedule, 0), columns)
    np.testing.assert_allclose(metropolis(generators.star(names(3)), 0), star, atol=1e-15)


@pytest.mark.parametrize("n", range(4, 33, 2))
def test_gap_of_the_static_exponential_graph(n: int) -> None:
    # 2110.13363: 2 / (1 + ceil(log2 n)) for even n.
    judgement = judge(generators.exponential(names(n)))
    assert judgement.spectral_gap == pytest.approx(2 / (1 + math.ceil(math.log2(n))), abs=1e-9)
    assert judgement.doubly_stochastic
    assert not judgement.symmetric


@pytest.mark.parametrize(("n", "gap"), [(8, 0.195), (32, 0.013)])
def test_gap_of_the_ring(n: int, gap: float) -> None:
    judgement = judge(generators.ring(names(n)))
    assert judgement.spectral_gap == pytest.approx(gap, abs=5e-4)
    assert judgement.spectral_gap == pytest.approx(2 / 3 * (1 - math.cos(2 * math.pi / n)), abs=1e-9)
    assert judgement.exact_after is None


@pytest.mark.parametrize("n", range(2, 20))
def test_one_peer_exponential_averages_exactly_iff_n_is_a_power_of_two(n: int) -> None:
    # 2110.13363 claims both directions.
    judgement = judge(generators.one_peer_exponential(names(n)))
    assert judgement.strongly_connected
    if n & (n - 1) == 0:
        assert judgement.exact_after == n.bit_length() - 1
        assert judgement.spectral_gap == 1.0
    else:
        assert judgement.exact_after is None
        assert judgement.spectral_gap is not None
        assert 0.0 < judgement.spectral_gap < 1.0


@pytest.mark.parametrize(("n", "rounds", "norm"), [(6, 3, 0.217), (12, 4, 0.209)])
def test_what_the_one_peer_schedule_leaves_over_for_other_n(n: int, rounds: int, norm: float) -> None:
    schedule = generators.one_peer_exponential(names(n))
    assert schedule.period == rounds
    product = np.linalg.multi_dot([uniform_row(schedule, k) for k in reversed(range(rounds))])
    assert np.linalg.norm(product - 1 / n, 2) == pytest.approx(norm, abs=5e-4)
    # Circulant matrices are normal, so that the norm is the second eigenvalue of the period.
    gap = judge(schedule).spectral_gap
    assert gap is not None
    assert (1 - gap) ** rounds == pytest.approx(norm, abs=5e-4)


def test_a_schedule_indexed_by_step_is_judged_as_it_is_visited() -> None:
    schedule = generators.one_peer_exponential(names(4))
    assert judge(schedule).exact_after == 2
    hop_1 = judge(schedule, visited_every=10)  # one neighbour for ever: a directed ring
    assert (hop_1.period, hop_1.strongly_connected, hop_1.exact_after) == (1, True, None)
    assert hop_1.spectral_gap == judge(generators.directed_ring(names(4))).spectral_gap
    hop_2 = judge(schedule, visited_every=10, starting_at=9)  # two pairs that never hear of one another
    assert (list(hop_2.exchanges), hop_2.strongly_connected, hop_2.spectral_gap) == ([9], False, 0.0)
    assert hop_2.groups == (("p0", "p2"), ("p1", "p3"))
    eight = generators.one_peer_exponential(names(8))
    assert judge(eight, visited_every=10).period == 3  # 10 and 3 have no common divisor: all hops are met
    assert judge(eight, visited_every=3).exact_after is None


def test_complete_and_single_average_at_once() -> None:
    assert judge(generators.complete(names(5))).exact_after == 1
    single = judge(generators.ring(names(1)))
    assert (single.exact_after, single.strongly_connected, single.in_degree) == (1, True, (0, 0))


def test_groups_that_never_meet_are_named() -> None:
    apart = judge(generators.edges(names(4), edges=[["p0", "p2"], ["p1", "p3"]], both_ways=True))
    assert not apart.strongly_connected
    assert not apart.weakly_connected
    assert apart.groups == (("p0", "p2"), ("p1", "p3"))
    assert apart.spectral_gap == 0.0
    one_way = judge(generators.edges(names(2), edges=[["p0", "p1"]]))
    assert (one_way.strongly_connected, one_way.weakly_connected) == (False, True)


def test_phases_are_connected_over_a_period_though_not_in_one_exchange() -> None:
    schedule = generators.phases(names(3), phases=[[["p0", "p1"]], [["p1", "p2"]]], both_ways=True)
    judgement = judge(schedule)
    assert judgement.strongly_connected
    assert not judgement.connected_each
    assert (judgement.in_degree, judgement.out_degree) == ((0, 1), (0, 1))
    assert not judge(schedule, visited_every=2).strongly_connected


def test_uneven_one_way_links_do_not_keep_the_mean() -> None:
    uneven = [["p0", "p1"], ["p1", "p2"], ["p2", "p0"], ["p0", "p2"]]
    judgement = judge(generators.edges(names(3), edges=uneven))
    assert judgement.weights == "uniform"
    assert judgement.row_stochastic
    assert not judgement.column_stochastic
    assert not judgement.doubly_stochastic
    assert judgement.out_degree == (1, 2)


def test_slow_arrival_over_a_long_period_is_not_called_exact() -> None:
    # The same ring repeated 64 times as an aperiodic rule: rounding reaches 11^T/n, the rate stays that of the ring.
    ring = generators.ring(names(4))
    long = Computed(kind="python", peers=ring.peers, rule=ring.out_neighbours)
    judgement = judge(long)
    assert (judgement.period, judgement.periodic, judgement.exact_after) == (64, False, None)
    assert judgement.spectral_gap == pytest.approx(2 / 3, abs=1e-6)


def test_the_gap_of_very_many_peers_is_left_open() -> None:
    judgement = judge(generators.directed_ring(names(513)))
    assert judgement.spectral_gap is None
    assert judgement.exact_after is None
    assert judgement.strongly_connected

"""Who sends to whom, and what a death changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossipdistill.errors import ConfigError
from gossipdistill.topology import Schedule, generators
from gossipdistill.topology.schedule import Circulant, Computed, Listed


def names(n: int) -> tuple[str, ...]:
    return tuple(f"p{k}" for k in range(n))


def chain(peers: Sequence[str]) -> list[list[str]]:
    return [[a, b] for a, b in itertools.pairwise(peers)]


def every_kind(n: int) -> list[Schedule]:
    """One schedule of each kind that n peers can have."""
    peers = names(n)
    made = [
        generators.ring(peers),
        generators.directed_ring(peers),
        generators.complete(peers),
        generators.star(peers),
        generators.exponential(peers),
        generators.one_peer_exponential(peers),
        generators.random_regular(peers, degree=min(2, n - 1), seed=n),
        generators.torus(peers, rows=1),
        generators.edges(peers, edges=chain(peers)),
        generators.phases(peers, phases=[chain(peers), []], both_ways=True),
        Computed(
            kind="python", peers=peers, rule=lambda peer, k: tuple(p for p in peers if p != peer and (k + len(p)) % 2)
        ),
    ]
    if n >= 4 and n % 2 == 0:
        made.append(generators.random_regular(peers, degree=3, seed=n))
    return made


schedules = st.integers(1, 9).flatmap(lambda n: st.sampled_from(every_kind(n)))
GAP_CLOSING = {"ring", "directed_ring", "one_peer_exponential"}


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Schedule, int, frozenset[str]]:
    schedule = draw(schedules)
    alive = draw(st.sets(st.sampled_from(schedule.peers)))
    return schedule, draw(st.integers(0, 40)), frozenset(alive)


@given(scenes())
def test_nobody_sends_to_itself_or_twice_to_one(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    for peer in schedule.peers:
        for receivers in (schedule.out_neighbours(peer, exchange), schedule.living(peer, exchange, alive)):
            assert peer not in receivers
            assert len(set(receivers)) == len(receivers)
            assert set(receivers) <= set(schedule.peers)


@given(scenes())
def test_in_and_out_are_two_views_of_the_same_links(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    links = set(schedule.edges(exchange))
    assert links == {(a, b) for b in schedule.peers for a in schedule.in_neighbours(b, exchange)}
    living = {(a, b) for a in alive for b in schedule.living(a, exchange, alive)}
    assert living == {(a, b) for b in alive for a in schedule.living_in(b, exchange, alive)}


@given(scenes())
def test_no_death_changes_a_link_between_the_living(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    for peer in alive:
        kept = [other for other in schedule.out_neighbours(peer, exchange) if other in alive]
        living = schedule.living(peer, exchange, alive)
        assert set(living) <= alive
        if schedule.kind in GAP_CLOSING:
            assert set(kept) <= set(living)
        else:
            assert list(living) == kept


@given(scenes())
def test_with_everybody_alive_nothing_is_skipped(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, _ = scene
    for peer in schedule.peers:
        assert schedule.living(peer, exchange, frozenset(schedule.peers)) == schedule.out_neighbours(peer, exchange)


@given(scenes())
def test_a_gap_closes_so_that_a_living_peer_always_has_somebody(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, alive = scene
    if schedule.closes_gaps:
        for peer in alive:
            assert bool(schedule.living(peer, exchange, alive)) == (len(alive) > 1)


@given(scenes())
def test_periodic_schedules_repeat(scene: tuple[Schedule, int, frozenset[str]]) -> None:
    schedule, exchange, _ = scene
    if schedule.periodic:
        assert schedule.edges(exchange) == schedule.edges(exchange + schedule.period)


@given(st.integers(2, 12), st.data())
def test_the_living_of_a_ring_are_a_ring_again(n: int, data: st.DataObject) -> None:
    peers = names(n)
    alive = data.draw(st.sets(st.sampled_from(peers), min_size=1))
    order = [peer for peer in peers if peer in alive]
    small = generators.ring(order)
    for peer in order:
        assert generators.ring(peers).living(peer, 0, frozenset(alive)) == small.out_neighbours(peer, 0)


def test_a_one_peer_schedule_goes_on_from_the_dead_in_the_same_direction() -> None:
    schedule = generators.one_peer_exponential(names(8))
    alive = frozenset(schedule.peers) - {"p4", "p5"}
    assert schedule.out_neighbours("p0", 2) == ("p4",)
    assert schedule.living("p0", 2, alive) == ("p6",)
    assert schedule.living("p3", 1, alive) == ("p6",)  # p5 is dead
    assert schedule.living("p1", 2, frozenset({"p1", "p2"})) == ("p2",)  # once around, past p1 itself


def test_a_schedule_advances_per_exchange() -> None:
    schedule = generators.one_peer_exponential(names(8))
    assert [schedule.out_neighbours("p0", k) for k in range(4)] == [("p1",), ("p2",), ("p4",), ("p1",)]


def test_an_unknown_peer_is_refused_with_the_nearest_names() -> None:
    for schedule in every_kind(4):
        with pytest.raises(ConfigError, match=r"'p33' is not in the roster; did you mean p3"):
            schedule.out_neighbours("p33", 0)


def test_a_roster_without_peers_or_with_one_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one peer"):
        Circulant(kind="ring", peers=(), hops=((1,),))
    with pytest.raises(ConfigError, match="'ada' is named twice"):
        Listed(kind="edges", peers=("ada", "bo", "ada"), phases=((),))


def test_a_declared_period_is_held_whatever_the_rule_does() -> None:
    seen: list[int] = []

    def rule(peer: str, exchange: int) -> tuple[str, ...]:
        seen.append(exchange)
        return ()

    schedule = Computed(kind="python", peers=("ada", "bo"), rule=rule, repeats_after=3)
    schedule.out_neighbours("ada", 7)
    assert seen == [1]
    assert (schedule.period, schedule.periodic) == (3, True)

"""The ready-made kinds, one by one."""

from __future__ import annotations

import networkx as nx
import pytest

from gossipdistill.errors import ConfigError
from gossipdistill.topology import KINDS, Schedule, generators


def names(n: int) -> tuple[str, ...]:
    return tuple(f"p{k}" for k in range(n))


def degrees(schedule: Schedule) -> set[int]:
    return {len(schedule.out_neighbours(peer, 0)) for peer in schedule.peers}


@pytest.mark.parametrize("kind", ["ring", "directed_ring", "complete", "star", "exponential", "one_peer_exponential"])
def test_one_peer_talks_to_nobody_and_two_to_each_other(kind: str) -> None:
    assert KINDS[kind](names(1)).edges(0) == ()
    assert set(KINDS[kind](names(2)).edges(0)) == {("p0", "p1"), ("p1", "p0")}


def test_every_kind_bears_its_own_name() -> None:
    required: dict[str, dict[str, list[list[str]]]] = {"edges": {"edges": []}, "phases": {"phases": [[]]}}
    for name, build in KINDS.items():
        assert build(names(4), **required.get(name, {})).kind == name


def test_ring() -> None:
    schedule = generators.ring(names(5))
    assert schedule.out_neighbours("p0", 3) == ("p1", "p4")
    assert schedule.in_neighbours("p0", 3) == ("p1", "p4")
    assert generators.directed_ring(names(5)).out_neighbours("p4", 0) == ("p0",)


def test_star_has_the_first_peer_or_the_named_one_as_hub() -> None:
    assert generators.star(names(3)).out_neighbours("p0", 0) == ("p1", "p2")
    assert generators.star(names(3), hub="p2").out_neighbours("p0", 0) == ("p2",)
    with pytest.raises(ConfigError, match="did you mean p2") as caught:
        generators.star(names(3), hub="p22")
    assert (caught.value.key, caught.value.value) == ("hub", "p22")


@pytest.mark.parametrize(("n", "hops"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (16, 4), (17, 5)])
def test_exponential_hops_are_the_powers_of_two_below_n(n: int, hops: int) -> None:
    # 1811.10792: 2^0 .. 2^floor(log2(n-1)).
    static, one_peer = generators.exponential(names(n)), generators.one_peer_exponential(names(n))
    assert static.out_neighbours("p0", 0) == tuple(f"p{2**k}" for k in range(hops))
    assert one_peer.period == hops
    assert [one_peer.out_neighbours("p0", k) for k in range(hops)] == [(f"p{2**k}",) for k in range(hops)]


def test_random_regular_is_regular_connected_and_given_by_its_seed() -> None:
    one = generators.random_regular(names(10), degree=3, seed=7)
    assert degrees(one) == {3}
    assert one.edges(0) == generators.random_regular(names(10), degree=3, seed=7).edges(0)
    assert one.edges(0) != generators.random_regular(names(10), degree=3, seed=8).edges(0)
    for seed in range(20):  # degree 2 falls into several circles more often than not
        graph = nx.DiGraph(generators.random_regular(names(12), degree=2, seed=seed).edges(0))
        assert nx.is_strongly_connected(graph)
        assert graph.number_of_edges() == 24


@pytest.mark.parametrize(
    ("n", "degree", "reason"),
    [
        (4, 4, "4 peers have at most 3 neighbours"),
        (5, 3, "5 peers x 3 is odd"),
        (1, 3, "at most 0"),
        (4, -1, "at most 3"),
    ],
)
def test_random_regular_says_why_it_cannot_be(n: int, degree: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        generators.random_regular(names(n), degree=degree)
    assert caught.value.key == "degree"


def test_torus_is_as_square_as_possible_and_wraps() -> None:
    schedule = generators.torus(names(9))
    assert degrees(schedule) == {4}
    assert schedule.out_neighbours("p0", 0) == ("p1", "p2", "p3", "p6")
    assert degrees(generators.torus(names(8))) == {3}  # 2 x 4: up and down are the same peer
    assert degrees(generators.torus(names(12), rows=3)) == {4}
    assert [degrees(generators.torus(names(n))) for n in (1, 2, 3, 4)] == [{0}, {1}, {2}, {2}]


def test_torus_says_why_it_cannot_be() -> None:
    with pytest.raises(ConfigError, match="7 is prime; take 6 or 8 peers"):
        generators.torus(names(7))
    with pytest.raises(ConfigError, match=r"8 peers do not fill 3 rows; accepted: 1, 2, 4, 8"):
        generators.torus(names(8), rows=3)
    with pytest.raises(ConfigError, match="do not fill 0 rows"):
        generators.torus(names(8), rows=0)


def test_edges_go_one_way_unless_both_are_asked_for() -> None:
    assert generators.edges(names(3), edges=[["p0", "p1"]]).edges(0) == (("p0", "p1"),)
    assert len(generators.edges(names(3), edges=[["p0", "p1"]], both_ways=True).edges(0)) == 2
    generators.edges(names(3), edges=[["p0", "p1"], ["p1", "p0"]])


@pytest.mark.parametrize(
    ("edges", "both_ways", "reason"),
    [
        ([["p0", "p1"], ["p0", "p0"]], False, r"edges\[1\] = \['p0', 'p0'\]: a peer does not send to itself"),
        ([["p0", "p1"], ["p0", "p1"]], False, "listed twice"),
        ([["p0", "p1"], ["p1", "p0"]], True, "listed twice; with both_ways each link is written once"),
        ([["p0", "p11"]], False, "peer 'p11' is not in the roster; did you mean p1"),
    ],
)
def test_edges_refuse_what_makes_no_sense(edges: list[list[str]], both_ways: bool, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        generators.edges(names(3), edges=edges, both_ways=both_ways)
    with pytest.raises(ConfigError, match=reason.replace(r"edges\[1\]", r"phases\[1\]\[1\]")):
        generators.phases(names(3), phases=[[], edges], both_ways=both_ways)


def test_phases_alternate() -> None:
    schedule = generators.phases(names(3), phases=[[["p0", "p1"]], [["p1", "p2"]]])
    assert [schedule.edges(k) for k in range(3)] == [(("p0", "p1"),), (("p1", "p2"),), (("p0", "p1"),)]

"""A graph that falls apart is said once, with its groups, and so is its coming together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Set

import pytest

from gossipdistill.topology import KINDS, Connection, Schedule, groups_of, load_topology

FOUR = ("ada", "bo", "cy", "dee")


class Lazy(Set[str]):
    """A set that knows its members without holding them, and says when it is walked through."""

    def __init__(self, *absent: str) -> None:
        self.absent, self.walks = frozenset(absent), 0

    def __contains__(self, name: object) -> bool:
        return name not in self.absent

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return iter(())

    def __len__(self) -> int:
        return 5000 - len(self.absent)


def line(*names: str) -> Schedule:
    return KINDS["edges"](names, edges=[list(pair) for pair in itertools.pairwise(names)], both_ways=True)


def test_peers_that_have_not_come_yet_are_no_reason_for_an_alarm() -> None:
    connection = Connection(line(*FOUR))
    for living in ({"ada"}, {"ada", "dee"}, {"ada", "cy", "dee"}, set(FOUR)):
        assert connection.look(living) is None


def test_a_death_that_parts_the_living_is_said_once_with_the_groups() -> None:
    connection = Connection(line(*FOUR))
    assert connection.look(set(FOUR)) is None
    change = connection.look({"ada", "cy", "dee"})
    assert change is not None
    assert change.groups == (("ada",), ("cy", "dee"))
    assert change.reason() == ("without bo the living are 2 groups, and news does not get round between ada; cy, dee")
    assert connection.look({"ada", "cy", "dee"}) is None
    worse = connection.look({"ada", "dee"})
    assert worse is not None
    assert worse.groups == (("ada",), ("dee",))
    healed = connection.look(set(FOUR))
    assert healed is not None
    assert healed.connected
    assert connection.look(set(FOUR)) is None


def test_a_death_at_the_end_of_a_line_parts_nobody() -> None:
    connection = Connection(line(*FOUR))
    connection.look(set(FOUR))
    assert connection.look({"ada", "bo", "cy"}) is None


@pytest.mark.parametrize("kind", ["ring", "directed_ring", "one_peer_exponential", "complete"])
def test_who_closes_gaps_or_knows_everybody_is_never_parted(kind: str) -> None:
    names = tuple(f"p{place}" for place in range(7))
    schedule = KINDS[kind](names)
    for size in range(1, 8):
        for living in itertools.combinations(names, size):
            assert groups_of(schedule, frozenset(living)) == (living,)


def test_a_directed_chain_is_not_connected_even_though_it_hangs_together() -> None:
    schedule = KINDS["edges"](FOUR, edges=[["ada", "bo"], ["bo", "cy"], ["cy", "dee"], ["dee", "ada"]])
    assert groups_of(schedule, frozenset(FOUR)) == (FOUR,)
    assert groups_of(schedule, frozenset(FOUR) - {"dee"}) == (("ada",), ("bo",), ("cy",))


def test_large_graphs_are_not_looked_at() -> None:
    names = tuple(f"p{place}" for place in range(200))
    assert groups_of(KINDS["complete"](names), frozenset(names)) is None
    connection = Connection(KINDS["complete"](names))
    connection.look(frozenset(names))
    assert connection.look(frozenset(names[1:])) is None


def test_a_long_list_of_names_is_cut() -> None:
    names = tuple(f"p{place:02}" for place in range(30))
    star = load_topology("star", names)
    connection = Connection(star)
    connection.look(frozenset(names))
    change = connection.look(frozenset(names[1:]))
    assert change is not None
    assert "without p00 the living are 29 groups" in change.reason()
    assert "and 25 more" in change.reason()


@pytest.mark.parametrize("kind", ["ring", "directed_ring", "complete", "exponential", "one_peer_exponential"])
def test_senders_and_receivers_agree_whoever_is_dead(kind: str) -> None:
    for count in range(1, 8):
        names = tuple(f"p{place}" for place in range(count))
        schedule = KINDS[kind](names)
        for bits, me, exchange in itertools.product(range(2**count), names, range(schedule.period)):
            alive = frozenset(name for place, name in enumerate(names) if bits >> place & 1) - {me}
            senders = tuple(n for n in names if n in alive and me in schedule.living(n, exchange, alive | {me}))
            assert schedule.living_in(me, exchange, alive) == senders, (count, bits, me, exchange)


@pytest.mark.parametrize("kind", ["ring", "one_peer_exponential", "exponential", "torus"])
def test_five_thousand_peers_are_asked_for_neighbours_only(kind: str) -> None:
    names = tuple(f"p{place}" for place in range(5000))
    schedule = KINDS[kind](names)
    alive = Lazy(*schedule.out_neighbours("p7", 0))
    for exchange in range(schedule.period):
        assert schedule.living("p7", exchange, alive) is not None
        schedule.living_in("p7", exchange, alive)
    assert alive.walks == 0
    if schedule.closes_gaps:
        assert schedule.living("p7", 0, alive)
        assert not set(schedule.living("p7", 0, alive)) & alive.absent
    else:
        assert schedule.living("p7", 0, alive) == ()

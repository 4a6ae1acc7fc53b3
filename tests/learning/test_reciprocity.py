"""Who takes mass and never gives any, and how much of it may be on its way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.ids import PeerName
from gossipdistill.learning.mass import room_for
from gossipdistill.learning.reciprocity import DRY_MAX, PAUSE_S, UNANSWERED_MAX, Reciprocity

ADA, BO = PeerName("ada"), PeerName("bo")


def test_whoever_never_gives_is_given_nothing_for_a_while_and_then_tried_again() -> None:
    books = Reciprocity()
    found = [books.gave({ADA, BO}, {"ada", "bo"}, 1.0) for _ in range(UNANSWERED_MAX - 1)]
    assert not any(found)
    books.came(BO)
    assert books.gave({ADA, BO}, {"ada", "bo"}, 1.0) == [ADA]
    assert books.welcome((ADA, BO), 3.0, 1.0 + 0.99 * PAUSE_S) == (BO,)
    assert books.welcome((ADA, BO), 3.0, 1.0 + PAUSE_S) == (ADA, BO)
    again = [books.gave({ADA}, {"ada"}, 40.0) for _ in range(UNANSWERED_MAX)]
    assert again == [[]] * (UNANSWERED_MAX - 1) + [[ADA]]
    books.came(ADA)
    assert books.welcome((ADA,), 3.0, 40.0) == (ADA,), "what comes ends the pause"


def test_whoever_owes_much_gets_no_share_of_the_last_quarter() -> None:
    books = Reciprocity()
    for _ in range(DRY_MAX):
        books.gave({ADA, BO}, {"ada", "bo"}, 0.0)
    books.came(BO)
    assert books.welcome((ADA, BO), 0.75, 0.0) == (ADA, BO)
    assert books.welcome((ADA, BO), 0.74, 0.0) == (BO,)
    assert books.welcome((ADA, BO), 0.01, 0.0) == (BO,)


def test_on_a_one_way_link_nothing_is_expected_back_but_a_dry_peer_keeps_a_quarter() -> None:
    books = Reciprocity()
    for number in range(3 * UNANSWERED_MAX):
        assert books.welcome((ADA,), 0.4, 0.0) == (() if number >= DRY_MAX else (ADA,))
        assert books.welcome((ADA,), 0.5, 0.0) == (ADA,)
        assert books.gave({ADA}, set(), 0.0) == []
    books.came(BO)
    assert books.welcome((ADA,), 0.01, 0.0) == (ADA,)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.floats(0.0, 2.0), st.sampled_from("abc"))))
def test_what_is_on_its_way_on_one_link_is_at_most_half_of_all(rounds: list[tuple[set[str], float, str]]) -> None:
    """However many parcels a link may carry."""
    weight, under_way = 1.0, dict[PeerName, float]()
    for names, came, settled in rounds:
        room = room_for(weight, [PeerName(name) for name in sorted(names)], under_way)
        share = min([1.0 / (1 + len(room)), *room.values()]) * weight
        weight -= len(room) * share
        for name in room:
            under_way[name] = under_way.get(name, 0.0) + share
        half = 0.5 * (weight + sum(under_way.values()))
        assert all(under_way[name] <= half + 1e-12 for name in room)
        assert weight > 0.0
        weight += came
        under_way.pop(PeerName(settled), None)


def test_the_first_parcel_of_a_link_is_a_whole_share_and_who_holds_nothing_gives_nothing() -> None:
    assert room_for(0.7, [PeerName("a")], {}) == {"a": 0.5}
    assert room_for(0.5, [PeerName("a")], {PeerName("a"): 0.5}) == {}
    assert room_for(0.0, [PeerName("a")], {PeerName("b"): 0.5}) == {}

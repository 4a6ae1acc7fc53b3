"""Who of a topology can be heard and told, and from when on nobody asks any more."""

from __future__ import annotations

from gossipdistill.ids import PeerName
from gossipdistill.learning.company import Attempt, Company, unexchanged
from gossipdistill.learning.neighbours import Neighbours
from gossipdistill.messages import Neighbourhood
from gossipdistill.topology import Schedule, load_topology

NAMES = ("ada", "bo", "cy", "dee")


def neighbours(schedule: Schedule, me: str = "ada", place: int = 0) -> Neighbours:
    return Neighbours(schedule, me, place, settled=False)


def living(*names: str, done: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> Neighbourhood:
    return Neighbourhood(
        alive=frozenset(map(PeerName, names)),
        done=frozenset(map(PeerName, done)),
        places={PeerName(name): place for place, name in enumerate(places)},
    )


def test_all_exchanges_of_a_period_count_and_those_who_are_done_do_not() -> None:
    one_peer = neighbours(load_topology("one_peer_exponential", NAMES))
    assert one_peer.around(living("bo", "cy", "dee")) == ({"cy", "dee"}, {"bo", "cy"})
    assert one_peer.around(living("bo", "cy", "dee", done=("cy",))) == ({"dee"}, {"bo"})
    assert one_peer.around(living()) == (frozenset(), frozenset())


def test_without_a_roster_places_stand_for_names() -> None:
    places = load_topology("complete", ("place-1", "place-2", "place-3"))
    found = neighbours(places, "zoe", 0).around(living("yan", places=("zoe", "yan", "xi")))
    assert found == ({"yan"}, {"yan"})
    assert neighbours(places, "zoe", 0).any_in_topology()


def test_a_peer_that_the_topology_leaves_alone_is_told_so(tmp_path: object) -> None:
    path = f"{tmp_path}/two.toml"
    with open(path, "w", encoding="utf-8") as file:
        file.write('kind = "edges"\nboth_ways = true\nedges = [["bo", "cy"]]\n')
    schedule = load_topology(path, ("ada", "bo", "cy"))
    assert not neighbours(schedule).any_in_topology()
    assert neighbours(schedule, "bo", 1).any_in_topology()
    found = unexchanged(Attempt(0, 5, 50, 10, Company(), no_neighbour=True))
    assert found is not None
    assert (found.reason, found.failure) == ("nothing was exchanged: the topology gives it no neighbour", False)


def test_a_large_payload_may_have_been_too_slow() -> None:
    company = Company({"bo"}, {"bo"}, heard_s=9.0, told_s=9.0)
    found = unexchanged(Attempt(0, 5, 50, 10, company, payload_bytes=90_000_000))
    assert found is not None
    assert found.failure
    assert "a publication is 90.0 MB: is the network fast enough?" in found.reason
    assert unexchanged(Attempt(1, 5, 50, 10, company)) is None


def test_who_has_published_nothing_for_want_of_time_is_no_failure() -> None:
    company = Company({"bo"}, {"bo"}, heard_s=0.1, told_s=0.1)
    mute = ["it has published nothing itself"]
    found = unexchanged(Attempt(0, 3, 30, 10, company, unpublished=mute))
    assert found is not None
    assert not found.failure
    assert "trained beside bo for 0.1 s only" in found.reason
    for attempt in (
        Attempt(0, 3, 30, 10, company, unpublished=[*mute, "parameter 0.weight is not finite"]),
        Attempt(0, 3, 30, 10, Company({"bo"}, {"bo"}, heard_s=9.0, told_s=9.0), unpublished=mute),
    ):
        found = unexchanged(attempt)
        assert found is not None
        assert found.failure
        assert found.reason.startswith("nothing was exchanged: it has published nothing itself")

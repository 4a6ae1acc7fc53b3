"""What two or three peers do together, alike on every network."""

from __future__ import annotations

import msgpack
import pytest

from gossipdistill.events import EventKind
from gossipdistill.messages import DeliveryClass, Intake, Mode
from gossipdistill.wire.codec import WIRE_VERSION

from .cluster import LIMITS, NAMES, Cluster, Learner

MASS, STREAM = DeliveryClass.MASS, DeliveryClass.STREAM
LARGE = 10 * LIMITS.piece_bytes_max + 12


def test_who_comes_one_after_another_meets(cluster: Cluster) -> None:
    ada = cluster.start("ada")
    bo = cluster.start("bo")
    cluster.until(lambda: ada.sees("bo") and bo.sees("ada"))
    cy = cluster.start("cy")
    cluster.until(lambda: ada.sees("cy") and bo.sees("cy") and cy.sees("ada", "bo"))
    assert len(ada.heard(EventKind.JOINED, "bo")) == len(ada.heard(EventKind.JOINED, "cy")) == 1


def test_one_whom_nobody_can_reach_meets_and_exchanges(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    cy = cluster.start("cy", reachable=False)
    cluster.until(lambda: ada.sees("cy") and bo.sees("cy") and cy.sees("ada", "bo"))
    ada.post("cy", 1, LARGE, Mode.PULL)
    cy.post("bo", 2)
    cluster.until(lambda: cy.values("ada") == [1] and bo.values("cy") == [2])


@pytest.mark.parametrize("mode", list(Mode))
def test_states_arrive_both_ways_the_newest_wins_and_none_comes_twice(mode: Mode, cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    for value in range(1, 31):
        ada.post("bo", value, mode=mode)
        bo.post("ada", value, mode=mode)
    cluster.until(lambda: bo.values("ada")[-1:] == [30] and ada.values("bo")[-1:] == [30])
    for learner, other in (ada, "bo"), (bo, "ada"):
        assert learner.values(other) == sorted(set(learner.values(other)))


def test_a_large_state_is_pulled_in_pieces(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    for value in range(1, 4):
        ada.post("bo", value, LARGE, Mode.PULL)
        bo.post("ada", value, LARGE, Mode.PULL)
        cluster.until(lambda v=value: bo.values("ada")[-1:] == [v] and ada.values("bo")[-1:] == [v])


@pytest.mark.parametrize("size", [8, LARGE], ids=["small", "large"])
def test_mass_is_absorbed_once_and_then_there_is_room(size: int, cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    for value in range(1, 4):
        assert ada.post("bo", value, size, delivery=MASS, weight=0.5)
        assert not ada.post("bo", 99, size, delivery=MASS, weight=0.5), "one at a time"
        cluster.until(lambda v=value: bo.values("ada") == list(range(1, v + 1)))
        cluster.until(lambda: not ada.mailbox.room.busy("mass", MASS))
    assert [one.weight for one in bo.arrivals()] == [0.5] * 3
    assert ada.arrivals() == []


@pytest.mark.parametrize("size", [8, LARGE], ids=["small", "large"])
def test_what_a_learner_has_no_use_for_never_reaches_it_and_comes_when_it_has(size: int, cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    bo.mailbox.intake = Intake(frozenset({"mass"}))
    bo.post("ada", 1, delivery=MASS)
    cluster.until(lambda: ada.values("bo") == [1])  # so the network of bo has heard of it
    ada.post("bo", 7, size, delivery=STREAM)
    ada.post("bo", 8, size, delivery=MASS, weight=0.5)
    cluster.until(lambda: bo.values("ada") == [8] and bo.heard(EventKind.QUARANTINED, "ada"))
    bo.post("ada", 2, delivery=STREAM)
    cluster.until(lambda: bo.values("ada") == [8, 7])


def test_mass_that_is_refused_is_returned_with_its_weight(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    bo.refuses = "not finite"
    assert ada.post("bo", 7, LARGE, delivery=MASS, weight=0.25)
    cluster.until(lambda: bo.values("ada") == [7] and (ada.arrivals() or ada.returned))
    assert ada.arrivals() == []
    (returned,) = ada.returned
    assert (returned.recipient, returned.step, returned.weight) == ("bo", 7, 0.25)
    assert returned.reason == "refused by bo: not finite"
    assert not ada.mailbox.room.busy("mass", MASS)


def test_a_stream_arrives_whole_and_in_order(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    for value in range(1, 9):
        cluster.until(lambda: bo.arrivals() is not None and not ada.mailbox.room.busy("stream", STREAM))
        assert ada.post("bo", value, LARGE if value % 2 else 8, delivery=STREAM)
    cluster.until(lambda: len(bo.values("ada")) == 8)
    assert bo.values("ada") == list(range(1, 9))


def test_one_who_is_killed_and_started_again_gets_the_newest(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    ada.post("bo", 1)
    ada.post("bo", 2)
    cluster.until(lambda: bo.values("ada")[-1:] == [2])
    cluster.kill("bo")
    again = cluster.start("bo", boot=2)
    cluster.until(lambda: ada.heard(EventKind.RETURNED, "bo") and again.values("ada") == [2])
    again.post("ada", 9, LARGE, Mode.PULL)
    cluster.until(lambda: ada.values("bo") == [9])
    assert ada.arrivals()[-1].version.boot == 2


def test_one_who_is_killed_is_dead_and_mass_on_the_way_is_parked_until_it_is_certain(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    ada.post("bo", 1, delivery=MASS, weight=0.5)
    cluster.until(lambda: bo.mailbox.neighbourhood() and bo.mailbox.waiting())  # held, and not settled
    cluster.kill("bo")
    cluster.until(lambda: ada.heard(EventKind.PARKED, "bo"))
    assert ada.heard(EventKind.DEAD, "bo")
    assert ada.mailbox.room.busy("mass", MASS)
    cluster.start("bo", boot=2)
    cluster.until(lambda: ada.heard(EventKind.WRITTEN_OFF, "bo"))
    assert not ada.mailbox.room.busy("mass", MASS)


def test_last_words_say_why(cluster: Cluster) -> None:
    ada, _, _ = cluster.start_all("ada", "bo", "cy")
    cluster.leave("bo", "interrupted")
    cluster.leave("cy", "OSError: disk full", crashed=True)
    cluster.until(lambda: not ada.sees("bo") and not ada.sees("cy"))
    assert ada.heard(EventKind.LEFT, "bo") == ["interrupted"]
    assert ada.heard(EventKind.DEAD, "cy") == ["crashed: OSError: disk full"]


def test_one_with_another_fingerprint_is_refused_and_told_why(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    cy = cluster.start("cy", run="another")

    def verdicts(learner: Learner, about: str) -> list[str]:
        """Who hears the other first refuses it, and the other is told."""
        return learner.heard(EventKind.REFUSED, about) + learner.heard(EventKind.REFUSED_BY, about)

    cluster.until(lambda: verdicts(ada, "cy") and verdicts(cy, "ada"))
    for reason in *verdicts(ada, "cy"), *verdicts(cy, "ada"):
        assert "scene" in reason
        assert "another" in reason
    ada.post("bo", 5)
    cluster.until(lambda: bo.values("ada") == [5])
    assert not ada.sees("cy")


@pytest.mark.parametrize("version", [WIRE_VERSION - 1, WIRE_VERSION + 1])
def test_another_wire_version_is_refused_in_words_with_its_name_and_both_versions(
    version: int, cluster: Cluster
) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    cluster.say("cy/5", "ada", [msgpack.packb([version, 1, "cy", 5, "ada", 0, "fields of another version"])])
    cluster.until(lambda: ada.heard(EventKind.REFUSED, "cy"))
    assert ada.heard(EventKind.REFUSED, "cy") == [
        f"cy speaks wire version {version} and ada {WIRE_VERSION}: install the same gossipdistill on both"
    ]
    ada.post("bo", 5)
    cluster.until(lambda: bo.values("ada") == [5])


def test_a_process_of_another_wire_version_may_come_again_as_one_of_mine(cluster: Cluster) -> None:
    ada, bo = cluster.start_all("ada", "bo")
    cluster.say("cy/5", "ada", [msgpack.packb([WIRE_VERSION - 1, 1, "cy", 5, "ada", 0])])
    cluster.until(lambda: ada.heard(EventKind.REFUSED, "cy"))
    cy = cluster.start("cy", boot=6)
    cluster.until(lambda: cy.sees("ada", "bo") and ada.sees("cy") and bo.sees("cy"))
    cy.post("ada", 7)
    cluster.until(lambda: ada.values("cy") == [7])


@pytest.mark.parametrize("reachable", [True, False])
def test_who_is_done_says_so_to_all(reachable: bool, cluster: Cluster) -> None:
    learners = [*cluster.start_all("ada", "bo"), cluster.start("cy", reachable=reachable)]
    cluster.until(lambda: all(cluster[a].sees(b) for a in NAMES for b in NAMES if a != b))
    for learner in learners:
        learner.mailbox.report_progress(300, True)
    for name in NAMES:
        others = set(NAMES) - {name}
        cluster.until(lambda n=name, o=others: cluster[n].mailbox.neighbourhood().done == o)

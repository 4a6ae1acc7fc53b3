"""The cluster that users test with: real protocol objects in virtual time, bent by plans."""

from __future__ import annotations

from typing import Any

import pytest

from gossipdistill.errors import ConfigError
from gossipdistill.faults import FaultPlan
from gossipdistill.sim.host import Launch
from gossipdistill.testing import Cluster


def test_a_quiet_cluster_meets_and_exchanges(gossip_cluster: type[Cluster]) -> None:
    cluster = gossip_cluster(3)
    cluster.run(5)
    assert cluster.everybody_sees_everybody()
    assert cluster.now_s == 5
    assert (cluster.names, cluster.sees("ada")) == (("ada", "bo", "cy"), ("bo", "cy"))
    assert all(number >= 20 for number in cluster.newest("ada").values())
    assert cluster.happened
    assert cluster.events("dead") == []
    assert cluster.events("joined", "bo")


def test_a_split_is_seen_and_heals(gossip_cluster: type[Cluster]) -> None:
    cluster = gossip_cluster(4, faults="split-and-heal")
    cluster.run(9.9)
    assert "cy" not in cluster.sees("ada")
    assert cluster.sees("ada") == ("bo",)
    cluster.run(20)
    assert cluster.everybody_sees_everybody()
    assert cluster.links.fired["partition"] > 0


def test_a_killed_peer_is_missed_and_comes_back(gossip_cluster: type[Cluster]) -> None:
    kill = {"kind": "kill", "peer": "bo", "at_s": 3, "restart_after_s": 20}
    cluster = gossip_cluster(["ada", "bo", "cy"], faults=[kill])
    cluster.run(20)
    assert cluster.living() == ("ada", "cy")
    assert cluster.everybody_sees_everybody()
    cluster.run(15)
    assert cluster.living() == ("ada", "bo", "cy")
    assert cluster.everybody_sees_everybody()
    assert cluster.newest("ada")["bo"] < 80  # it counts anew


@pytest.mark.parametrize("seconds", [60.0, 3600.0, -5.0])
def test_a_clock_that_jumps_kills_nobody(gossip_cluster: type[Cluster], seconds: float) -> None:
    jump = {"kind": "clock_jump", "peer": "ada", "at_s": 5, "seconds": seconds}
    cluster = gossip_cluster(5, faults=[jump])
    cluster.run(30)
    assert cluster.events("dead") == []
    assert cluster.everybody_sees_everybody()


def test_a_clock_that_falls_back_delays_its_own_peer_and_kills_nobody(gossip_cluster: type[Cluster]) -> None:
    # A plan moves the wall clock of a simulated process backwards; here it is its monotonic clock, as `run` does it.
    cluster = gossip_cluster(4)
    cluster.run(10)
    host = cluster.world.host("cy")
    host.clock_offset_s -= 30.0
    cluster.run(40)
    assert cluster.events("dead") == []
    assert cluster.everybody_sees_everybody()
    assert cluster.newest("ada")["cy"] > 200


def test_a_link_that_is_closed_one_way_kills_nobody(gossip_cluster: type[Cluster]) -> None:
    cluster = gossip_cluster(4, faults="one-way")
    cluster.run(15)
    assert cluster.links.fired["one_way"] > 0
    assert cluster.events("dead") == []
    assert [one.by for one in cluster.events("unreachable", "ada")] == ["bo"]


def test_the_same_seed_gives_the_same_course(gossip_cluster: type[Cluster]) -> None:
    def course(seed: int) -> list[Any]:
        cluster = gossip_cluster(5, faults="flaky-links", seed=seed)
        cluster.run(10)
        return [*cluster.happened, cluster.links.fired, cluster.newest("ada")]

    assert course(1) == course(1)
    assert course(1) != course(2)


def test_a_learner_of_ones_own() -> None:
    class Idle:
        def step(self, now: float) -> float | None:
            return None

    born: list[Launch] = []

    def spawn(launch: Launch) -> Idle:
        born.append(launch)
        return Idle()

    cluster = Cluster(2, spawn=spawn)
    cluster.run(1)
    assert [launch.name for launch in born] == ["ada", "bo"]
    with pytest.raises(AssertionError, match="a learner of your own knows what it has"):
        cluster.newest("ada")


def test_plans_are_checked_against_the_peers() -> None:
    with pytest.raises(ConfigError, match="'dee': is no peer of this run; known: ada, bo"):
        Cluster(2, faults="straggler")
    with pytest.raises(ConfigError, match=r"faults: fault 1 \(kill\): peer = 'zed': is no peer"):
        Cluster(2, faults=FaultPlan.model_validate({"fault": [{"kind": "kill", "peer": "zed", "at_s": 1}]}))
    with pytest.raises(ConfigError, match="faults"):
        Cluster(2, faults=[{"kind": "kill", "peer": "ada"}])

"""A thousand peers of one roster: views are right, a death is known to all, and a peer costs what it costs among a
hundred. Everything is counted in virtual time; nothing here depends on how fast the machine is."""

from __future__ import annotations

import pytest

from benchmarks.detection import KNOWN_WITHIN_INTERVALS, Deaths
from benchmarks.kit.virtual import walkers
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.protocol.members import Status
from gossipdistill.sim.checkers.views import wrong_views
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.world import World

MANY, FEW = 1000, 100
STARTED_S, COUNTED_S = 3.0, 2.0
"""Until everybody has started and whoever was suspected before that is cleared; how long messages are counted then."""
UNHURRIED = Compute(step_time_s=1.0)
"""Two steps, and an exchange, in two seconds."""
RATIO_MAX = 1.15
"""Among a thousand a peer sends at most so many times the messages, and the bytes, that it sends among a hundred."""
PARTNERS_MAX = 2 * 10
"""On the one-peer exponential schedule of a thousand a peer sends to ten, and ten send to it."""


class Crowd:
    """A world of walkers, and what was counted in it."""

    def __init__(self, peers: int) -> None:
        self.world, self.deaths = walkers(peers, seed=1, compute=UNHURRIED), Deaths()
        self.world.watch([self.deaths])
        self.world.start_all(within_s=1.0)
        self.world.run_until(STARTED_S)
        early = self.deaths.suspected
        before, before_bytes = _sent(self.world)
        self.world.run_for(COUNTED_S)
        after, after_bytes = _sent(self.world)
        self.messages_per_s = (after - before) / peers / COUNTED_S
        self.bytes_per_s = (after_bytes - before_bytes) / peers / COUNTED_S
        self.suspected = self.deaths.suspected - early
        self.rows = [len(host.peer.membership.table.rows) for host in self.world.hosts.values()]


def _sent(world: World) -> tuple[int, int]:
    hosts = world.hosts.values()
    return sum(host.messages_sent for host in hosts), sum(host.bytes_sent for host in hosts)


@pytest.fixture(scope="module")
def many() -> Crowd:
    return Crowd(MANY)


@pytest.fixture(scope="module")
def few() -> Crowd:
    return Crowd(FEW)


def test_nobody_is_missing_and_nobody_is_suspected(many: Crowd) -> None:
    assert len(many.world.hosts) == MANY
    assert list(wrong_views(many.world)) == []
    assert many.suspected == 0
    assert many.deaths.false == []


def test_a_peer_says_no_more_among_a_thousand_than_among_a_hundred(many: Crowd, few: Crowd) -> None:
    assert many.messages_per_s <= RATIO_MAX * few.messages_per_s, (many.messages_per_s, few.messages_per_s)
    assert many.bytes_per_s <= RATIO_MAX * few.bytes_per_s, (many.bytes_per_s, few.bytes_per_s)


def test_a_peer_keeps_rows_for_its_partners_and_not_for_all(many: Crowd) -> None:
    assert 0 < max(many.rows) <= PARTNERS_MAX


def test_a_death_is_known_to_all_within_its_bound(many: Crowd) -> None:
    world, victim = many.world, many.world.names[MANY // 2]
    killed_s = world.now
    world.kill(victim)
    bound_s = KNOWN_WITHIN_INTERVALS[MANY] * DEFAULT_LIMITS.probe_interval_s
    known = many.deaths.known_s
    while len(known.get(victim, [])) < MANY - 1 and world.now < killed_s + bound_s:
        world.run_for(0.25)
    assert len(known[victim]) == MANY - 1
    assert max(known[victim]) <= killed_s + bound_s
    assert all(host.peer.view.status_of(victim) is Status.DEAD for host in world.hosts.values())
    assert list(known) == [victim]
    assert many.deaths.false == []
    assert list(wrong_views(world)) == []

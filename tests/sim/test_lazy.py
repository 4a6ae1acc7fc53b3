"""A lazy member costs the others no more than an honest one, and keeps nobody from anybody else."""

from __future__ import annotations

from collections import Counter

import pytest

from gossipdistill.ids import PeerName
from gossipdistill.messages import Transmit
from gossipdistill.sim.host import Host
from gossipdistill.sim.lazy import Lazy
from gossipdistill.sim.network import nbytes_of
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.scenario import Storm, make_world

LAZY, HONEST = PeerName("p3"), ("p0", "p1", "p2")


class Sent(Observer):
    """How many messages and bytes went to whom."""

    def __init__(self) -> None:
        self.messages, self.bytes = Counter[str](), Counter[str]()

    def on_transmit(self, now_s: float, host: Host, transmit: Transmit) -> None:
        to = transmit.envelope.to
        if host.name in HONEST:
            self.messages[to] += 1
            self.bytes[to] += nbytes_of(transmit.envelope.message)


def run(storm: Storm, lazy: bool) -> Sent:
    """What the honest have sent; and that they go on with one another."""
    sent, shirker = Sent(), Lazy(LAZY)
    world = make_world(storm, [sent, *([shirker] if lazy else ())])
    shirker.world = world
    world.start_all()
    world.run_until(30.0)
    before = {name: world.hosts[PeerName(name)].messages_received for name in HONEST}
    world.run_until(40.0)
    assert shirker.withheld > 10 or not lazy
    for name in HONEST:
        alive = world.hosts[PeerName(name)].mailbox.neighbourhood().alive
        assert all(other in alive for other in HONEST if other != name)
        assert world.hosts[PeerName(name)].messages_received - before[name] > 50
    return sent


@pytest.mark.parametrize("learner", ["walker", "publisher", "streamer"])
@pytest.mark.parametrize("pull", [False, True])
def test_a_lazy_member_costs_no_more_than_an_honest_one(learner: str, pull: bool) -> None:
    storm = Storm(seed=3, peers=4, learner=learner, every_steps=3, pull=pull)
    fair, sent = run(storm, lazy=False), run(storm, lazy=True)
    assert sent.messages[LAZY] <= 1.5 * fair.messages[LAZY]
    assert sent.bytes[LAZY] <= 1.5 * fair.bytes[LAZY]
    for name in HONEST:
        assert sent.messages[name] >= 0.5 * fair.messages[name]

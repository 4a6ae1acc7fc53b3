"""Random storms, each a seed: loss, duplication, reordering, partitions, kills and restarts, then calm.

What must hold in any weather: the versions that a learner gets never go backwards, and no more than the allowed number
of versions is unconfirmed. What must hold after the storm: everybody is alive, and has the newest version of everybody.
"""

from __future__ import annotations

from itertools import pairwise, permutations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipdistill.events import EventKind
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import Mode, arrivals_of
from gossipdistill.presence import Ack, Nack, Ping, PingRequest

from .harness import World, address_of

NAMES = ("ada", "bo", "cy", "dee")

gust = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(list(permutations(NAMES, 2))), st.sampled_from(list(Mode))),
    st.tuples(st.just("cut"), st.sampled_from(list(permutations(NAMES, 2)))),
    st.tuples(st.just("cut off"), st.sampled_from(NAMES)),
    st.tuples(st.just("mend")),
    st.tuples(st.just("restart"), st.sampled_from(NAMES), st.sampled_from([0.0, 0.4, 2.0, 8.0])),
    st.tuples(st.just("hold up"), st.sampled_from(NAMES), st.sampled_from([0.5, 3.0, 9.0]), st.booleans()),
    st.tuples(st.just("busy"), st.sampled_from(NAMES)),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 0.3, 1.5, 6.0])),
)


class Storm:
    def __init__(self, seed: int, loss: float, delay_s: float, closed: bool) -> None:
        self.world = World(*NAMES, seed=seed, closed=closed)
        self.closed = closed
        self.value = 0
        self.newest: dict[tuple[str, str], int] = {}
        self.world.loss, self.world.duplication, self.world.delay_s = loss, loss, (0.0, delay_s)
        if not closed:
            for name in NAMES:
                self.start(name)

    def start(self, name: str) -> None:
        place = NAMES.index(name)
        seeds = [] if self.closed or place == 0 else [address_of(0)]
        self.world.start(name, place=place, seeds=seeds)

    def blow(self, gust: tuple) -> None:  # type: ignore[type-arg]
        world = self.world
        match gust:
            case "publish", (sender, to), mode:
                self.value += 1
                self.newest[sender, to] = self.value
                world.publish(sender, to, self.value, mode)
            case "cut", (sender, to):
                world.cut.add((sender, to))
            case "cut off", name:
                world.cut_off(name)
            case ("mend",):
                world.cut.clear()
            case "restart", name, after_s:
                world.kill(name)
                self.newest = {edge: value for edge, value in self.newest.items() if edge[0] != name}
                others = [process for process in world.processes.values() if process.stopped]
                assert not others
                world.run(after_s)
                self.start(name)
            case "hold up", name, for_s, clock_first:
                world.stop(name)
                world.run(for_s)
                world.resume(name, clock_first)
            case "busy", name:
                world[name].learning = not world[name].learning
            case "pass", for_s:
                world.run(for_s)
        self.check_always()

    def check_always(self) -> None:
        for process in self.world.processes.values():
            for known in process.peer.states.sender.outgoing.values():
                assert len(known.unconfirmed) <= DEFAULT_LIMITS.unconfirmed_max
            for sender in NAMES:
                versions = [arrival.version for arrival in arrivals_of(process.received) if arrival.sender == sender]
                assert all(older < newer for older, newer in pairwise(versions))

    def calm(self) -> None:
        world = self.world
        world.cut.clear()
        world.loss = world.duplication = 0.0
        world.delay_s = (0.0, min(world.delay_s[1], 0.2))  # an answer takes less than a probe lasts
        for name in NAMES:
            world[name].learning = True
            for sender in NAMES:
                world.take(name, sender)
        world.run(12.0)
        assert world.all_alive()
        for (sender, to), value in self.newest.items():
            assert world[to].values(sender)[-1] == value, (sender, to)
        silent_from = len(world.log)
        world.run(5.0)
        said = {type(sent.message) for sent in world.log[silent_from:]}
        assert said <= {Ping, Ack, PingRequest, Nack}
        for process in world.processes.values():
            assert not [event for event in process.events if event.kind is EventKind.SUPERSEDED]
            for name in NAMES:  # one event per change of state; each refutation answers an accusation of its own
                again = (EventKind.RETURNED, EventKind.REFUTED)
                kinds = [kind for kind in process.kinds(name) if kind is not EventKind.WARNING]
                repeated = [kind for kind, after in pairwise(kinds) if kind is after and kind not in again]
                assert not repeated


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0.001, 0.1, 0.6]),
    st.booleans(),
    st.lists(gust, min_size=5, max_size=30),
)
def test_after_any_storm_all_are_alive_and_have_the_newest(
    seed: int,
    loss: float,
    delay_s: float,
    closed: bool,
    gusts: list[tuple],  # type: ignore[type-arg]
) -> None:
    storm = Storm(seed, loss, delay_s, closed)
    for gust in gusts:
        storm.blow(gust)
    storm.calm()

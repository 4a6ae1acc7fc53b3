"""The simulated world: processes live and die, messages take their time, and nothing depends on the order of a set."""

from __future__ import annotations

import random

import pytest

from gossipdistill.events import Event, EventKind
from gossipdistill.faults import FaultPlan, LinkFaults, ProcessFaults
from gossipdistill.faults.kinds import KINDS
from gossipdistill.ids import PeerName
from gossipdistill.messages import Content, DeliveryClass, Parcel
from gossipdistill.protocol.members import Status
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Host, Launch
from gossipdistill.sim.learners import Publisher, Walker, packed
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.observer import Observer
from gossipdistill.sim.world import World

NAMES = ("ada", "bo", "cy", "dee")


class Diary(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[float, str, Event]] = []

    def on_event(self, now_s: float, host: Host, event: Event) -> None:
        self.events.append((now_s, host.name, event))

    def about(self, name: str, kind: EventKind) -> list[tuple[float, str]]:
        return [(at_s, who) for at_s, who, event in self.events if event.peer == name and event.kind is kind]


def walker(launch: Launch) -> Walker:
    chance = random.Random(f"{launch.name} {launch.incarnation}")
    pace = Compute(step_time_s=0.02).pace(launch.place, seed=1)
    return Walker(launch.mailbox, pace, chance, [float(launch.place), 1.0])


def all_alive(world: World) -> bool:
    return all(
        host.peer.view.status_of(other) is Status.ALIVE
        for host in world.hosts.values()
        for other in world.hosts
        if other != host.name
    )


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("over_the_wire", [True, False])
def test_everybody_finds_everybody(closed: bool, over_the_wire: bool) -> None:
    world = World(NAMES, closed=closed, over_the_wire=over_the_wire, clocks_apart_s=1000.0)
    world.start_all()
    world.run_until(5.0)
    assert all_alive(world)


def test_a_killed_peer_is_known_dead_and_its_successor_is_known_alive() -> None:
    diary = Diary()
    world = World(NAMES, observers=[diary])
    world.start_all()
    world.run_until(3.0)
    world.kill("bo")
    world.run_until(40.0)
    assert {who for _, who in diary.about("bo", EventKind.DEAD)} == {"ada", "cy", "dee"}
    world.start("bo")
    world.run_until(60.0)
    assert all_alive(world)
    assert world.host("bo").incarnation == 2


def test_push_sum_finds_the_mean_through_loss_and_jitter() -> None:
    network = Network(Quality(latency_s=0.005, jitter_s=0.01, loss=0.2), seed=3)
    world = World(NAMES, walker, network, seed=3)
    world.start_all()
    world.run_until(120.0)
    held = [host.stepper for host in world.hosts.values() if isinstance(host.stepper, Walker)]
    assert all(abs(one.x[0] / one.w - 1.5) < 0.05 for one in held)
    assert network.lost > 100


def test_a_paused_process_reads_its_backlog_when_it_is_resumed() -> None:
    world = World(NAMES, lambda launch: Publisher(launch.mailbox, Compute().pace(launch.place, 1), random.Random(1)))
    world.start_all()
    world.run_until(2.0)
    before = world.host("ada").steps
    world.pause("ada")
    world.run_for(0.5)
    assert world.host("ada").steps == before
    assert world.host("ada").backlog
    world.resume("ada")
    world.run_for(2.0)
    assert world.host("ada").steps > before + 50
    assert all_alive(world)


def test_a_slow_process_makes_fewer_steps() -> None:
    world = World(NAMES, walker)
    world.start_all()
    world.slow("dee", 10.0)
    world.run_until(20.0)
    assert 8 < world.host("ada").steps / world.host("dee").steps < 12


def test_bandwidth_delays_what_is_large() -> None:
    network = Network(Quality(latency_s=0.01, bytes_per_s=1e6))
    first = network.carry("a", "b", 100_000, True, 0.0)
    second = network.carry("a", "b", 100_000, True, 0.0)
    urgent = network.carry("a", "b", 100, False, 0.0)
    assert first.arrivals_s == pytest.approx((0.11,))
    assert second.arrivals_s == pytest.approx((0.21,))
    assert urgent.arrivals_s == pytest.approx((0.0101,))


def test_a_queue_that_is_too_long_takes_nothing() -> None:
    network = Network(Quality(bytes_per_s=1e6), queue_s_max=0.15)
    taken = [network.carry("a", "b", 100_000, True, 0.0).taken for _ in range(4)]
    assert taken == [True, True, False, False]


def test_egress_is_shared_by_all_links_of_a_sender() -> None:
    network = Network(Quality(latency_s=0.0), egress_bytes_per_s=1e6)
    assert network.carry("a", "b", 100_000, True, 0.0).arrivals_s == pytest.approx((0.1,))
    assert network.carry("a", "c", 100_000, True, 0.0).arrivals_s == pytest.approx((0.2,))
    assert network.carry("b", "c", 100_000, True, 0.0).arrivals_s == pytest.approx((0.1,))


def test_a_network_in_order_lets_nothing_overtake() -> None:
    network = Network(Quality(jitter_s=0.1), in_order=True, seed=5)
    arrivals = [network.carry("a", "b", 10, True, 0.01 * k).arrivals_s[0] for k in range(100)]
    assert arrivals == sorted(arrivals)


def test_two_processes_of_one_name_the_newer_wins() -> None:
    world = World(NAMES)
    world.start_all()
    world.run_until(1.0)
    world.start("bo")
    world.run_until(10.0)
    assert all_alive(world)
    assert world.host("bo").incarnation == 2


def test_a_fault_plan_acts_on_links_and_processes() -> None:
    tables = [
        {"kind": "kill", "peer": "bo", "at_s": 2.0, "restart_after_s": 3.0},
        {"kind": "slow", "peer": "cy", "from_s": 1.0, "to_s": 9.0, "factor": 10.0},
        {"kind": "pause", "peer": "dee", "from_s": 1.0, "to_s": 3.0},
        {"kind": "clock_jump", "peer": "ada", "at_s": 4.0, "seconds": 50.0},
        {"kind": "drop", "link": ["ada", "cy"], "from_s": 1.0, "to_s": 5.0, "probability": 1.0},
    ]
    plan = FaultPlan(seed=1, fault=tuple(KINDS[str(table["kind"])].model_validate(table) for table in tables))
    faults = LinkFaults(plan, NAMES)
    world = World(NAMES, walker, Network(faults=faults), ProcessFaults(plan, NAMES))
    world.start_all()
    world.run_until(2.5)
    assert "bo" not in world.hosts
    assert world.host("dee").paused
    assert world.host("cy").slowdown == 10.0
    world.run_until(10.0)
    assert world.host("bo").incarnation == 2
    assert world.host("ada").clock_offset_s == 50.0
    assert world.host("cy").slowdown == 1.0
    assert faults.fired["drop"] > 0


def test_in_a_large_roster_mass_for_one_that_lost_my_greeting_is_settled() -> None:
    """Found by a storm of 66 peers: both were content, and neither had a reason to greet the other again."""
    names = [f"p{place}" for place in range(70)]
    cut = {"kind": "one_way", "link": ["p1", "p2"], "from_s": 0.0, "to_s": 6.0}
    plan = FaultPlan(seed=1, fault=(KINDS["one_way"].model_validate(cut),))
    puppets: dict[str, Walker] = {}

    def still(launch: Launch) -> Walker:
        made = puppets[launch.name] = walker(launch)
        made.every_steps = 1 << 30  # it absorbs, and sends nothing of its own
        return made

    world = World(names, still, Network(faults=LinkFaults(plan, names)))
    world.start_all()
    world.run_until(1.0)
    for sender, to in (("p2", "p1"), ("p1", "p2")):
        parcel = Parcel((PeerName(to),), Content("mass", packed([0.5, 0.5]), 1, 1, "", DeliveryClass.MASS, 0.25))
        world.run_for(4.0)
        assert puppets[sender].mailbox.post(parcel)
    world.run_until(30.0)
    assert puppets["p1"].w == 1.25
    assert puppets["p2"].w == 1.25

"""Storms of mass: real learners in the simulated network, and one member that cheats (gossipdistill/sim/cheat.py).

    python -m benchmarks.mass_storms [--storms 200] [--first-seed 0]

Judged: that the models of the honest stay finite and near what they learn, that the weights that they hold have a sum
between `LEAST` and three for each of them, and what the checkers of all storms judge of arrivals, mailboxes, mass and
starts.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from gossipdistill.assembly.building import build_schedule
from gossipdistill.config.plan import Asked
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.mass import WEIGHTS_MAX
from gossipdistill.learning.reciprocity import DRY_WEIGHT
from gossipdistill.sim.cheat import Cheat, Keeper, Trick
from gossipdistill.sim.checkers import (
    Checker,
    Conditions,
    MailboxBounded,
    MassConserved,
    NobodyWaits,
    OnceSettled,
    StartsBounded,
    Violation,
)
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.simulation.peer import PeerFactory, SimulatedPeer
from gossipdistill.simulation.run import plan_simulation

SECONDS = 15.0
LEAST = DRY_WEIGHT
"""Whoever is left with less gives to those alone who give too, so the honest never hold less together."""
FARTHEST = 50.0
"""The centres that the models are drawn to lie within about four of the origin."""
STRATEGIES = ("sgp", "osgp", "async_gradient_push", "gossip_averaging")


class MassStorm(NamedTuple):
    """One storm, as data."""

    seed: int
    peers: int
    strategy: str
    trick: Trick
    every_steps: int
    latency_s: float
    loss: float


def mass_storm_of(seed: int) -> MassStorm:
    """The storm of this seed."""
    chance = random.Random(f"mass storm {seed}")
    trick = list(Trick)[seed % len(Trick)]
    strategy = chance.choice(STRATEGIES if trick is Trick.CORRUPT else STRATEGIES[:3])
    loss = chance.choice([0.0, 0.0, 0.1])
    latency_s = 10 ** chance.uniform(-4, -1.5)
    return MassStorm(seed, chance.randint(3, 6), strategy, trick, chance.choice([1, 2, 5]), latency_s, loss)


class WeightsAddUp(Checker):
    """The push-sum weights that the honest hold have a sum within bounds, on their way or returned."""

    duty = "the sum of weights stays"

    def __init__(self, conditions: Conditions, cheat: PeerName) -> None:
        super().__init__(conditions)
        self.cheat = cheat

    def on_tick(self, now_s: float, world: World) -> None:
        honest = [host for host in world.hosts.values() if host.name != self.cheat]
        held = [host.stepper.worker.gossip.held_weight() for host in honest if isinstance(host.stepper, SimulatedPeer)]
        under_way = [one.parcel.weight for host in honest for _, one in host.peer.reliable_messages.sender.in_flight()]
        total = math.fsum([*held, *under_way])
        if not LEAST <= total <= WEIGHTS_MAX * len(honest):
            self.violate(now_s, f"the weights of {len(honest)} honest peers have a sum of {total:.4g}")


class ModelsStaySound(Checker):
    """No model of the honest is beyond what they learn."""

    duty = "no model is spoilt"

    def on_tick(self, now_s: float, world: World) -> None:
        for host in world.hosts.values():
            if isinstance(host.stepper, SimulatedPeer):
                largest = float(flat_parameters(host.stepper.worker.learner.model).abs().max())
                if not largest <= FARTHEST:
                    self.violate(now_s, f"the model of {host.name} has an entry of {largest:.4g}")


def blow(storm: MassStorm) -> list[Violation]:
    """Run a storm to its end, or to its first violation."""
    settings = [
        "train.step_time_s=0.05",
        f"exchange.every_steps={storm.every_steps}",
        "exchange.per_second_max=0",
        "task.dim=4",
        "exchange.fetch_within_s=0",
    ]
    asked = Asked(
        peers=str(storm.peers),
        topology="complete",
        task="quadratic",
        strategy=storm.strategy,
        seconds=SECONDS,
        seed=storm.seed,
        settings=settings,
        out=Path("runs"),
    )
    specs = plan_simulation(asked)
    names = [PeerName(spec.name) for spec in specs]
    strategy = specs[0].config.make_strategy()
    peer_factory = PeerFactory({spec.name: spec for spec in specs}, build_schedule(specs[0], strategy))
    compute = Compute(0.05)
    least = getattr(strategy.options, "push_sum_weight_min", 0.0)
    cheat = Cheat(names[-1], storm.trick, storm.seed, SECONDS, least, WEIGHTS_MAX * storm.peers)

    def spawn(launch: Launch) -> SimulatedPeer | Keeper:
        pace = compute.pace(launch.place, storm.seed)
        if launch.name == cheat.name and storm.trick in (Trick.KEEP, Trick.RESTART):
            return Keeper(launch.mailbox, pace)
        return peer_factory.born(launch.name, launch.mailbox, pace, None, lambda: world.now)

    conditions = Conditions(storm.peers)
    checkers: list[Checker] = [kind(conditions) for kind in (OnceSettled, MassConserved, MailboxBounded, NobodyWaits)]
    checkers += [StartsBounded(conditions), ModelsStaySound(conditions)]
    if storm.strategy in STRATEGIES[:3]:
        checkers.append(WeightsAddUp(conditions, cheat.name))
    network = Network(Quality(storm.latency_s, 0.0, loss=storm.loss), seed=storm.seed)
    world = World(names, spawn, network, seed=storm.seed, observers=[*checkers, cheat])
    world.start_all()
    cheat.begin(world)
    while world.now < SECONDS and not any(checker.violations for checker in checkers):
        world.run_until(min(world.now + 1.0, SECONDS))
    return [violation for checker in checkers for violation in checker.violations]


def main() -> int:
    """Blow some; exit code 1 when one is violated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storms", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args()
    blown: Counter[str] = Counter()
    violated = 0
    for seed in range(asked.first_seed, asked.first_seed + asked.storms):
        storm = mass_storm_of(seed)
        violations = blow(storm)
        blown[f"{storm.trick.value} at {storm.strategy}"] += 1
        violated += bool(violations)
        if violations:
            print(storm, violations[0], flush=True)
    print(f"{asked.storms} storms, {violated} violated: {dict(sorted(blown.items()))}")
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())

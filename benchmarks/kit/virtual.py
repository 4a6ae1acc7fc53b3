"""What the benchmarks in virtual time share: worlds of push-sum walkers on an exponential schedule."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass

from gossipdistill.ids import PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import Content, DeliveryClass, Parcel
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Launch, Stepper
from gossipdistill.sim.learners import MASS_TOPIC, Walker, packed, unpacked
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World

LAN = Quality(latency_s=0.0005, jitter_s=0.0005)
WEIGHT_MIN = 1e-3
"""As `push_sum_weight_min` of the strategy sgp: one that nothing reaches does not halve itself away."""
HALF_SECOND_STEPS = Compute(step_time_s=0.5)


@dataclass(slots=True)
class ScheduledWalker(Walker):
    """Push-sum along the one-peer exponential schedule: at exchange k half of what I hold goes 2^(k mod log2 n) on."""

    names: tuple[PeerName, ...] = ()
    place: int = 0

    def _send(self) -> None:
        period = max(1, math.ceil(math.log2(len(self.names))))
        self.exchanges += 1
        to = self.names[(self.place + (1 << self.exchanges % period)) % len(self.names)]
        if to not in self.mailbox.neighbourhood().alive or to in self.mailbox.room.busy(MASS_TOPIC, DeliveryClass.MASS):
            return
        if 0.5 * self.w < WEIGHT_MIN:
            return
        payload, weight = packed([0.5 * value for value in self.x]), 0.5 * self.w
        content = Content(MASS_TOPIC, payload, self.step_number, self.exchanges, "", DeliveryClass.MASS, weight)
        if self.mailbox.post(Parcel((to,), content)):
            self.w -= weight
            self.x = [mine - gone for mine, gone in zip(self.x, unpacked(payload), strict=True)]


def walkers(
    peers: int,
    seed: int = 0,
    compute: Compute = HALF_SECOND_STEPS,
    every_steps: int = 2,
    values: int = 16,
    quality: Quality = LAN,
    limits: Limits = DEFAULT_LIMITS,
    timed: bool = False,
) -> World:
    """A world of `peers` walkers; peer p begins with x = [p, p, ...] and w = 1, and exchanges every second."""
    names = tuple(PeerName(f"peer-{place:05d}") for place in range(peers))

    def spawn(launch: Launch) -> Stepper:
        pace, chance = (
            compute.pace(launch.place, seed),
            random.Random(f"walker {seed} {launch.name} {launch.incarnation}"),
        )
        x = [float(launch.place)] * values
        return ScheduledWalker(
            launch.mailbox, pace, chance, x, every_steps=every_steps, names=names, place=launch.place
        )

    clock = time.process_time if timed else None
    return World(names, spawn, Network(quality, seed=seed), limits=limits, seed=seed, stopwatch=clock)

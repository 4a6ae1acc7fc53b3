"""Push-sum training through kills: a peer that returns begins with the model that it had, and weight 1."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import torch

from experiments.common.lossy import Storm
from experiments.mass.averaging import LIMITS, Vector, make_worker, starts, state_of, weights_of
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.sim.compute import Compute
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.training.worker import Worker


class Training:
    """A real worker, stepped at its own pace."""

    def __init__(self, worker: Worker, place: int, seed: int, smallest: list[float]) -> None:
        self.worker, self.smallest = worker, smallest
        self.pace = Compute(step_time_s=0.1, jitter=0.3).pace(place, seed)

    def step(self, now: float) -> float:
        self.worker.step(now)
        self.smallest[0] = min(self.smallest[0], state_of(self.worker).weight)
        return self.pace.next_s()


def run(count: int = 6, cycles: int = 500, seed: int = 0, loss: bool = True) -> dict[str, Any]:
    """Kill one peer at random and start it again, `cycles` times; the figures of the whole time."""
    torch.set_num_threads(1)
    names, chance = tuple(f"p{place}" for place in range(count)), random.Random(f"kills {seed}")
    centres, saved, workers = starts(count, seed), {}, {}
    smallest = [math.inf]
    storm = Storm(random.Random(f"storm {seed}"), calm=not loss)

    def spawn(launch: Launch) -> Training:
        worker = make_worker(launch, names, centres[launch.place], "complete", "raw", 0.05)
        load_flat(worker.learner.model, torch.from_numpy(saved.get(launch.name, np.zeros(centres.shape[1]))))
        worker.gossip.state = worker.gossip.strategy.init(worker.learner)
        workers[launch.name] = worker
        return Training(worker, launch.place, seed, smallest)

    world = World(names, spawn, Network(Quality(latency_s=0.002), faults=storm, seed=seed), limits=LIMITS, seed=seed)
    world.start_all()
    world.run_for(5.0)
    sums: list[float] = []
    finite, written_off = True, 0.0
    for _ in range(cycles):
        victim = PeerName(chance.choice(names))
        saved[victim] = _model(workers[victim])
        written_off += world.host(victim).peer.reliable_messages.sender.written_off
        world.kill(victim)
        world.run_for(chance.uniform(0.1, 8.0))
        sums.append(sum(weights_of(world, workers)))
        world.start(victim)
        world.run_for(chance.uniform(0.1, 4.0))
        sums.append(sum(weights_of(world, workers)))
        finite = finite and all(np.isfinite(_model(workers[name])).all() for name in world.hosts)
    world.run_for(30.0)
    models = np.stack([_model(workers[name]) for name in world.hosts])
    return {
        "peers": count,
        "cycles": cycles,
        "loss": 0.5 if loss else 0.0,
        "finite": finite,
        "weights_min": min(sums),
        "weights_max": max(sums),
        "weight_min": smallest[0],
        "written_off": written_off
        + sum(host.peer.reliable_messages.sender.written_off for host in world.hosts.values()),
        "distance_to_optimum": float(np.abs(models - centres.mean(axis=0)).max()),
        "virtual_s": round(world.now, 1),
        "events": world.events_handled,
    }


def _model(worker: Worker) -> Vector:
    return flat_parameters(worker.learner.model).double().numpy()

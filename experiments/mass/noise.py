"""Push-sum training with noisy gradients, with and without a fifth of all messages lost, over the real protocol.

Five peers on unlike quadratics whose examples are noisy, two of them three times slower, asynchronous gradient push on
the complete graph (the setting of Spiridonoff et al. 2020, 1811.03761, section 5). What is measured is the mean squared
distance of the models to the common optimum over the second half of the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from experiments.common.quadratic import point_worker, sgd
from experiments.mass.averaging import DIM, starts
from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.sim.host import Launch
from gossipdistill.sim.network import Network, Quality
from gossipdistill.sim.world import World
from gossipdistill.strategies import Exchange, strategy_of
from gossipdistill.topology import load_topology
from gossipdistill.training.worker import Worker

COUNT, SLOW, SLOWER = 5, 2, 3.0
NOISE, ROWS, LR = 4.0, 200, 0.02
STEPS = 900
STEP_TIMES_S = (0.05, 0.2, 1.0)
LOSSES = (0.0, 0.2)


class Training:
    """A real worker, stepped at its own pace."""

    def __init__(self, worker: Worker, step_time_s: float) -> None:
        self.worker, self.step_time_s = worker, step_time_s

    def step(self, now: float) -> float:
        self.worker.step(now)
        return self.step_time_s


def worker_of(launch: Launch, names: tuple[str, ...], centre: torch.Tensor, seed: int) -> Worker:
    """One draws from noisy examples around `centre` [DIM]; their mean is `centre` exactly."""
    noise = NOISE * torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(1000 * seed + launch.place))
    rows = centre + noise - noise.mean(dim=0)
    kind = strategy_of("async_gradient_push")
    strategy = kind(kind.options_type(), Exchange(every_steps=1, per_second_max=0.0, encoding="raw"))
    return point_worker(
        launch.name,
        names,
        rows,
        strategy,
        load_topology("complete", names),
        launch.mailbox,
        sgd(LR),
        batch_size=1,
        draws_seed=1000 * seed + launch.place,
    )


def error(step_time_s: float, loss: float, seed: int) -> dict[str, float]:
    """Mean squared distance to the optimum over the second half, and exchanges that arrived per peer and step."""
    torch.set_num_threads(1)
    names, centres = tuple(f"p{place}" for place in range(COUNT)), starts(COUNT, seed)
    workers: dict[PeerName, Worker] = {}

    def spawn(launch: Launch) -> Training:
        workers[launch.name] = worker_of(launch, names, torch.from_numpy(centres[launch.place]).float(), seed)
        return Training(workers[launch.name], step_time_s * (SLOWER if launch.place < SLOW else 1.0))

    network = Network(Quality(latency_s=0.002, jitter_s=0.002, loss=loss), seed=seed)
    world = World(names, spawn, network, seed=seed)
    world.start_all()
    world.run_for(0.5 * STEPS * step_time_s)
    best, errors = centres.mean(axis=0), []
    for _ in range(STEPS // 2):
        world.run_for(step_time_s)
        models = np.stack([flat_parameters(worker.learner.model).double().numpy() for worker in workers.values()])
        errors.append(float(((models - best) ** 2).sum(axis=1).mean()))
    used = sum(worker.learner.ledger.exchanges for worker in workers.values())
    return {"error": float(np.mean(errors)), "exchanges_per_step": used / sum(w.learner.step for w in workers.values())}


def run(seeds: int = 3) -> list[dict[str, Any]]:
    """For each step time: errors of all seeds without and with loss, and the ratio of their means."""
    rows = []
    for step_time_s in STEP_TIMES_S:
        found = {loss: [error(step_time_s, loss, seed) for seed in range(seeds)] for loss in LOSSES}
        calm, lossy = ([one["error"] for one in found[loss]] for loss in LOSSES)
        ratios = np.array(lossy) / np.array(calm)
        exchanges = [float(np.mean([one["exchanges_per_step"] for one in found[loss]])) for loss in LOSSES]
        rows.append(
            {
                "step_time_s": step_time_s,
                "calm": calm,
                "lossy": lossy,
                "ratio": float(ratios.mean()),
                "ratio_standard_error": float(ratios.std(ddof=1) / np.sqrt(seeds)),
                "exchanges_per_step": exchanges,
            }
        )
    return rows

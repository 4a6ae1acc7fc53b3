"""all_reduce in virtual time. It has a transport of its own, which is not simulated: its arithmetic here, in one
process, and its time from the same paces and latencies as the others'.

The time `wall_s` is modelled WITHOUT overlap: each step first computes, as long as the slowest peer needs, and then
reduces round a ring. Real collectives overlap the two in part, so this is an upper bound. `wall_overlapped_s` is the
lower one: a step takes as long as the longer of the two, as if every message could travel during the computation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from gossipdistill.assembly.worker import Parts
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning.clipping import clip
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.sim.compute import Compute, Pace
from gossipdistill.tasks import Task

STANDS_FOR_IT = "gossip_averaging"
"""A strategy that can be planned for a simulation, and whose peers begin alike, as those of all_reduce do."""


@dataclass
class Collective:
    """One model for the peers of `specs`, stepped with the mean of their gradients. The specifications are of a run
    with `STANDS_FOR_IT`."""

    specs: Sequence[WorkerSpec]
    wall_s: float = 0.0
    """Virtual time of the steps so far, computation and ring one after the other."""
    wall_overlapped_s: float = 0.0
    """The same, if both went on at the same time."""
    gradients_s: float = 0.0
    """Processor time of all peers' gradients so far."""
    stepping_s: float = 0.0
    """Processor time of the optimizer's steps so far, which each peer would make."""
    step_number: int = 0
    tasks: list[Task] = field(init=False)
    learner: Learner = field(init=False)
    _draws: list[Draws] = field(init=False)
    _paces: list[Pace] = field(init=False)

    def __post_init__(self) -> None:
        config = self.specs[0].config
        peers = [Parts.of(spec) for spec in self.specs]
        self.tasks, self.learner = [peer.task for peer in peers], peers[0].learner
        self._draws = [peer.draws for peer in peers]
        compute = Compute(config.train.step_time_s or config.sim.step_time_s, config.sim.step_jitter)
        self._paces = [compute.pace(spec.place, config.seed, spec.slowdown) for spec in self.specs]

    def step(self, progress: float) -> None:
        """One step; `progress` is how much of the run is over, 0 to 1."""
        learner, config = self.learner, self.specs[0].config
        began_s = time.process_time()
        learner.optimizer.zero_grad(set_to_none=True)
        for task, draw in zip(self.tasks, self._draws, strict=True):
            rows = draw.at(self.step_number)
            loss = task.loss(learner.model(task.train[0][rows]), task.train[1][rows]) / len(self.specs)
            torch.autograd.backward(loss)
        made_s = time.process_time()
        clip(learner.model, config.gradient_rules().clip_norm, learner.norms)
        for group in learner.optimizer.param_groups:
            group["lr"] = config.train.lr * self._share_of_rate(progress)
        learner.optimizer.step()
        self.gradients_s += made_s - began_s
        self.stepping_s += time.process_time() - made_s
        # 2 (n - 1) messages one after the other in a ring, each as late as a message of the simulated network.
        ring_s = 2 * (len(self.specs) - 1) * (config.sim.latency_s + config.sim.jitter_s)
        computing_s = max(pace.next_s() for pace in self._paces)
        self.wall_s += computing_s + ring_s
        self.wall_overlapped_s += max(computing_s, ring_s)
        self.step_number += 1

    def _share_of_rate(self, progress: float) -> float:
        """What of the learning rate is left, as a worker has it."""
        train = self.specs[0].config.train
        if train.lr_schedule == "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        return float(10.0 ** -sum(progress >= drop for drop in train.rate_drops()))

    def figures(self) -> dict[str, float]:
        """Validation loss and metrics of the one model."""
        x, y = self.tasks[0].validation
        outputs = self.learner.predict(self.learner.model, x)
        metrics = {name: metric(outputs, y) for name, metric in self.tasks[0].metrics.items()}
        return {"loss": float(self.tasks[0].loss(outputs, y)), **metrics}

    @property
    def cpu_ms_per_step(self) -> float:
        """Processor time of one peer's step."""
        return 1e3 * (self.gradients_s / len(self.specs) + self.stepping_s) / max(self.step_number, 1)

    @property
    def sent_bytes(self) -> float:
        """Per peer so far, in a ring: 2 (n - 1) / n times the model at each step."""
        parameters = sum(parameter.numel() for parameter in self.learner.model.parameters())
        return 2 * (len(self.specs) - 1) / len(self.specs) * 4 * parameters * self.step_number

"""Codistillation by stale checkpoints.

Anil et al. 2018 (1804.03235), section 2: each peer loads old copies of the others' weights and learns from what they
say about its *own* minibatch. Sodhani et al. 2020 (2010.02838), algorithm 1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import final

import torch
from torch import nn

from gossipdistill.learning.distillation import (
    age_weight,
    divergence,
    mean_of_teachers,
    soft_targets,
)
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import (
    PayloadRefusedError,
    load_arrays,
    model_arrays,
    shapes_of,
    unpack,
)
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import NOTHING, Initialisation, LossTerm, Needs, Strategy, TeacherOptions, View


@dataclass(slots=True)
class Teacher:
    """A neighbour's model as it was when its checkpoint left, and when it came."""

    model: nn.Module
    arrived_s: float
    arrived_step: int
    counted: bool = False


@dataclass(slots=True)
class State:
    """Newest teacher per sender; each holds a copy of the model, reused for the sender's next checkpoint."""

    teachers: dict[str, Teacher] = field(default_factory=dict)


@final
class CodistillCheckpoints(Strategy):
    """Learn from what the neighbours' stale models say about my own batch x [B, ...].

        L = task loss + alpha * ramp(step) * T^2 KL( sum_j w_j softmax(f_j(x) / T) / sum_j w_j  ||  softmax(f(x) / T) )

    f_j runs in evaluation mode with the buffers that came with its weights. One forward pass per teacher and step.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing; each checkpoint stands for itself, newest wins.
    When stale: the teacher's weight falls with age; beyond the horizon it is not run.
    """

    name = "codistill_checkpoints"
    needs = Needs(initialisation=Initialisation.DISTINCT, class_outputs=True, alike_models=True)
    topic = "weights"
    every_steps = 50
    options_type = TeacherOptions
    options: TeacherOptions

    def init(self, learner: Learner) -> State:
        return State()

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        expected = shapes_of(model_arrays(learner.model)) if arrivals else {}
        for arrival in arrivals:
            try:
                arrays = unpack(arrival.payload, expected)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            known = state.teachers.get(arrival.sender)
            model = known.model if known is not None else copy.deepcopy(learner.model).eval().requires_grad_(False)
            load_arrays(model, arrays)
            state.teachers[arrival.sender] = Teacher(model, arrival.arrived_s, learner.step)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        factor = self.options.factor(learner.step)
        if factor == 0.0:
            return NOTHING
        predictions, weights = [], []
        for sender, teacher in state.teachers.items():
            age_s, staleness = learner.now_s - teacher.arrived_s, learner.step - teacher.arrived_step
            weight = age_weight(age_s, staleness, self.exchange.stale_after_s, self.exchange.stale_after_steps)
            if weight <= 0.0:
                continue
            with torch.no_grad():
                predictions.append(soft_targets(teacher.model(learner.x), self.options.temperature))
            weights.append(weight)
            learner.ledger.applied(sender, staleness, age_s)
            if not teacher.counted:
                teacher.counted = True
                learner.ledger.exchanged(sender, learner.now_s)
        if not predictions:
            return NOTHING
        target = mean_of_teachers(torch.stack(predictions), weights)
        return LossTerm(factor * divergence(learner.outputs, target, self.options.temperature, self.options.direction))

    def adjust(self, state: State, learner: Learner) -> None:
        return None

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        return self.weights_parcels(learner, view)

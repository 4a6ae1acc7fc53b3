"""Codistillation by predictions on a common transfer set.

Codistillation: Anil et al. 2018 (1804.03235), section 2; exchange of predictions: Sodhani et al. 2020 (2010.02838).
There the peers must see the same minibatch at the same time; here the inputs are a fixed transfer set of unlabelled
examples that every peer holds, so that nothing has to be in step and a loss of messages is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from gossipdistill.learning.distillation import (
    age_weight,
    are_probabilities,
    divergence,
    mean_of_teachers,
    soft_targets,
)
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import PayloadRefusedError, pack, unpack
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import NOTHING, Initialisation, LossTerm, Needs, Strategy, TeacherOptions, View


class Options(TeacherOptions):
    """Keys of `[strategy]` for this strategy."""

    transfer_batch_size: int = Field(default=64, ge=1)
    """Transfer examples per step on which the student is compared with its teachers."""


@dataclass(slots=True)
class Teacher:
    """One neighbour's soft targets [N, C] for the whole transfer set, and when they came."""

    table: Tensor
    arrived_s: float
    arrived_step: int
    counted: bool = False


@dataclass(slots=True)
class State:
    """Newest teacher per sender; `tables` [J, N, C] is their stack in the same order, made anew when one changes."""

    teachers: dict[str, Teacher] = field(default_factory=dict)
    tables: Tensor | None = None


@final
class CodistillPredictions(Strategy):
    """Learn from what the neighbours predict for N common unlabelled inputs u_1..u_N.

    Loss on a batch b of transfer rows, with student logits z [B, C] and the tables p_j [N, C] of the living teachers:

        L = task loss + alpha * ramp(step) * T^2 KL( sum_j w_j p_j[b] / sum_j w_j  ||  softmax(z / T) )

    w_j falls linearly with the teacher's age to 0 at the horizon. Zero until somebody has spoken.

    Publishes: softmax(f(u) / T) for all N inputs, in evaluation mode; 2 N C bytes in half precision, plus a header.
    Conserves: nothing; each table stands for itself, newest wins.
    When stale: the teacher's weight falls with age; beyond the horizon the step is that of isolated training.
    """

    name = "codistill_predictions"
    needs = Needs(initialisation=Initialisation.DISTINCT, class_outputs=True, transfer_set=True)
    topic = "predictions"
    encoding = "half"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State()

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        assert learner.transfer is not None
        assert learner.classes is not None
        expected = {"soft_targets": (len(learner.transfer), learner.classes)}
        for arrival in arrivals:
            try:
                table = unpack(arrival.payload, expected)["soft_targets"]
                if not are_probabilities(table):
                    raise PayloadRefusedError("not_probabilities", "rows are no probability distributions")
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            state.teachers[arrival.sender] = Teacher(table.to(learner.device), arrival.arrived_s, learner.step)
            state.tables = None
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        factor = self.options.factor(learner.step)
        if factor == 0.0 or not state.teachers:
            return NOTHING
        weights = [self._weight(teacher, learner) for teacher in state.teachers.values()]
        if sum(weights) <= 0.0:
            return NOTHING
        assert learner.transfer is not None
        if state.tables is None:
            state.tables = torch.stack([teacher.table for teacher in state.teachers.values()])
        rows = learner.transfer_batch()
        target = mean_of_teachers(state.tables[:, rows], weights)
        logits = learner.forward(learner.transfer[rows])
        self._account(state, weights, learner)
        return LossTerm(
            factor * divergence(logits, target, self.options.temperature, self.options.direction), apart=True
        )

    def adjust(self, state: State, learner: Learner) -> None:
        return None

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        if not view.out_neighbours:
            return []
        assert learner.transfer is not None
        logits = learner.predict(learner.model, learner.transfer)
        if not bool(logits.isfinite().all()):
            learner.ledger.warn("my predictions are not finite: nothing published (has the training diverged?)")
            return []
        payload = pack({"soft_targets": soft_targets(logits, self.options.temperature)}, self.exchange.encoding)
        return self.parcels(payload, learner, view)

    def _weight(self, teacher: Teacher, learner: Learner) -> float:
        age_s, staleness_steps = learner.now_s - teacher.arrived_s, learner.step - teacher.arrived_step
        return age_weight(age_s, staleness_steps, self.exchange.stale_after_s, self.exchange.stale_after_steps)

    def _account(self, state: State, weights: list[float], learner: Learner) -> None:
        for (sender, teacher), weight in zip(state.teachers.items(), weights, strict=True):
            if weight > 0.0:
                learner.ledger.applied(sender, learner.step - teacher.arrived_step, learner.now_s - teacher.arrived_s)
                if not teacher.counted:
                    teacher.counted = True
                    learner.ledger.exchanged(sender, learner.now_s)

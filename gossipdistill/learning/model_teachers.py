"""Teachers that are models: stale copies of neighbours' weights, run on my own batch.

A copy has the buffers that came with its weights, and runs in evaluation mode: with the running statistics of BatchNorm
left at home it would judge with those of a model that no longer exists, and in training mode with those of my batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gossipdistill.learning.cloning import frozen_clone
from gossipdistill.learning.distillation import age_weight, are_constant, soft_targets
from gossipdistill.learning.evaluation import modes_of, set_modes
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import load_arrays
from gossipdistill.learning.teachers import CONSTANT, Attention, Choice, Distillation, LeftOut, RunningLoss
from gossipdistill.messages import Arrival
from gossipdistill.user_code import users_code

_SPEECHLESS = LeftOut("not_finite", "its model gives my batch no finite answer, though its weights are finite")


@dataclass(slots=True)
class ModelTeacher:
    """The model of `sender` as it was when it left, when it came, and its loss on my batches."""

    sender: str
    model: nn.Module
    arrived_s: float
    arrived_step: int
    probe: RunningLoss
    counted: bool = False
    constant: bool | None = None
    """Whether its outputs were the same for all of the first batch; None: it was not run yet."""


@dataclass(slots=True)
class ModelTeachers:
    """The newest teacher per key; each holds one copy of the model, reused for its successor."""

    horizon_of: Callable[[str], float]
    """It gives the age in seconds at which a sender's model has no weight; 0 is never."""
    horizon_steps: int
    by_key: dict[str, ModelTeacher] = field(default_factory=dict)
    my_loss: RunningLoss = field(default_factory=RunningLoss)
    attention: Attention = field(default_factory=Attention)

    def put(self, key: str, arrival: Arrival, arrays: Mapping[str, Tensor], learner: Learner) -> None:
        """Put a checkpoint that has come in place of the one at `key`. What was known of a teacher does not hold for a
        later process of the same peer."""
        sender, arrived_s = arrival.sender, arrival.arrived_s
        another = self.attention.heard(sender, arrival.version.boot, learner.step)
        known = self.by_key.get(key)
        model = known.model if known is not None else frozen_clone(learner.model)
        set_modes(model, modes_of(learner.model))  # those in which the weights were sent
        load_arrays(model, arrays)
        model.eval()
        probe = known.probe if known is not None and not another else RunningLoss()
        self.by_key[key] = ModelTeacher(sender, model, arrived_s, learner.step, probe)

    def term(self, learner: Learner, how: Distillation, choice: Choice) -> Tensor | None:
        """The divergence between the student's `learner.outputs` and the teachers' outputs for `learner.x`: a scalar,
        or None without a teacher to use. A teacher beyond the horizon is not run, and is dropped."""
        fresh: dict[str, float] = {}
        for key, teacher in list(self.by_key.items()):
            staleness = learner.step - teacher.arrived_step
            age_s, horizon_s = learner.now_s - teacher.arrived_s, self.horizon_of(teacher.sender)
            weight = age_weight(age_s, staleness, horizon_s, self.horizon_steps)
            if weight <= 0.0:
                del self.by_key[key]
                self.attention.stale(learner.ledger, learner.step, teacher.sender, age_s, staleness)
            else:
                fresh[key] = weight
        if not fresh:
            return None
        with torch.no_grad(), users_code("Task.model"):
            outputs = {key: self.by_key[key].model(learner.x) for key in fresh}
        predictions = {key: soft_targets(output, how.temperature) for key, output in outputs.items()}
        for key, table in predictions.items():
            if self.by_key[key].constant is None:
                self.by_key[key].constant = are_constant(table)
        left_out = {key: CONSTANT for key in fresh if self.by_key[key].constant}
        left_out |= {key: _SPEECHLESS for key, output in outputs.items() if not bool(output.isfinite().all())}
        new = self.attention.newcomers(learner.step, choice.newcomer_steps)
        left_out |= {key: new[self.by_key[key].sender] for key in fresh if self.by_key[key].sender in new}
        if choice.judges:
            left_out |= self._judge(outputs, left_out, learner, choice)
        reasons = {self.by_key[key].sender: why for key, why in left_out.items()}
        self.attention.note(learner.ledger, learner.step, [self.by_key[key].sender for key in fresh], reasons)
        heard = [key for key in fresh if key not in left_out]
        if not heard:
            return None
        for key in heard:
            teacher = self.by_key[key]
            staleness, age_s = learner.step - teacher.arrived_step, learner.now_s - teacher.arrived_s
            learner.ledger.applied(teacher.sender, staleness, age_s)
            if not teacher.counted:
                teacher.counted = True
                learner.ledger.exchanged(teacher.sender, learner.now_s)
        said = torch.stack([predictions[key] for key in heard])
        weights = torch.tensor([[fresh[key]] for key in heard], device=said.device)
        names = [self.by_key[key].sender for key in heard]
        return how.term(learner.outputs, names, said, weights)

    def burn_in(self, learner: Learner, steps: int) -> None:
        """Note that none of the teachers is listened to yet."""
        senders = [teacher.sender for teacher in self.by_key.values()]
        self.attention.burning_in(learner.ledger, learner.step, senders, steps)

    def _judge(
        self, outputs: Mapping[str, Tensor], out: Mapping[str, LeftOut], learner: Learner, choice: Choice
    ) -> dict[str, LeftOut]:
        """The teachers to leave out, by the loss of each on my labelled batch, beside mine: no announced loss is
        believed."""
        assert learner.criterion is not None
        assert learner.y is not None
        if learner.evaluation == 0:
            self.my_loss.look(learner.task_loss)
            for key, output in outputs.items():
                self.by_key[key].probe.look(float(learner.criterion(output, learner.y)))
        heard = (key for key in outputs if key not in out)
        return choice.left_out({key: self.by_key[key].probe.value for key in heard}, self.my_loss.value)

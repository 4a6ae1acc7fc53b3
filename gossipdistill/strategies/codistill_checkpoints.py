"""Codistillation by stale checkpoints.

Anil et al. 2018 (1804.03235), section 2: each peer loads old copies of the others' weights and learns from their
predictions for its *own* minibatch. Sodhani et al. 2020 (2010.02838), algorithm 1.
"""

from __future__ import annotations

from functools import partial
from typing import final

from gossipdistill.learning.learner import Learner
from gossipdistill.learning.model_teachers import ModelTeachers
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import NOTHING, Initialisation, LossTerm, Needs, Strategy, TeacherOptions, View
from gossipdistill.strategies.parcels import weights_parcels


@final
class CodistillCheckpoints(Strategy):
    """Learn from the outputs of the neighbours' stale models for my own batch x [B, ...].

        L = task loss + alpha * ramp(step) * max_j w_j
            * T^2 KL( sum_j w_j softmax(f_j(x) / T) / sum_j w_j  ||  softmax(f(x) / T) )

    f_j runs in evaluation mode with the buffers that came with its weights. One forward pass per teacher and step. w_j
    falls linearly with age to 0 at the horizon, and is 0 for a teacher that `quality_margin` or `best_k` leave out, by
    its loss on my own labelled batches, and for one whose outputs are the same for a whole batch.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing; each checkpoint stands for itself, newest wins.
    When stale: the teacher's weight falls with age; beyond the horizon it is not run.
    """

    name = "codistill_checkpoints"
    clip_norm = "auto"
    needs = Needs(initialisation=Initialisation.DISTINCT, class_outputs=True, alike_models=True)
    topic = "weights"
    every_steps = 50
    options_type = TeacherOptions
    options: TeacherOptions

    def init(self, learner: Learner) -> ModelTeachers:
        return ModelTeachers(partial(self.exchange.horizon_s, learner), self.exchange.stale_after_steps)

    def mix(self, state: ModelTeachers, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        for arrival in arrivals:
            try:
                arrays = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            state.put(arrival.sender, arrival, arrays, learner)
        return []

    def loss(self, state: ModelTeachers, learner: Learner) -> LossTerm:
        factor = self.options.factor(learner.step)
        if learner.step < self.options.burn_in_steps:
            state.burn_in(learner, self.options.burn_in_steps)
        term = state.term(learner, self.options.distillation, self.options.choice) if factor > 0.0 else None
        return NOTHING if term is None else LossTerm(factor * term)

    def publish(self, state: ModelTeachers, learner: Learner, view: View) -> list[Parcel]:
        return weights_parcels(self, learner, view)

"""Learning from one's own past predictions: the control for codistillation by predictions.

It sees the same unlabelled inputs, adds the same term to the loss and costs the same steps; only the neighbours are
missing. What codistillation gains beyond it comes from the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor

from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.distillation import divergence, soft_targets
from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import NOTHING, Delivery, LossTerm, Needs, Strategy, View
from gossipdistill.strategies.codistill_predictions import Options


@dataclass(slots=True)
class State:
    """My own soft targets [N, C] at my last exchange."""

    table: Tensor | None = None


@final
class SelfDistillation(Strategy):
    """L = task loss + alpha * ramp(step) * T^2 KL( softmax(f_past(u_b) / T) || softmax(f(u_b) / T) ).

    f_past is this peer's own model at its last exchange (the self-distillation of Furlanello et al. 2018, but online).

    Publishes: nothing.
    Conserves: nothing to conserve.
    When stale: never; its teacher is as old as its last exchange.
    """

    name = "self_distillation"
    clip_norm = "auto"
    delivery = Delivery.NONE
    needs = Needs(class_outputs=True, transfer_set=True)
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State()

    def remember(self, state: State) -> Memory:
        return {} if state.table is None else {"table": state.table}

    def recall(self, state: State, learner: Learner, memory: Memory) -> None:
        table = memory.get("table")
        assert learner.transfer is not None
        if isinstance(table, Tensor) and table.shape == (len(learner.transfer), learner.classes):
            state.table = table.to(learner.device)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        factor = self.options.factor(learner.step)
        if factor == 0.0 or state.table is None:
            return NOTHING
        assert learner.transfer is not None
        rows = learner.transfer_batch()
        logits = learner.forward(learner.transfer.index_select(0, rows))
        options = self.options
        return LossTerm(
            factor * divergence(logits, state.table[rows], options.temperature, options.divergence), apart=True
        )

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        assert learner.transfer is not None
        logits = learner.predict(learner.model, learner.transfer)
        state.table = soft_targets(logits, self.options.temperature)
        return []

"""Codistillation by predictions on a common transfer set.

Codistillation: Anil et al. 2018 (1804.03235), section 2; exchange of predictions: Sodhani et al. 2020 (2010.02838).
There the peers must see the same minibatch at the same time; here the inputs are a fixed transfer set of unlabelled
examples that every peer holds, so that nothing has to be in step and a loss of messages is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.disclosure import check_disclosure, disclosed
from gossipdistill.learning.distillation import age_weight, are_constant, are_probabilities, soft_targets
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.prediction_cache import PredictionCache
from gossipdistill.learning.snapshot import PayloadRefusedError, pack, unpack
from gossipdistill.learning.teachers import CONSTANT, Attention, LeftOut, RunningLoss
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    NOTHING,
    Extent,
    Initialisation,
    LossTerm,
    Needs,
    Publication,
    Strategy,
    TeacherOptions,
    View,
)
from gossipdistill.strategies.parcels import state_parcels

_EXCHANGES_TOLD_APART = 1 << 31


class Options(TeacherOptions):
    """Keys of `[strategy]` for this strategy."""

    transfer_batch_size: int = Field(default=32, ge=1)
    """The number of transfer examples on which a student is compared with its teachers in each step."""
    coordinated_rows: int = Field(default=0, ge=0)
    """The number of rows of the transfer set that travel in one exchange; all peers draw the same ones for the same
    exchange. 0: all rows travel."""
    cache_rows: int | None = Field(default=None, ge=1)
    """The number of past predictions that are kept of each teacher, with coordinated_rows. Unset: one for each transfer
    example."""
    reveal_top_k: int | None = Field(default=None, ge=1)
    """The number of likeliest classes of a row that leave a peer as they are; the others share the rest evenly. Unset:
    all do."""
    reveal_clip: float = Field(default=0.0, ge=0, lt=0.5)
    """The least probability of any class that a peer sends, so that no prediction is nearly certain. 0: as the model
    predicts."""

    @model_validator(mode="after")
    def _cache_holds_a_batch(self) -> Self:
        if self.cache_rows is not None and not 0 < self.coordinated_rows <= self.cache_rows:
            raise ValueError("cache_rows goes with coordinated_rows, and is no smaller")
        return self


@dataclass(slots=True)
class Teacher:
    """One neighbour: when its newest predictions came, and the loss that it announces (NaN: none)."""

    arrived_s: float
    arrived_step: int
    loss: float
    constant: bool = False
    """Whether its predictions are the same for all inputs."""
    counted: bool = False


@dataclass(slots=True)
class State:
    """The teachers' predictions, what is known of them, and my own running loss."""

    cache: PredictionCache
    shared: Draws
    teachers: dict[str, Teacher] = field(default_factory=dict)
    my_loss: RunningLoss = field(default_factory=RunningLoss)
    attention: Attention = field(default_factory=Attention)


@final
class CodistillPredictions(Strategy):
    """Learn from what the neighbours predict for N common unlabelled inputs u_1..u_N.

    Loss on a batch b of B transfer rows, with student logits z [B, C] and the newest p_j [C] of each teacher and row:

        L = task loss + alpha * ramp(step) * mean_b max_j w_jb
            * T^2 KL( sum_j w_jb p_jb / sum_j w_jb  ||  softmax(z / T) )

    w_jb falls linearly with the age of that prediction to 0 at the horizon, and is 0 for a teacher that is left out by
    `quality_margin` or `best_k`, by the losses that teachers announce, or whose predictions are the same for all
    inputs. The term is zero until predictions have come.

    With `coordinated_rows` = R, exchange k carries the same R rows from all peers (the coordinated batches of Sodhani
    et al.; no peer waits to be in step): fewer bytes per exchange, and N / R exchanges until every row was sent once.
    What came before is cached by sample, with its own age: a peer that is late, or a message that is lost, leaves older
    entries and no gap. The inputs have no random augmentation, or the teachers would judge other inputs.

    BatchNorm: what is published is computed in evaluation mode. The student's pass over transfer rows is one of
    training, so the running statistics follow my own examples and the common ones alike: they serve for both kinds.

    With `reveal_top_k` or `reveal_clip` less than p leaves this peer (learning/disclosure.py, docs/privacy.md). Rows
    stay probability distributions, so the receiver does as always, and peers may differ in what they reveal.

    Publishes: softmax(f(u) / T) in evaluation mode for all N inputs, or R of them; 2 N C (or 2 R C) bytes in half
    precision, N (4 k + 2) with the encoding top_k:k and up to 65,536 classes, 4 more for the loss where the options ask
    for losses, plus a header. What is not revealed takes as many bytes, unless the encoding is top_k.
    Conserves: nothing; each prediction stands for itself, newest wins.
    When stale: a prediction's weight falls with age; beyond the horizon the step is that of isolated training.
    """

    name = "codistill_predictions"
    clip_norm = "auto"
    needs = Needs(initialisation=Initialisation.DISTINCT, class_outputs=True, transfer_set=True)
    topic = "predictions"
    encoding = "half"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        assert learner.transfer is not None
        assert learner.classes is not None
        check_disclosure(learner.classes, self.options.reveal_top_k, self.options.reveal_clip)
        samples = len(learner.transfer)
        # All peers use one seed, whatever the seeds of their runs: what all must agree on does not depend on a setting.
        shared = Draws(samples, min(self.options.coordinated_rows or samples, samples), seed=0)
        kept = self.options.cache_rows or samples
        return State(PredictionCache(samples, learner.classes, kept, learner.device), shared)

    def remember(self, state: State) -> Memory:
        return {"my_loss": state.my_loss.value, "looks": state.my_loss.looks}

    def recall(self, state: State, learner: Learner, memory: Memory) -> None:
        loss, looks = memory.get("my_loss"), memory.get("looks")
        if isinstance(loss, int | float) and isinstance(looks, int | float) and math.isfinite(looks):
            state.my_loss = RunningLoss(float(loss), int(looks))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        assert learner.classes is not None
        for arrival in arrivals:
            expected: dict[str, tuple[int, ...]] = {"soft_targets": (state.shared.batch_size, learner.classes)}
            if any(array.name == "loss" for array in arrival.payload.layout):
                expected["loss"] = ()
            try:
                arrays = unpack(arrival.payload, expected, {})
                if not are_probabilities(arrays["soft_targets"]):
                    raise PayloadRefusedError("not_probabilities", "rows are no probability distributions")
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            rows = self._rows(state, arrival.exchange).to(learner.device)
            table = arrays["soft_targets"].to(learner.device)
            state.cache.put(arrival.sender, rows, table, arrival.arrived_s, learner.step)
            loss = float(arrays["loss"]) if "loss" in arrays else math.nan
            state.teachers[arrival.sender] = Teacher(arrival.arrived_s, learner.step, loss, are_constant(table))
            state.attention.heard(arrival.sender, arrival.version.boot, learner.step)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        choice = self.options.choice
        if choice.judges and learner.evaluation == 0:
            state.my_loss.look(learner.task_loss)
        if learner.step < self.options.burn_in_steps:
            state.attention.burning_in(learner.ledger, learner.step, state.teachers, self.options.burn_in_steps)
        factor = self.options.factor(learner.step)
        if factor == 0.0 or not self._forget_the_old(state, learner):
            return NOTHING
        new = state.attention.newcomers(learner.step, choice.newcomer_steps)
        losses = {name: teacher.loss for name, teacher in state.teachers.items() if name not in new}
        left_out = {**new, **choice.left_out(losses, state.my_loss.value)}
        left_out |= {name: CONSTANT for name, teacher in state.teachers.items() if teacher.constant}
        state.attention.note(learner.ledger, learner.step, state.teachers, left_out)
        heard = [name for name in state.cache.names if name not in left_out]
        if not heard:
            return NOTHING
        rows = self._batch(state, learner, set(heard))
        if not len(rows):
            return NOTHING
        predictions, weights = self._said(state, learner, rows, left_out)
        assert learner.transfer is not None
        logits = learner.forward(learner.transfer.index_select(0, rows))
        self._account(state, heard, learner)
        term = self.options.distillation.term(logits, state.cache.names, predictions, weights)
        return LossTerm(factor * term, apart=True)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        if not view.out_neighbours:
            return []
        assert learner.transfer is not None
        whole = state.shared.batch_size == state.shared.rows
        inputs = learner.transfer if whole else learner.transfer[self._rows(state, view.exchange)]
        logits = learner.predict(learner.model, inputs)
        if not bool(logits.isfinite().all()):
            learner.ledger.warn("my predictions are not finite: nothing published (has the training diverged?)")
            return []
        targets = soft_targets(logits, self.options.temperature)
        arrays = {"soft_targets": disclosed(targets, self.options.reveal_top_k, self.options.reveal_clip)}
        if self.options.choice.judges and math.isfinite(state.my_loss.value):
            arrays["loss"] = torch.tensor(state.my_loss.value)
        payload = pack(arrays, self.exchange.encoding, learner.ledger, tiny=False)
        return state_parcels(self, payload, learner, view)

    def publications(self, extent: Extent) -> list[Publication]:
        rows = min(self.options.coordinated_rows or extent.transfer_rows, extent.transfer_rows)
        arrays = {"soft_targets": torch.empty(rows, extent.classes, device="meta")}
        if self.options.choice.judges:
            arrays["loss"] = torch.empty((), device="meta")
        return [Publication(arrays, self.exchange.encoding)]

    def agreed(self) -> dict[str, str]:
        return {"temperature": str(self.options.temperature), "coordinated rows": str(self.options.coordinated_rows)}

    @staticmethod
    def _rows(state: State, exchange: int) -> Tensor:
        """The rows [R] that exchange number `exchange` is about, or all N of them in order."""
        if state.shared.batch_size == state.shared.rows:
            return torch.arange(state.shared.rows)
        return state.shared.at(exchange % _EXCHANGES_TOLD_APART)

    def _times(self, state: State, learner: Learner) -> tuple[float, int, dict[str, float], int]:
        """(now, the horizon of each teacher's entries): as many exchanges as it takes to cover every row."""
        words = -(-state.shared.rows // state.shared.batch_size)
        horizons = {name: self.exchange.horizon_s(learner, name, words) for name in state.cache.names}
        return learner.now_s, learner.step, horizons, self.exchange.stale_after_steps

    def _forget_the_old(self, state: State, learner: Learner) -> bool:
        """Drop teachers whose newest prediction is beyond the horizon. Returns whether any teacher is left."""
        for name, teacher in list(state.teachers.items()):
            age_s, staleness = learner.now_s - teacher.arrived_s, learner.step - teacher.arrived_step
            horizon_s = self.exchange.horizon_s(learner, name)
            if age_weight(age_s, staleness, horizon_s, self.exchange.stale_after_steps) <= 0.0:
                state.attention.stale(learner.ledger, learner.step, name, age_s, staleness)
                del state.teachers[name]
                state.cache.forget(name)
        return bool(state.teachers)

    def _batch(self, state: State, learner: Learner, heard: set[str]) -> Tensor:
        """The rows [B] of this step, drawn from those that some teacher has predicted."""
        if state.shared.batch_size == state.shared.rows:
            return learner.transfer_batch().to(learner.device)
        living = state.cache.living(heard, *self._times(state, learner))
        size = min(self.options.transfer_batch_size, len(living))
        generator = torch.Generator().manual_seed((learner.seed * 8191 + learner.place) * 1_000_003 + learner.step)
        return living[torch.randperm(len(living), generator=generator)[:size].to(living.device)]

    def _said(
        self, state: State, learner: Learner, rows: Tensor, left_out: Mapping[str, LeftOut]
    ) -> tuple[Tensor, Tensor]:
        """Each teacher's predictions for `rows`, as probabilities [J, B, C], and their weights [J, B or 1]."""
        now_s, step, after_s, after_steps = self._times(state, learner)
        if state.shared.batch_size == state.shared.rows:
            teachers = [(name, state.teachers[name]) for name in state.cache.names]
            ages = [(now_s - one.arrived_s, step - one.arrived_step, after_s[name]) for name, one in teachers]
            fresh = [age_weight(*age, after_steps) for age in ages]
            counts = [[0.0 if n in left_out else w] for n, w in zip(state.cache.names, fresh, strict=True)]
            return state.cache.whole(rows), torch.tensor(counts, device=rows.device)
        predictions, entries = state.cache.look_up(rows)
        weights = state.cache.freshness(entries, now_s, step, after_s, after_steps)
        if left_out:
            weights = weights * weights.new_tensor([[float(n not in left_out)] for n in state.cache.names])
        return predictions, weights

    @staticmethod
    def _account(state: State, heard: list[str], learner: Learner) -> None:
        for sender in heard:
            teacher = state.teachers[sender]
            learner.ledger.applied(sender, learner.step - teacher.arrived_step, learner.now_s - teacher.arrived_s)
            if not teacher.counted:
                teacher.counted = True
                learner.ledger.exchanged(sender, learner.now_s)

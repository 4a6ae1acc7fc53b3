"""Training towards the best of the neighbours instead of towards their mean.

Leader SGD: Teng, Gao, Chalus, Choromanska, Goldfarb and Weller 2019 (1905.10395), section 3, without its rounds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import final

import torch
from pydantic import Field
from torch import Tensor, nn

from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.cloning import frozen_clone
from gossipdistill.learning.delays import hold_step, release_step
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.evaluation import evaluating
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.snapshot import PayloadRefusedError, load_arrays
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import NOTHING, Initialisation, LossTerm, Needs, Strategy, View
from gossipdistill.user_code import users_code


class Options(base.AsynchronousOptions):
    """Keys of `[strategy]` for this strategy."""

    pull: float = Field(default=0.1, gt=0, le=1)
    """The part of the way to its leader that a model goes in one exchange period, spread over its steps."""
    probe_batches: int = Field(default=4, ge=1)
    """The number of a peer's last batches on which it compares models."""


@dataclass(slots=True)
class Model:
    """A version that a neighbour has sent."""

    arrays: dict[str, Tensor]
    arrived_s: float
    step: int


@dataclass(slots=True)
class State:
    """`probe` holds my last batches (x, y); `leader` the name of the best neighbour and its model, if it beats me.
    `scratch` is the copy of my model in which the others' weights are tried."""

    probe: deque[tuple[Tensor, Tensor]]
    leader: tuple[str, Model] | None = None
    scratch: nn.Module | None = None


@final
class LeaderSgd(Strategy):
    """x_i <- x_i - step(g_i) - lambda a (x_i - x~), with x~ the model of the leader, all parameters and buffers:

        on arrival    each new model of a neighbour, my leader's and my own are tried on my probe, my last
                      `probe_batches` batches; the leader is the one with the lowest loss, if that is not mine
        each step     lambda = pull / every_steps, and a, falling with the version's age, is 1 when it has just come

    No claim is believed, and so none is sent: a peer that boasts, or whose own data are easy, leads nobody whom it does
    not serve. At the leader itself nothing pulls, so the stationary points are those of plain training (section 3 of
    the paper). On shards so unlike that nobody is better at my examples than I, nobody leads me.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing; a lost or doubled version is harmless.
    When stale: the pull of a version falls with its age, to 0 at the horizon, where its leadership ends.
    """

    name = "leader_sgd"
    clip_norm = "auto"
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "weights"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State(deque(maxlen=self.options.probe_batches))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        release_step(learner)
        candidates = self._candidates(state, learner, arrivals)
        if candidates:
            if state.leader is not None:
                candidates.setdefault(*state.leader)
            if state.scratch is None:
                state.scratch = frozen_clone(learner.model)
            losses: dict[str, float] = {}
            for name, model in candidates.items():
                load_arrays(state.scratch, model.arrays)
                losses[name] = _loss(state, learner, state.scratch)
            best = min(losses, key=lambda name: losses[name])
            mine = _loss(state, learner, learner.model)
            state.leader = (best, candidates[best]) if losses[best] < mine else None
        if state.leader is not None:
            name, model = state.leader
            fresh = self._fresh(name, model, learner)
            if fresh == 0.0:
                state.leader = None
            else:
                share = fresh * self.options.pull / self.exchange.every_steps
                mix_in(learner.model, [(share, model.arrays)], learner.shared, learner.chance)
                learner.ledger.applied(name, learner.step - model.step, learner.now_s - model.arrived_s)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: State, learner: Learner) -> None:
        if self.options.delay_adaptive:
            hold_step(learner, self.exchange.horizon_s(learner), self.exchange.stale_after_steps)
        if learner.x is not None and learner.y is not None:
            state.probe.append((learner.x, learner.y))

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        release_step(learner)
        return self.weights_parcels(learner, view)

    def _candidates(self, state: State, learner: Learner, arrivals: list[Arrival]) -> dict[str, Model]:
        """The new models that are whole and fresh. Before my first batch nobody can be judged."""
        found: dict[str, Model] = {}
        for arrival in arrivals:
            try:
                arrays = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            device = learner.device
            model = Model({n: a.to(device) for n, a in arrays.items()}, arrival.arrived_s, learner.step)
            if state.probe and self._fresh(arrival.sender, model, learner) > 0.0:
                found[arrival.sender] = model
                learner.ledger.exchanged(arrival.sender, learner.now_s)
        return found

    def _fresh(self, sender: str, model: Model, learner: Learner) -> float:
        age_s, steps = learner.now_s - model.arrived_s, learner.step - model.step
        return age_weight(age_s, steps, self.exchange.horizon_s(learner, sender), self.exchange.stale_after_steps)


def _loss(state: State, learner: Learner, model: nn.Module) -> float:
    """The mean loss of a model on my probe; infinite if it is none."""
    assert learner.criterion is not None
    with evaluating(model), torch.no_grad(), users_code("Task.model"):
        losses = [float(learner.criterion(model(x), y)) for x, y in state.probe]
    mean = sum(losses) / len(losses)
    return mean if math.isfinite(mean) else math.inf

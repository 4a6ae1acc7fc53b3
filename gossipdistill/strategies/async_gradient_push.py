"""Gradient push among peers of unequal speed: each step counts for the time that it took.

Assran and Rabbat 2021 (1803.08950), section 3: without a correction, a peer that steps twice as often pulls twice as
hard. Steps summed over the time since the last one: R-ASGP, Spiridonoff, Olshevsky and Paschalidis 2020 (1811.03761),
algorithm 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch

from gossipdistill.learning.delays import hold_step, release_step
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, follow, give_all, settle, show, split
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Extent,
    Initialisation,
    LossTerm,
    MassOptions,
    Needs,
    Publication,
    Strategy,
    View,
)

STEP_S = "@step_s"
"""The scalar that is averaged along with the model; no parameter has such a name."""
SMOOTHING = 0.1
PAUSE_MAX = 4.0
"""A step that took longer than so many usual ones counts as so many: a suspended machine is not a slow one."""


class Options(MassOptions):
    """Keys of `[strategy]` for this strategy."""

    rate_correction: bool = True
    """Whether a step counts for the time that it took. Without it, the data of fast peers count for more, as in sgp."""


@dataclass(slots=True)
class State:
    """`own_s` is how long a step of mine takes, smoothed; `factor` what the step in progress is multiplied by."""

    mass: Mass
    own_s: float = 0.0
    stepped_s: float | None = None
    factor: float = 1.0
    met: bool = False

    @property
    def weight(self) -> float:
        """The push-sum weight that I hold."""
        return self.mass.weight


@final
class AsyncGradientPush(Strategy):
    """Push-sum of the models, where steps are proportional to time. Of peer i, all but t, s and w [P]:

        z_i = x_i / w_i          gradients are taken here, and the owner's optimiser steps here
        step                     x_i <- x_i + beta_i (z_i after - z_i before)
        beta_i                   t_i / t, at most w_i / (2 gamma)
        publish, arrival         as sgp: (p x_i, p s_i, p w_i) to the m neighbours whose links are free, p = 1 / (m + 1)
        t                        s_i / w_i, where s_i <- s_i + (t_i now - t_i before)

    t_i is the time between my steps in seconds, by my own clock, and t the mean of all peers', which the same push-sum
    tracks (dynamic average consensus; Zhu and Martinez 2010). So all pull with gamma / t per second, the mean of the
    factors is 1, and the learning rate needs no other tuning; the papers' K / c_i, which supposes that the number K of
    all steps is known, is the same up to that scale. gamma is the learning rate of the optimiser: seen from z a step is
    gamma beta / w, and the bound keeps it stable for curvatures up to 2 where little weight is left. A peer that has
    met nobody steps as ever.

    Publishes: all parameters and s, once per free neighbour; 4 P + 4 bytes in raw encoding, plus a header.
    Conserves: the sums of x, s and w over all peers and parcels on their way, as sgp does.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "async_gradient_push"
    delivery = Delivery.MASS
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "push_sum"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State(begin(learner, [STEP_S], self.options.stretch_max))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        release_step(learner)
        follow(state.mass, learner, state.factor)
        before = state.mass.weight
        settle(state.mass, learner, arrivals)
        state.met |= state.mass.weight > before
        show(state.mass, learner)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: State, learner: Learner) -> None:
        if state.stepped_s is not None:
            _keep_time(state, learner.now_s - state.stepped_s)
        state.stepped_s = learner.now_s
        state.factor = _factor(state, learner) if self.options.rate_correction and state.met else 1.0
        if self.options.delay_adaptive:
            hold_step(learner, self.exchange.horizon_s(learner), self.exchange.stale_after_steps)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        release_step(learner)
        follow(state.mass, learner, state.factor)
        show(state.mass, learner)
        taken = split(state.mass, learner, len(view.free), self.options.push_sum_weight_min, self.exchange.encoding)
        if taken is None:
            return []
        show(state.mass, learner)
        payload, weight = taken
        return self.consigned(payload, learner, view, view.free, weight)

    def publications(self, extent: Extent) -> list[Publication]:
        (parameters,) = super().publications(extent)
        return [replace(parameters, arrays={**parameters.arrays, STEP_S: torch.empty((), device="meta")})]

    def hand_over(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        settle(state.mass, learner, arrivals)
        given = give_all(state.mass) if view.free else None
        return [] if given is None else self.consigned(given[0], learner, view, view.free[:1], given[1])


def _keep_time(state: State, elapsed_s: float) -> None:
    """Another step has taken so long: my own time, and with it s, follow."""
    before = state.own_s
    if before == 0.0:
        state.own_s = elapsed_s
    else:
        state.own_s += SMOOTHING * (min(elapsed_s, PAUSE_MAX * before) - before)
    state.mass.x[-1] += state.own_s - before


def _factor(state: State, learner: Learner) -> float:
    """beta of the step in progress."""
    mean_s = float(state.mass.x[-1]) / state.mass.weight
    if not (state.own_s > 0.0 and mean_s > 0.0):
        return 1.0
    rate = max(float(group["lr"]) for group in learner.optimizer.param_groups)
    beta = state.own_s / mean_s
    return beta if rate <= 0.0 else min(beta, state.mass.weight / (2.0 * rate))

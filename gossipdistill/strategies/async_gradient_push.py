"""Gradient push among peers of unequal speed: each step counts for the time that it took.

Assran and Rabbat 2021 (1803.08950), section 3: without a correction, a peer that steps twice as often pulls twice as
hard. Steps summed over the time since the last one: R-ASGP, Spiridonoff, Olshevsky and Paschalidis 2020 (1811.03761),
algorithm 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch

from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import Extent, MassOptions, Publication, View
from gossipdistill.strategies.push_sum import PushSum

STEP_S = "@step_s"
"""This scalar is averaged along with the model; no parameter has such a name."""
SMOOTHING = 0.1
PAUSE_MAX = 4.0
"""A step that took longer than this number of usual steps counts as this number: a suspended machine is not a slow
one."""


class Options(MassOptions):
    """Keys of `[strategy]` for this strategy."""

    rate_correction: bool = True
    """Whether a step counts for the time that it took. Without it, the data of fast peers count for more, as in sgp."""


@dataclass(slots=True)
class State:
    """`own_s` is the smoothed duration of my steps (s). `factor` is beta, the factor by which my steps count."""

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
class AsyncGradientPush(PushSum):
    """Push-sum of the models, where steps are proportional to time: the equations of strategies/push_sum.py, with

        f = beta_i               t_i / t, at most kappa_i / (2 gamma); renewed at exchanges
        t                        s_i / w_i, where s_i <- s_i + (t_i now - t_i before), and (p x_i, p s_i, p w_i) is sent

    t_i is the time between my steps in seconds, by my own clock, and t the mean of all peers', which the same push-sum
    tracks (dynamic average consensus; Zhu and Martinez 2010). So all pull with gamma / t per second, the mean of the
    factors is 1, and the learning rate needs no other tuning; the papers' K / c_i, which supposes that the number K of
    all steps is known, is the same up to that scale. gamma is the learning rate of the optimiser: seen from z a step is
    gamma beta / kappa, and the bound keeps it stable for curvatures up to 2. A peer that has met no other one steps as
    usual.

    Publishes: all parameters and s, once per free neighbour; 4 P + 4 bytes in raw encoding, plus a header.
    Conserves: the sums of x, s and w over all peers and parcels on their way, as sgp does.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "async_gradient_push"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State(self.begun(learner, [STEP_S]))

    def mass_of(self, state: State) -> Mass:
        return state.mass

    def counted(self, state: State) -> float:
        return state.factor

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        before = state.mass.weight
        super().mix(state, learner, arrivals, view)
        state.met |= state.mass.weight > before
        if arrivals:
            self._renew(state, learner)
        return []

    def adjust(self, state: State, learner: Learner) -> None:
        if state.stepped_s is not None:
            _keep_time(state, learner.now_s - state.stepped_s)
        state.stepped_s = learner.now_s
        super().adjust(state, learner)

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        parcels = super().publish(state, learner, view)
        self._renew(state, learner)
        return parcels

    def publications(self, extent: Extent) -> list[Publication]:
        (parameters,) = super().publications(extent)
        return [replace(parameters, arrays={**parameters.arrays, STEP_S: torch.empty((), device="meta")})]

    def _renew(self, state: State, learner: Learner) -> None:
        if self.options.rate_correction and state.met:
            state.factor = _factor(state, learner)


def _keep_time(state: State, elapsed_s: float) -> None:
    """Update my step time, and s with it, by one more step of `elapsed_s` seconds."""
    before = state.own_s
    if before == 0.0:
        state.own_s = elapsed_s
    else:
        state.own_s += SMOOTHING * (min(elapsed_s, PAUSE_MAX * before) - before)
    state.mass.scalars[STEP_S] += state.own_s - before


def _factor(state: State, learner: Learner) -> float:
    """beta, which holds until the next exchange."""
    mean_s = state.mass.scalars[STEP_S] / state.mass.weight
    if not (state.own_s > 0.0 and mean_s > 0.0):
        return 1.0
    rate = max(float(group["lr"]) for group in learner.optimizer.param_groups)
    beta = state.own_s / mean_s
    return beta if rate <= 0.0 else min(beta, state.mass.kappa / (2.0 * rate))

"""Decentralised momentum SGD, in both orders of stepping and mixing.

DmSGD as compared by Yuan et al. 2021 (2104.11981), section 3. On unlike data its bias grows with 1 / (1 - beta)^2;
decentlam is free of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import final

from torch import Tensor

from gossipdistill.learning.flat import Coordinates, flat_parameters, move
from gossipdistill.learning.frames import Mixing, correction, send, take
from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    Delivery,
    Initialisation,
    Needs,
    RoundOptions,
    Rounds,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import reliable_parcels


class Order(StrEnum):
    """Whether the step is mixed as well."""

    ADAPT_THEN_COMBINE = "adapt_then_combine"
    ADAPT_WHILE_COMBINING = "adapt_while_combining"


class Options(RoundOptions):
    """Keys of `[strategy]` for this strategy."""

    order: Order = Order.ADAPT_THEN_COMBINE
    """Whether the step comes before the average. adapt_then_combine: x <- W (x - gamma m). adapt_while_combining:
    x <- W x - gamma m, as dpsgd does."""


@dataclass(slots=True)
class State:
    """`correction` [P] waits for the end of the step, where the step itself is not mixed."""

    mixing: Mixing
    correction: Tensor | None = None


@final
class Dmsgd(Strategy):
    """With x_i [P] all parameters, beta the momentum and gamma the learning rate of the owner's optimiser:

        m_i <- beta m_i + g_i(x_i)
        adapt_then_combine       x_i <- sum_j W_ij (x_j - gamma m_j)
        adapt_while_combining    x_i <- sum_j W_ij x_j - gamma m_i

    m is local and never mixed; the step may be any optimiser's. W_ij = 1 / (1 + max(d_i, d_j)) (Metropolis). What was
    stepped in round k is mixed when its frames are there, before the gradient of round k + 1; the last round of a run
    stays unmixed. A neighbour that is lost, or late by more than `round_timeout_s`, drops out of the round, and its
    share stays with me. Buffers (BatchNorm) stay each peer's own.

    Publishes: all parameters to each neighbour, every step; 4 P bytes in raw encoding, plus a header. It waits for the
    slowest neighbour in each round.
    Conserves: the mean of all models under mixing, in rounds that no peer drops out of; W is symmetric.
    When stale: it cannot be; a frame of an earlier round is not used.
    """

    name = "dmsgd"
    rounds = Rounds.LOCKSTEP
    delivery = Delivery.STREAM
    needs = Needs(strongly_connected=True, symmetric=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "round"
    every_steps = 1
    per_second_max = 0.0
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State(Mixing(Coordinates.of(learner.model, learner.shared)))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        round = view.exchange - 1
        take(state.mixing, learner, arrivals, round)
        change = correction(state.mixing, learner, round)
        if change is not None and self.options.order is Order.ADAPT_THEN_COMBINE:
            move(learner.model, change, learner.shared, learner.chance)
        elif change is not None:
            state.correction = change
        return []

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        if state.correction is not None:
            x = move(learner.model, state.correction, learner.shared, learner.chance)
            state.correction = None
        else:
            x = flat_parameters(learner.model, learner.shared)
        payload = send(state.mixing, learner, x, view.free, view.exchange, self.exchange.encoding)
        if payload is None:
            return []
        return reliable_parcels(self, payload, learner, replace(view, out_neighbours=view.free), view.free)

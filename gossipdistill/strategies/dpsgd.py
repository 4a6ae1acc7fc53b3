"""Decentralised parallel SGD: in each round all average with their neighbours, and wait for them.

D-PSGD: Lian et al. 2017 (1705.09056), algorithm 1. The synchronous yardstick for the strategies that do not wait.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(slots=True)
class State:
    """`correction` [P] is what mixing adds at the end of the step."""

    mixing: Mixing
    correction: Tensor | None = None


@final
class Dpsgd(Strategy):
    """x_i of round k + 1  =  sum_j W_ij x_j of round k  -  gamma g(x_i of round k), with x_i [P] all parameters.

    The gradient is taken before mixing, so that in our verbs, with x_j as all peers decode it alike:

        mix       c_i = sum_j W_ij (x_j - x_i) over the neighbours j whose frame of round k is here
        step      the owner's optimiser moves the model from x_i
        publish   x_i <- x_i + c_i, sent as the frame of round k + 1

    W_ij = 1 / (1 + max(d_i, d_j)) (Metropolis), from the degrees that the frames carry: the numbers of neighbours of i
    and j in this round. What is left stays with i. A neighbour that is lost, or late by more than `round_timeout_s`,
    drops out of the round, and its share stays with me. A frame of the next round is kept for later; an older one is
    not used. Buffers (BatchNorm) stay each peer's own.

    Publishes: all parameters to each neighbour, every step; 4 P bytes in raw encoding, plus a header. It waits for the
    slowest neighbour in each round: the only strategy beside all_reduce that does.
    Conserves: the mean of all models under mixing, in rounds that no peer drops out of; W is symmetric.
    When stale: it cannot be; a frame of an earlier round is not used.
    """

    name = "dpsgd"
    rounds = Rounds.LOCKSTEP
    delivery = Delivery.STREAM
    needs = Needs(strongly_connected=True, symmetric=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "round"
    every_steps = 1
    per_second_max = 0.0
    options_type = RoundOptions
    options: RoundOptions

    def init(self, learner: Learner) -> State:
        return State(Mixing(Coordinates.of(learner.model, learner.shared)))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        round = view.exchange - 1
        take(state.mixing, learner, arrivals, round)
        change = correction(state.mixing, learner, round)
        if change is not None:
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

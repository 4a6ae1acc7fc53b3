"""Stochastic gradient push: push-sum averaging of weights over any directed, time-varying topology, without waiting.

SGP and its overlapped form: Assran, Loizou, Ballas and Rabbat 2019 (1811.10792), algorithm 1 and section 4. Messages
may take any time: what is on its way belongs to nobody, and to nobody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from gossipdistill.learning.flat import by_name, flat_parameters, from_names, load_flat, parameter_shapes
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import PayloadRefusedError, Shapes, pack, unpack
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies import base
from gossipdistill.strategies.base import NOTHING, Delivery, Initialisation, LossTerm, Needs, Strategy, View


class Options(base.Options):
    """Keys of `[strategy]` for this strategy."""

    push_sum_weight_min: float = Field(default=1e-3, gt=0, lt=0.5)
    """A split that would leave less weight than this does not take place: noise in x is magnified by 1 / weight."""


@dataclass(slots=True)
class State:
    """`x` [P] float64 and `weight`: the push-sum numerator and denominator. `z` [P] is what the model held when they
    were last in agreement with it: x / weight in the model's own type."""

    x: Tensor
    weight: float
    z: Tensor
    shapes: Shapes


@final
class Sgp(Strategy):
    """Push-sum of the models, with the gradient at the unbiased point. Of peer i, all [P]:

        z_i = x_i / w_i              the model: gradients are taken here, and the owner's optimiser steps here
        step                         x_i <- x_i + (z_i after - z_i before): any optimiser, momentum and decay will do
        publish to the m neighbours  each gets (p x_i, p w_i), p = 1 / (m + 1), and I keep the rest:
        whose links are free         x_i <- x_i - m decode(encode(p x_i)),  w_i <- w_i - m p w_i
        on arrival of (x, w)         x_i <- x_i + x,  w_i <- w_i + w

    x is kept in float64 and w travels in float64. Column-stochastic by construction, whoever lives, is busy or is slow.
    A split that would leave w below `push_sum_weight_min` does not take place. Buffers (BatchNorm) are no mass: they
    stay each peer's own, as in the authors' code. A restarted peer begins with z of its checkpoint and w = 1.

    Publishes: all parameters, once per free neighbour; 4 P bytes in raw encoding (2 P in half), plus a header.
    Conserves: the sums of x and of w over all peers and parcels on their way, to rounding in float64, under any
    encoding; what the network loses or doubles changes nothing, and what is refused goes home. So z is always a
    weighted mean.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "sgp"
    delivery = Delivery.MASS
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "push_sum"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        z = flat_parameters(learner.model)
        return State(z.double(), 1.0, z, parameter_shapes(learner.model))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        self._add_displacement(state, learner)
        sound = not arrivals or math.isfinite(float(state.x.sum()))
        for arrival in arrivals:
            try:
                x = self._mass(arrival, state, sound)
            except PayloadRefusedError as refused:
                if not arrival.home:
                    learner.refuse(arrival, refused.reason)
                    if sound:
                        learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            state.x += x.to(state.x.device)
            state.weight += arrival.weight
            if not arrival.home:
                learner.absorb(arrival)
                learner.ledger.applied(arrival.sender, 0, learner.now_s - arrival.arrived_s)
                learner.ledger.exchanged(arrival.sender, learner.now_s)
        self._set_model(state, learner)
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: State, learner: Learner) -> None:
        return None

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        self._add_displacement(state, learner)
        self._set_model(state, learner)
        free = view.free
        share = 1.0 / (1 + len(free))
        if not free or share * state.weight < self.options.push_sum_weight_min:
            return []
        if not math.isfinite(float(state.x.sum())):
            learner.ledger.warn("my weights are not finite: nothing published (has the training diverged?)")
            return []
        payload = pack(by_name(share * state.x, state.shapes), self.exchange.encoding)
        try:
            sent = from_names(unpack(payload, state.shapes), state.shapes).to(state.x.device)
        except PayloadRefusedError as refused:
            learner.ledger.warn(f"nothing published: encoded as {self.exchange.encoding}, my own weights: {refused}")
            return []
        state.x -= len(free) * sent.double()
        weight = share * state.weight
        state.weight -= len(free) * weight
        self._set_model(state, learner)
        return self.consigned(payload, learner, view, free, weight)

    def _mass(self, arrival: Arrival, state: State, sound: bool) -> Tensor:
        """The vector x [P] of an arrival, or the reason why it is not absorbed."""
        if not (math.isfinite(arrival.weight) and arrival.weight > 0.0):
            raise PayloadRefusedError("weight", f"a push-sum weight of {arrival.weight} is none")
        if not sound and not arrival.home:
            raise PayloadRefusedError("diverged", "the training of its recipient has diverged")
        return from_names(unpack(arrival.payload, state.shapes), state.shapes)

    @staticmethod
    def _add_displacement(state: State, learner: Learner) -> None:
        # In this order, x is the model itself, bit for bit, as long as the weight is 1 and nothing has come.
        after = flat_parameters(learner.model)
        state.x -= state.z
        state.x += after
        state.z = after

    @staticmethod
    def _set_model(state: State, learner: Learner) -> None:
        z = (state.x / state.weight).to(state.z.dtype)
        if not torch.equal(z, state.z):
            load_flat(learner.model, z)
            state.z = flat_parameters(learner.model)  # what it really holds, should its types be mixed

"""Stochastic gradient push: push-sum averaging of weights over any directed, time-varying topology, without waiting.

Assran, Loizou, Ballas and Rabbat 2019 (1811.10792), algorithm 1. Messages
may take any time: what is on its way belongs to nobody, and to nobody else.
"""

from __future__ import annotations

from typing import final

from gossipdistill.learning.delays import hold_step, release_step
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, follow, give_all, settle, show, split
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Initialisation,
    LossTerm,
    MassOptions,
    Needs,
    Strategy,
    View,
)


@final
class Sgp(Strategy):
    """Push-sum of the models, with the gradient at the unbiased point. Of peer i, all [P]:

        z_i = x_i / w_i              the model: gradients are taken here, and the owner's optimiser steps here
        step                         x_i <- x_i + (z_i after - z_i before): any optimiser, momentum and decay will do
        publish to the m neighbours  each gets (p x_i, p w_i), p = 1 / (m + 1), and I keep the rest:
        whose links are free         x_i <- x_i - m decode(encode(p x_i)),  w_i <- w_i - m p w_i
        on arrival of (x, w)         x_i <- x_i + x,  w_i <- w_i + w

    x is kept in float64 and w travels in float64. Column-stochastic by construction, whoever lives, is busy or is slow.
    A split that would leave w below `push_sum_weight_min` does not take place. Where w is below 1 / `stretch_max` the
    step is damped, so that z moves by so many steps of the optimiser at most. The paper has no such bound; but a peer
    that is ten times slower comes to hold most of the weight, and for the others 1 / w is a learning rate too far.
    Buffers (BatchNorm) are no mass: they stay each peer's own, as in the authors' code. A restarted peer begins with z
    of its checkpoint and w = 1.

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
    options_type = MassOptions
    options: MassOptions

    def init(self, learner: Learner) -> Mass:
        return begin(learner, stretch_max=self.options.stretch_max)

    def mix(self, state: Mass, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        release_step(learner)
        follow(state, learner)
        settle(state, learner, arrivals)
        show(state, learner)
        return []

    def loss(self, state: Mass, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: Mass, learner: Learner) -> None:
        if self.options.delay_adaptive:
            hold_step(learner, self.exchange.horizon_s(learner), self.exchange.stale_after_steps)

    def publish(self, state: Mass, learner: Learner, view: View) -> list[Parcel]:
        release_step(learner)
        follow(state, learner)
        show(state, learner)
        taken = split(state, learner, len(view.free), self.options.push_sum_weight_min, self.exchange.encoding)
        if taken is None:
            return []
        show(state, learner)
        payload, weight = taken
        return self.consigned(payload, learner, view, view.free, weight)

    def hand_over(self, state: Mass, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        settle(state, learner, arrivals)
        given = give_all(state) if view.free else None
        return [] if given is None else self.consigned(given[0], learner, view, view.free[:1], given[1])

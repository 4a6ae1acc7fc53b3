"""Stochastic gradient push with communication behind computation: the snapshot leaves before the local step.

tau-OSGP: Assran, Loizou, Ballas and Rabbat 2019 (1811.10792), section 4 and algorithm 2.
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
class Osgp(Strategy):
    """Push-sum of the models whose shares travel while the gradient is computed. Of peer i, all [P]:

        on arrival of (x, w)         x_i <- x_i + x,  w_i <- w_i + w,  z_i = x_i / w_i
        every tau steps, publish     each of the m neighbours whose links are free gets (p x_i, p w_i), p = 1 / (m + 1);
                                     I keep the rest, and z_i is what it was
        step                         x_i <- x_i + (z_i after - z_i before): gradient and optimiser at z_i

    tau is `exchange.every_steps`. The paper's tau also bounds staleness: after tau steps without news its peers block.
    Here nobody blocks; a link whose last share is unsettled is passed over, and its share stays with me. Against sgp, a
    share lacks the step in progress, and has as long to arrive as that step takes. Buffers (BatchNorm) stay each peer's
    own. A restarted peer begins with z of its checkpoint and w = 1.

    Publishes: all parameters, once per free neighbour; 4 P bytes in raw encoding (2 P in half), plus a header.
    Conserves: the sums of x and of w over all peers and parcels on their way, as sgp does.
    When stale: it is still mass, and is absorbed at any age.
    """

    name = "osgp"
    delivery = Delivery.MASS
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "push_sum"
    overlapped = True
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

"""The common part of the push-sum strategies: one exchange of mass (learning/mass.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gossipdistill.events import EventKind
from gossipdistill.learning import mass as masses
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, give_all, room_for, settle, split
from gossipdistill.learning.reciprocity import PAUSE_S, UNANSWERED_MAX
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    Delivery,
    Initialisation,
    MassOptions,
    Needs,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import reliable_parcels


class PushSum(Strategy):
    """Push-sum of the models. Of peer i, all [P] but w, kappa, f and S:

        z_i                          the model: gradients are taken here, and the owner's optimiser steps here
        step                         x_i <- x_i + f (z_i after - z_i before) of a whole step; the one that is made is
                                     f / kappa_i times as long, kappa_i = max(w_i, 1 / S): any optimiser, with its
                                     momentum and its decay
        publish to the m neighbours  each gets (p x_i, p w_i), p = 1 / (m + 1), and I keep the rest:
        whose links are free         x_i <- x_i - m decode(encode(p x_i)),  w_i <- w_i - m p w_i
        on arrival of (x, w)         x_i <- x_i + x,  w_i <- w_i + w,  z_i = x_i / w_i where w_i >= 1 / S

    A peer publishes every `exchange.every_steps` steps, and whenever w_i > 1.5 and a link is free, at most
    `per_second_max` times a second. So even a very slow peer does not keep the weight that the others need.

    On a link that loses much several parcels may be under way, and p may be less: together they weigh at most half of
    all that the peer holds or has under way.
    """

    delivery = Delivery.MASS
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "push_sum"
    options_type = MassOptions
    options: MassOptions

    def init(self, learner: Learner) -> Any:
        return self.begun(learner)

    def begun(self, learner: Learner, scalars: Sequence[str] = ()) -> Mass:
        """The mass of a process that starts."""
        return begin(learner, scalars, self.options.stretch_max, self.options.push_sum_weight_min)

    def agreed(self) -> dict[str, str]:
        return {"strategy.push_sum_weight_min": f"{self.options.push_sum_weight_min:g}"}

    def mass_of(self, state: Any) -> Mass:
        """The mass in the strategy's state."""
        mass: Mass = state
        return mass

    def mix(self, state: Any, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        settle(self.mass_of(state), learner, arrivals, view.returned)
        return []

    def counted(self, state: Any) -> float:
        """f, the factor by which the step in progress counts."""
        return 1.0

    def adjust(self, state: Any, learner: Learner) -> None:
        factor = self.counted(state) / self.mass_of(state).kappa
        if self.options.delay_adaptive:
            factor *= self.exchange.shortened(learner)
        learner.step_scale.factor = factor

    def presses(self, state: Any) -> bool:
        return self.mass_of(state).weight > masses.PRESSING_WEIGHT

    def publish(self, state: Any, learner: Learner, view: View) -> list[Parcel]:
        mass = self.mass_of(state)
        room = room_for(mass.weight, mass.reciprocity.welcome(view.free, mass.weight, learner.now_s), view.under_way)
        to = tuple(room)
        taken = split(mass, learner, len(to), self.exchange.encoding, min(room.values(), default=0.0))
        if taken is None:
            return []
        for name in mass.reciprocity.gave(frozenset(to), view.two_way, learner.now_s):
            told = f"it has taken {UNANSWERED_MAX} parcels of mine and given none; for {PAUSE_S:g} s it gets nothing"
            learner.ledger.note(EventKind.WARNING, name, told)
        return reliable_parcels(self, taken[0], learner, view, to, taken[1])

    def hand_over(self, state: Any, learner: Learner, view: View) -> list[Parcel]:
        settle(self.mass_of(state), learner, [], view.returned, shown=False)
        given = give_all(self.mass_of(state), learner) if view.free else None
        return [] if given is None else reliable_parcels(self, given[0], learner, view, view.free[:1], given[1])

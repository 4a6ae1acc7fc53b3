"""Training alone: the baseline of every comparison."""

from __future__ import annotations

from typing import final

from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import Delivery, Strategy, View


@final
class Isolated(Strategy):
    """x <- x - step(grad f_i(x)): each peer on its own shard.

    Publishes: nothing.
    Conserves: nothing to conserve.
    When stale: nothing can be.
    """

    name = "isolated"
    clip_norm = "auto"
    delivery = Delivery.NONE

    def init(self, learner: Learner) -> None:
        return None

    def mix(self, state: None, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        return []

    def publish(self, state: None, learner: Learner, view: View) -> list[Parcel]:
        return []

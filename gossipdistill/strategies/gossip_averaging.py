"""Averaging stale weights with the neighbours', newest wins.

GALA: Assran et al. 2019 (1906.04585), section 3, without its waits: any subset of the neighbours is mixed in as it
arrives, and no peer is asked twice. Robust mixing: He, Karimireddy and Jaggi 2022 (2202.01545); see learning/robust.py.
"""

from __future__ import annotations

from functools import partial
from typing import final

from torch import Tensor

from gossipdistill.learning.averaging import at_most_the_plain_mean, mix_in
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.robust import Defence
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    AsynchronousOptions,
    Initialisation,
    Needs,
    RobustOptions,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import weights_parcels


class Options(AsynchronousOptions, RobustOptions):
    """Keys of `[strategy]` for this strategy."""


@final
class GossipAveraging(Strategy):
    """x_i <- (1 - sum_j W_ij) x_i + sum_j W_ij x_j over the neighbours j with a new version; each version is used once.

    W is the row-stochastic matrix of the topology at the sender's exchange, W_ij = 1 / (1 + living in-neighbours); it
    falls with the age of the version. Row-stochastic averaging converges to a consensus, which is the plain mean only
    where the topology is doubly stochastic and no peer is slower than the others.

    With `robust` other than none, x_j is bent towards x_i first, or a trimmed mean or median takes the place of the
    mean, so that `liars_max` neighbours cannot carry the others away, whatever they send.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing; a lost or doubled version is harmless, the average of all models is kept only roughly.
    When stale: a version's weight falls with age, to 0 at the horizon.
    """

    name = "gossip_averaging"
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "weights"
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> Defence | None:
        return self.options.defence(partial(self.exchange.horizon_s, learner))

    def mix(self, state: Defence | None, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        others: dict[str, tuple[float, dict[str, Tensor]]] = {}
        for arrival in arrivals:
            try:
                arrays = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            age_s = learner.now_s - arrival.arrived_s
            # It arrived between my last step and this one, so its staleness in steps is 0 by definition.
            horizon_s = self.exchange.horizon_s(learner, arrival.sender)
            fresh = age_weight(age_s, 0, horizon_s, self.exchange.stale_after_steps)
            weight = fresh * view.in_weights.get(arrival.sender, 0.0)
            if weight > 0.0:
                others[arrival.sender] = (weight, arrays)
                learner.ledger.applied(arrival.sender, 0, age_s)
                learner.ledger.exchanged(arrival.sender, learner.now_s)
        if others:
            scaled = at_most_the_plain_mean(others)
            if state is None:
                mix_in(learner.model, list(scaled.values()), learner.shared, learner.chance)
            else:
                state.mix_in(learner.model, scaled, learner.now_s, learner.shared, learner.chance)
        return []

    def publish(self, state: Defence | None, learner: Learner, view: View) -> list[Parcel]:
        return weights_parcels(self, learner, view)

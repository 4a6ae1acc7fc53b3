"""Each peer is pulled towards its neighbours: a whole strategy, written as CONTRIBUTING.md says.

The elastic term of EASGD (Zhang, Choromanska and LeCun 2015, 1412.6651, equation 5), without a centre.
"""

from __future__ import annotations

from typing import final

from torch import Tensor

from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.distillation import age_weight
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import read_model
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import AsynchronousOptions, Initialisation, Needs, Strategy, View
from gossipdistill.strategies.parcels import weights_parcels

PULL = 0.3


@final
class ElasticPull(Strategy):
    """x_i <- x_i + PULL a_j (x_j - x_i) for each neighbour j of whom a new version x_j [P] came, of weight a_j by age.

    Publishes: all parameters and buffers; 4 P bytes in raw encoding, plus a header.
    Conserves: nothing.
    When stale: a version's weight falls with age, to 0 at the horizon.
    """

    name = "elastic_pull"
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "elastic"
    options_type = AsynchronousOptions

    def init(self, learner: Learner) -> None:
        return None

    def mix(self, state: None, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        for arrival in arrivals:
            try:
                theirs: dict[str, Tensor] = read_model(arrival, learner)
            except PayloadRefusedError as refused:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
                continue
            age_s, horizon_s = learner.now_s - arrival.arrived_s, self.exchange.horizon_s(learner, arrival.sender)
            weight = PULL * age_weight(age_s, 0, horizon_s, self.exchange.stale_after_steps)
            if weight > 0.0:
                mix_in(learner.model, [(weight, theirs)], learner.shared, learner.chance)
                learner.ledger.applied(arrival.sender, 0, age_s)
                learner.ledger.exchanged(arrival.sender, learner.now_s)
        return []

    def publish(self, state: None, learner: Learner, view: View) -> list[Parcel]:
        return weights_parcels(self, learner, view)

"""Asynchronous decentralised SGD: pairs of peers average, whenever they like, and train on meanwhile.

AD-PSGD: Lian, Zhang, Zhang and Liu 2018 (1710.06952), algorithm 1, without its locks and its bipartite graph.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from gossipdistill.ids import PeerName
from gossipdistill.learning.blocks import Block, Flat
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, Reach, begin, encoded
from gossipdistill.learning.norms import judge_size
from gossipdistill.learning.snapshot import PayloadRefusedError, unpack
from gossipdistill.messages import Arrival, DeliveryClass, Parcel, Returned
from gossipdistill.strategies import base
from gossipdistill.strategies.base import (
    Delivery,
    Extent,
    Initialisation,
    Needs,
    Publication,
    Strategy,
    View,
)
from gossipdistill.strategies.parcels import reliable_parcels, state_parcels

ASK = "pair_average"
"""Models that ask for an average have this topic; the differences that answer have the strategy's own."""
DEGREE = "@degree"
"""This scalar in an ask is the number of neighbours that its sender asks at once."""


class Options(base.AsynchronousOptions):
    """Keys of `[strategy]` for this strategy."""

    answer_timeout_s: float = Field(default=1.0, gt=0)
    """The time in which a neighbour that has not answered is not asked again."""


@dataclass(slots=True)
class State:
    """`mass` is the model, whose weight is always 1, with its rounding remainder. `asked` maps each neighbour whose
    answer is still to come to the time of the ask (s)."""

    mass: Mass
    asked: dict[PeerName, float] = field(default_factory=dict)

    @property
    def weight(self) -> float:
        """The push-sum weight, the same on every peer: a difference carries none."""
        return self.mass.weight


@final
class Adpsgd(Strategy):
    """x_i, x_j <- (x_i + x_j) / 2 by a difference that is taken from one and given to the other. All [P]:

        publish                         i asks its neighbours of this exchange, each by a snapshot x_i
        on arrival of an ask, at j      d = (x_i as it was - x_j) / (1 + max(d_i, d_j)), as i reads it;  x_j <- x_j + d,
                                        and the parcel d goes to i, mass of weight 0
        on arrival of a difference      x_i <- x_i - d
        step                            x_i <- x_i + (x_i after - x_i before), whatever optimiser made it

    d_i is the number of answers that i waits for at once: with one, as the paper has it (a topology of one peer per
    exchange), the pair meets in the middle; with more, these are Metropolis weights. No peer is locked: i subtracts
    exactly what j has added, and both models may move meanwhile. An ask is not answered on a link whose last difference
    is unsettled. Where two peers ask each other at once, only the ask of the smaller name is answered; otherwise their
    models would be swapped. A peer that has not answered is not asked again for `answer_timeout_s`: two answers to one
    snapshot would carry i past the mean. An ask that is lost costs nothing; a difference is never lost. Fast peers ask
    more often, and their data count for more. Buffers (BatchNorm) stay each peer's own.

    Publishes: all parameters as an ask, 4 P + 4 bytes to each neighbour in raw encoding, plus a header, and 4 P bytes
    for each answer.
    Conserves: the sum of x over all peers, less the differences on their way, to rounding in float64, under loss,
    duplication and reordering: averaging never moves the mean, whatever the pace of each peer.
    When stale: a difference is absorbed at any age; an ask is answered when it comes, or not at all.
    """

    name = "adpsgd"
    delivery = Delivery.MASS
    needs = Needs(strongly_connected=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "difference"
    other_topics = (ASK,)
    options_type = Options
    options: Options

    def init(self, learner: Learner) -> State:
        return State(begin(learner))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        if not arrivals and not view.returned:
            return []
        z = state.mass.model(learner)
        reach = Reach.of(state.mass, z)
        sound = reach.sound
        answers: list[Parcel] = []
        for mine in view.returned:
            with contextlib.suppress(PayloadRefusedError):
                self._take_back(state, mine, z, reach)
        for arrival in arrivals:
            try:
                if arrival.delivery is not DeliveryClass.STATE:
                    self._take(state, learner, arrival, z, reach)
                elif sound and arrival.sender not in view.busy and not _crossing(state, learner, arrival):
                    answers += self._answer(state, learner, arrival, view, z, reach)
            except PayloadRefusedError as refused:
                if arrival.delivery is not DeliveryClass.STATE:
                    learner.refuse(arrival, refused.reason)
                if sound:
                    learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
        return answers

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        if not view.out_neighbours:
            return []
        since_s = learner.now_s - self.options.answer_timeout_s
        state.asked = {name: asked_s for name, asked_s in state.asked.items() if asked_s > since_s}
        to = tuple(name for name in view.out_neighbours if name not in state.asked)
        if not to:
            return []
        mass, z = state.mass, state.mass.model(learner)
        asked = state.asked | dict.fromkeys(to, learner.now_s)
        degree = {DEGREE: float(len(asked))}
        made = encoded(mass, learner, self.exchange.encoding, lambda block: mass.numerator(z, block), degree)
        if made is None:
            return []
        state.asked = asked
        (ask,) = state_parcels(self, made[0], learner, replace(view, out_neighbours=to))
        return [ask.with_content(topic=ASK)]

    def publications(self, extent: Extent) -> list[Publication]:
        (parameters,) = super().publications(extent)
        return [replace(parameters, arrays={**parameters.arrays, DEGREE: torch.empty((), device="meta")})]

    def hand_over(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        # All models have equal weight, so a peer that leaves keeps its own. A peer that has answered it gets its
        # difference back. Only the differences that I have sent are awaited.
        return []

    def _take(self, state: State, learner: Learner, arrival: Arrival, z: Flat, reach: Reach) -> None:
        """Subtract the difference that the other has added."""
        if arrival.weight != 0.0:
            raise PayloadRefusedError("weight", f"a difference has no weight, and this has {arrival.weight}")
        if not reach.sound:
            raise PayloadRefusedError("diverged", "the training of its recipient has diverged")
        coordinates = state.mass.coordinates
        arrays = unpack(arrival.payload, coordinates.shapes, coordinates.types)
        parts = list(arrays.values())
        judge_size(arrival.sender, parts, learner, difference=True)
        reach.judge(parts, 0.0)
        state.mass.add(z, [(-1.0, Flat(arrays, state.mass.q.device))], 0.0)
        learner.absorb(arrival)
        state.asked.pop(arrival.sender, None)
        _count(learner, arrival)

    def _take_back(self, state: State, mine: Returned, z: Flat, reach: Reach) -> None:
        """Subtract a difference that I have added and that the other did not take."""
        coordinates = state.mass.coordinates
        arrays = unpack(mine.payload, coordinates.shapes, coordinates.types)
        reach.count(arrays.values(), 0.0)
        state.mass.add(z, [(-1.0, Flat(arrays, state.mass.q.device))], 0.0)

    def _answer(
        self, state: State, learner: Learner, arrival: Arrival, view: View, z: Flat, reach: Reach
    ) -> list[Parcel]:
        """Move towards the snapshot that came, and send by how much."""
        mass = state.mass
        coordinates = mass.coordinates
        arrays = unpack(arrival.payload, {**coordinates.shapes, DEGREE: ()}, coordinates.types)
        degree = max(1.0, len(state.asked), float(arrays.pop(DEGREE)))
        parts = list(arrays.values())
        judge_size(arrival.sender, parts, learner)
        reach.judge(parts, 0.0)
        theirs = Flat(arrays, mass.q.device)

        def difference(block: Block) -> Tensor:
            return theirs.read(block).sub_(mass.numerator(z, block)).div_(1.0 + degree)

        made = encoded(mass, learner, self.exchange.encoding, difference)
        if made is None:
            return []
        payload, read = made
        mass.add(z, [(1.0, read)], 0.0)
        state.asked.pop(arrival.sender, None)  # we have asked each other, and this is the ask that counts
        _count(learner, arrival)
        return reliable_parcels(self, payload, learner, view, (arrival.sender,))


def _crossing(state: State, learner: Learner, arrival: Arrival) -> bool:
    """Whether I have asked this sender too, and my ask is the one that counts."""
    return arrival.sender in state.asked and learner.name < arrival.sender


def _count(learner: Learner, arrival: Arrival) -> None:
    learner.ledger.applied(arrival.sender, 0, learner.now_s - arrival.arrived_s)
    learner.ledger.exchanged(arrival.sender, learner.now_s)

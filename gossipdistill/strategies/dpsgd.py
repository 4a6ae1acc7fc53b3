"""Decentralised parallel SGD: in each round all average with their neighbours, and wait for them.

D-PSGD: Lian et al. 2017 (1705.09056), algorithm 1. The synchronous yardstick for the strategies that do not wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import final

from torch import Tensor

from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import by_name, flat_parameters, from_names, load_flat, parameter_shapes
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.rounds import AHEAD_MAX
from gossipdistill.learning.snapshot import PayloadRefusedError, Shapes, all_finite, pack, unpack
from gossipdistill.messages import Arrival, Parcel
from gossipdistill.strategies.base import (
    NOTHING,
    Delivery,
    Initialisation,
    LossTerm,
    Needs,
    RoundOptions,
    Rounds,
    Strategy,
    View,
)


@dataclass(slots=True)
class Frame:
    """The model of a neighbour at the end of one round: `x` [P], and with how many neighbours it mixes."""

    x: Tensor
    degree: int
    arrived_s: float


@dataclass(slots=True)
class State:
    """`sent` [P] is my model of the round in progress as the neighbours read it, and None once that round is mixed;
    `recipients` have it. `correction` [P] is what mixing adds at the end of the step."""

    shapes: Shapes
    round: int = -1
    sent: Tensor | None = None
    recipients: tuple[PeerName, ...] = ()
    frames: dict[tuple[PeerName, int], Frame] = field(default_factory=dict)
    correction: Tensor | None = None


@final
class Dpsgd(Strategy):
    """x_i of round k + 1  =  sum_j W_ij x_j of round k  -  gamma g(x_i of round k), with x_i [P] all parameters.

    The gradient is taken before mixing, so that in our verbs, with x_j as decoded by everybody alike:

        mix       c_i = sum_j W_ij (x_j - x_i) over the neighbours j whose frame of round k is here
        step      the owner's optimiser moves the model from x_i
        publish   x_i <- x_i + c_i, sent as the frame of round k + 1

    W_ij = 1 / (1 + max(d_i, d_j)) (Metropolis), from the degrees that the frames carry: how many neighbours i and j
    have in this round. What is left stays with i. A neighbour who is lost, or late by more than `round_timeout_s`,
    drops out of the round, and its share stays with me. A frame of the round after is kept for later, an older one put
    aside. Buffers (BatchNorm) stay each peer's own.

    Publishes: all parameters to each neighbour, every step; 4 P bytes in raw encoding, plus a header. It waits for the
    slowest neighbour in each round: the only strategy beside all_reduce that does.
    Conserves: the mean of all models under mixing, in rounds that nobody drops out of; W is symmetric.
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
        return State(parameter_shapes(learner.model))

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        round = view.exchange - 1
        for arrival in arrivals:
            if not arrival.home:
                self._take(arrival, state, learner, round)
        if state.sent is not None and state.round == round:
            degree = len(state.recipients)
            correction = state.sent.new_zeros(len(state.sent))
            for name in state.recipients:
                frame = state.frames.get((name, round))
                if frame is not None:
                    correction += (frame.x.to(correction.device) - state.sent) / (1 + max(degree, frame.degree))
                    learner.ledger.applied(name, 0, learner.now_s - frame.arrived_s)
                    learner.ledger.exchanged(name, learner.now_s)
            state.correction, state.sent = correction, None
        state.frames = {key: frame for key, frame in state.frames.items() if key[1] > round}
        return []

    def loss(self, state: State, learner: Learner) -> LossTerm:
        return NOTHING

    def adjust(self, state: State, learner: Learner) -> None:
        return None

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        x = flat_parameters(learner.model)
        if state.correction is not None:
            x += state.correction
            state.correction = None
            load_flat(learner.model, x)
        state.sent, state.recipients = None, view.free
        if not state.recipients:
            return []
        if not all_finite({"x": x}):
            learner.ledger.warn("my weights are not finite: nothing published (has the training diverged?)")
            return []
        payload = pack(by_name(x, state.shapes), self.exchange.encoding)
        # What the others will read, so that what I take from x_j, x_j takes from me, to the last bit.
        state.sent = from_names(unpack(payload, state.shapes), state.shapes).to(x.device)
        state.round = view.exchange
        mixing = replace(view, out_neighbours=state.recipients)
        return self.consigned(payload, learner, mixing, state.recipients)

    def _take(self, arrival: Arrival, state: State, learner: Learner, round: int) -> None:
        try:
            arrays = unpack(arrival.payload, state.shapes)
        except PayloadRefusedError as refused:
            learner.refuse(arrival, refused.reason)
            learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
            return
        learner.absorb(arrival)
        if round <= arrival.exchange <= round + AHEAD_MAX:
            x = from_names(arrays, state.shapes)
            state.frames[arrival.sender, arrival.exchange] = Frame(x, arrival.degree, arrival.arrived_s)

"""Decentralised momentum SGD without the bias that momentum adds on unlike data.

DecentLaM: Yuan et al. 2021 (2104.11981), algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from gossipdistill.errors import NeedsError
from gossipdistill.learning.checkpoint import Memory
from gossipdistill.learning.flat import Coordinates, flat_parameters, load_flat, move
from gossipdistill.learning.frames import Mixing, correction, send, take
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.rounding import wide
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
    """`half` [P] is x - gamma g of a step whose mixing is still to come; `velocity` [P] the part of momentum that comes
    from mixing, in units of x; `rate` the learning rate at which it was last used."""

    mixing: Mixing
    velocity: Tensor
    rate: float
    half: Tensor | None = None


@final
class Decentlam(Strategy):
    """With x_i [P] all parameters, beta the momentum and gamma the learning rate:

        g~_i = (x_i - sum_j W_ij (x_j - gamma g_j)) / gamma;   m_i <- beta m_i + g~_i;   x_i <- x_i - gamma m_i

    Mixing is thereby part of the gradient, and momentum accelerates both. Since gamma g~_i = gamma g_i - c_i, with
    c_i = sum_j W_ij (y_j - y_i) and y_i = x_i - gamma g_i, the same is done in two parts that add up:

        step      plain momentum SGD with g_i, by the run's own torch.optim.SGD
        publish   y_i, the frame of the round
        mix       v_i <- beta min(1, gamma / gamma before) v_i + c_i;   x_i <- x_i + v_i

    So nothing is divided by gamma: as gamma decays, that would magnify the differences between the models. Without a
    frame c_i is 0, a step of local momentum. W_ij = 1 / (1 + max(d_i, d_j)) (Metropolis). The last round of a run stays
    unmixed. Weight decay is part of g. The local step is the paper's: any other optimiser is refused.

    Publishes: all parameters to each neighbour, every step; 4 P bytes in raw encoding, plus a header. It waits for the
    slowest neighbour in each round.
    Conserves: the mean of all models under mixing, in rounds that no peer drops out of; W is symmetric.
    When stale: it cannot be; a frame of an earlier round is not used.
    """

    name = "decentlam"
    rounds = Rounds.LOCKSTEP
    delivery = Delivery.STREAM
    needs = Needs(strongly_connected=True, symmetric=True, alike_models=True, initialisation=Initialisation.IDENTICAL)
    topic = "round"
    owns_step = True
    every_steps = 1
    per_second_max = 0.0
    options_type = RoundOptions
    options: RoundOptions

    def init(self, learner: Learner) -> State:
        groups = learner.optimizer.param_groups
        plain = type(learner.optimizer) is torch.optim.SGD
        if not plain or any(group["nesterov"] or group["dampening"] or group["maximize"] for group in groups):
            kind = type(learner.optimizer).__name__
            raise NeedsError(
                f"strategy decentlam defines the local step itself, as momentum SGD, and the optimizer is {kind}"
                f"{' with nesterov, dampening or maximize' if plain else ''}; use train.optimizer = sgd, or dmsgd"
            )
        velocity = torch.zeros_like(wide(flat_parameters(learner.model, learner.shared)))
        return State(Mixing(Coordinates.of(learner.model, learner.shared)), velocity, float(groups[0]["lr"]))

    def remember(self, state: State) -> Memory:
        return {"velocity": state.velocity, "rate": state.rate}

    def recall(self, state: State, learner: Learner, memory: Memory) -> None:
        velocity, rate = memory.get("velocity"), memory.get("rate")
        fits = isinstance(velocity, Tensor) and velocity.shape == state.velocity.shape
        if isinstance(velocity, Tensor) and fits and isinstance(rate, int | float):
            state.velocity, state.rate = velocity.to(state.velocity), float(rate)

    def mix(self, state: State, learner: Learner, arrivals: list[Arrival], view: View) -> list[Parcel]:
        round = view.exchange - 1
        take(state.mixing, learner, arrivals, round)
        change = correction(state.mixing, learner, round)
        if change is not None:
            state.velocity += change
        if state.half is not None and bool(state.velocity.any()):
            move(learner.model, state.velocity, learner.shared, learner.chance)
        state.half = None
        return []

    def adjust(self, state: State, learner: Learner) -> None:
        state.half = _stepped(learner)
        group = learner.optimizer.param_groups[0]
        rate = float(group["lr"])
        # A rate that rises would carry over what was kept at a small one: never more than it was.
        state.velocity *= float(group["momentum"]) * (min(1.0, rate / state.rate) if state.rate > 0 else 1.0)
        state.rate = rate
        learner.optimizer.step()

    def publish(self, state: State, learner: Learner, view: View) -> list[Parcel]:
        half = state.half if state.half is not None else flat_parameters(learner.model, learner.shared)
        payload = send(state.mixing, learner, half, view.free, view.exchange, self.exchange.encoding)
        if payload is None:
            return []
        return reliable_parcels(self, payload, learner, replace(view, out_neighbours=view.free), view.free)


def _stepped(learner: Learner) -> Tensor:
    """y = x - gamma g [P], with weight decay in g; the model is x again afterwards."""
    x = flat_parameters(learner.model, learner.shared)
    with torch.no_grad():
        for group in learner.optimizer.param_groups:
            rate, decay = float(group["lr"]), float(group["weight_decay"])
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                    parameter.copy_(parameter - rate * (gradient + decay * parameter))
    half = flat_parameters(learner.model, learner.shared)
    load_flat(learner.model, x, learner.shared)
    return half

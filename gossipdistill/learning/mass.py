"""Push-sum mass of one peer: what the strategies that conserve it share, as functions.

    follow     the step that the owner's optimiser made at z is added to x
    settle     what came is added to x and w, or refused whole
    split      a share for each free neighbour leaves x and w
    show       the model is put at z = x / w
    give_all   everything leaves, with one who leaves

Push-sum: Kempe, Dobra and Gehrke 2003; with gradients: Assran et al. 2019 (1811.10792), algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossipdistill.learning.flat import Coordinates, flat_parameters, load_flat
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import judge_norm, norm_of
from gossipdistill.learning.snapshot import PayloadRefusedError, not_finite
from gossipdistill.messages import Arrival, Payload

STRETCH_MAX = 2.0
"""x moves by a step, so z = x / w moves by 1 / w steps: with most of the weight on its way, or with a peer that is ten
times slower, that is a learning rate at which anything diverges. 500 kills and restarts under 50 % loss ended in NaN
without a bound; beside a straggler, on Fashion-MNIST with momentum 0.9, four peers did with a bound of 8, and did best
with one of 2 (`experiments/which_strategy`). Beyond this the step is damped."""


@dataclass(slots=True)
class Mass:
    """`x` [P + Q] float64 and `weight`: the push-sum numerator and denominator. `z` [P] is what the model held when
    they were last in agreement with it: x / weight in the model's own type. The last Q coordinates of x, mostly none,
    are scalars of the strategy's own that are averaged along with the model. z moves by `stretch_max` steps at most."""

    x: Tensor
    weight: float
    z: Tensor
    coordinates: Coordinates
    stretch_max: float


def begin(learner: Learner, scalars: Sequence[str] = (), stretch_max: float = STRETCH_MAX) -> Mass:
    """All mass of a process that starts: its model, with weight 1. `scalars` are averaged along, and begin with 0."""
    z = flat_parameters(learner.model, learner.shared)
    coordinates = Coordinates.of(learner.model, learner.shared, scalars)
    x = torch.cat([z.double(), z.new_zeros(len(scalars), dtype=torch.float64)])
    return Mass(x, 1.0, z, coordinates, stretch_max)


def follow(mass: Mass, learner: Learner, factor: float = 1.0) -> None:
    """x <- x + min(factor, stretch_max * w) * (z now - z before): any optimiser, momentum and decay will do."""
    after = flat_parameters(learner.model, learner.shared)
    factor = min(factor, mass.stretch_max * mass.weight)
    if factor == 1.0:
        # In this order, x is the model itself, bit for bit, as long as the weight is 1 and nothing has come.
        mass.x[: len(after)] -= mass.z
        mass.x[: len(after)] += after
    else:
        mass.x[: len(after)] += factor * (after.double() - mass.z.double())
    mass.z = after


def show(mass: Mass, learner: Learner) -> None:
    """Put the model at z = x / w."""
    z = (mass.x[: len(mass.z)] / mass.weight).to(mass.z.dtype)
    if not torch.equal(z, mass.z):
        load_flat(learner.model, z, learner.shared)
        mass.z = flat_parameters(learner.model, learner.shared)  # what it really holds, should its types be mixed


def settle(mass: Mass, learner: Learner, arrivals: list[Arrival]) -> None:
    """x <- x + x of the arrival, w <- w + w of the arrival; each is absorbed or refused, once."""
    sound = not arrivals or math.isfinite(float(mass.x.sum()))
    for arrival in arrivals:
        try:
            x = _read(arrival, mass, learner, sound)
        except PayloadRefusedError as refused:
            if not arrival.home:
                learner.refuse(arrival, refused.reason)
                if sound:
                    learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
            continue
        mass.x += x.to(mass.x.device)
        mass.weight += arrival.weight
        if not arrival.home:
            learner.absorb(arrival)
            learner.ledger.applied(arrival.sender, 0, learner.now_s - arrival.arrived_s)
            learner.ledger.exchanged(arrival.sender, learner.now_s)


def split(mass: Mass, learner: Learner, parts: int, weight_min: float, encoding: str) -> tuple[Payload, float] | None:
    """Take `parts` equal shares p = 1 / (parts + 1) out of the mass: the payload and the weight of each.

    What leaves x is what the recipient will read, so that a lossy encoding loses nothing. None, and nothing taken, when
    nobody is there to take one, the weight would fall below `weight_min`, or the mass is not finite.
    """
    share = 1.0 / (1 + parts)
    if not parts or share * mass.weight < weight_min:
        return None
    if not math.isfinite(float(mass.x.sum())):
        learner.ledger.not_published(not_finite(mass.coordinates.by_name(mass.x)) or "their sum")
        return None
    payload = mass.coordinates.pack(share * mass.x, encoding, learner.ledger, tiny=False)
    try:
        sent = mass.coordinates.unpack(payload).to(mass.x.device)
    except PayloadRefusedError as refused:
        learner.ledger.warn(f"nothing published: encoded as {encoding}, my own weights: {refused}")
        return None
    mass.x -= parts * sent.double()
    weight = share * mass.weight
    mass.weight -= parts * weight
    return payload, weight


def give_all(mass: Mass) -> tuple[Payload, float] | None:
    """Take everything out of the mass of one who leaves: a payload and its weight; None where there is none, or what is
    there is not finite. Never encoded with a loss: nobody would be left to keep the rest."""
    if mass.weight <= 0.0 or not math.isfinite(float(mass.x.sum())):
        return None
    payload, weight = mass.coordinates.pack(mass.x, "raw"), mass.weight
    try:
        mass.x -= mass.coordinates.unpack(payload).to(mass.x.device).double()
    except PayloadRefusedError:
        return None  # beyond what it travels in
    mass.weight = 0.0
    return payload, weight


def _read(arrival: Arrival, mass: Mass, learner: Learner, sound: bool) -> Tensor:
    """The vector x [P] of an arrival, or the reason why it is not absorbed."""
    if not (math.isfinite(arrival.weight) and arrival.weight > 0.0):
        raise PayloadRefusedError("weight", f"a push-sum weight of {arrival.weight} is none")
    if not sound and not arrival.home:
        raise PayloadRefusedError("diverged", "the training of its recipient has diverged")
    x = mass.coordinates.unpack(arrival.payload)
    if not arrival.home:
        judge_norm(arrival.sender, norm_of([x[: len(mass.z)]]) / arrival.weight, learner)
    return x

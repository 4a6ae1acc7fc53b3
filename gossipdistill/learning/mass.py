"""Push-sum mass of one peer: what the strategies that conserve it share, as functions.

    settle     what came is added, or refused whole
    split      a share for each free neighbour leaves
    give_all   all mass leaves, with a peer that leaves

Push-sum: Kempe, Dobra and Gehrke 2003; with gradients: Assran et al. 2019 (1811.10792), algorithm 1. A peer holds a
numerator x [P] and a weight w, whose sums over all peers are conserved; x / w is its estimate of the mean. Here x is
not stored. With the model z [P], in its own types, and q [P] (learning/remainder.py),

    x = q + kappa z,     kappa = max(w, 1 / S),     S = `stretch_max`

so a step of the optimizer that is made 1 / kappa times as long (learning/step_scale.py) adds the whole step to x, and
touches neither q nor kappa: between exchanges nothing is done at all. At an exchange the vector is gone through once.

What x holds beyond the model is h = x - w z. Where w >= 1 / S, and in the textbook, where S is infinite, h is what
rounding has left, and so is q, which then takes 4 bytes a parameter; it takes 8 where w is smaller, with a lossy
encoding, and with parameters of fewer bits than float32. Where w is smaller, z moves by S steps and not by 1 / w; the
rest of the step is in h. So a bound takes nothing away from x: the sum over all peers moves by the sum of their steps
for every S, and the mean is the textbook's. Arrivals show what was hidden:

    w' = w + sum w_a,   lambda = min(1, S w'),   z' = (w z + sum x_a + lambda h) / w'

Shares carry their part of h along, and leave z as it is. Where the weight w is not 1, decay of the weights acts on z,
as every step does: x is decayed by lr decay z, which summed over peers that agree is what the mean is decayed by.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossipdistill.ids import PeerName
from gossipdistill.learning.blocks import Block, Flat, blocks_of, largest_of, peak
from gossipdistill.learning.flat import Coordinates
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.norms import judge_size
from gossipdistill.learning.reciprocity import Reciprocity
from gossipdistill.learning.remainder import Remainder
from gossipdistill.learning.snapshot import PayloadRefusedError, blank, not_finite, pack, unpack
from gossipdistill.messages import Arrival, Payload, Returned

STRETCH_MAX = 2.0
"""The model moves by at most this number of steps at once: see S at the head of this file."""
PRESSING_WEIGHT = 1.5
"""A peer that holds more weight than this publishes at its next step. A peer that is ten times slower publishes ten
times more rarely and comes to hold most of the weight: of 7, one was seen with 6.99. The others are left with a 1 / w
that is a learning rate at which anything diverges."""

WEIGHTS_MAX = 3.0
"""No parcel weighs more than this many times the number of peers."""


@dataclass(slots=True)
class Mass:
    """`q` [P] on the model's device, `weight` w and `kappa`, as in the head of this file. `coordinates` are those of
    the parameters; `scalars` of the strategy's own are averaged along with them, under names of their own. `fine`: no
    parameter is of fewer bits than float32. A parcel of a weight below `weight_min` / 2 or above `weight_max` is
    refused: no honest peer sends one."""

    q: Remainder
    coordinates: Coordinates
    blocks: tuple[Block, ...]
    stretch_max: float = STRETCH_MAX
    fine: bool = True
    weight: float = 1.0
    kappa: float = 1.0
    scalars: dict[str, float] = field(default_factory=dict)
    weight_min: float = 0.0
    weight_max: float = math.inf
    reciprocity: Reciprocity = field(default_factory=Reciprocity)

    def kappa_at(self, weight: float) -> float:
        """kappa at this weight: the amount by which x must rise for z to rise by 1."""
        return max(weight, 1.0 / self.stretch_max)

    def model(self, learner: Learner) -> Flat:
        """z, to be read and written."""
        return Flat(learner.shared.vector(learner.model), self.q.device)

    def numerator(self, z: Flat, block: Block) -> Tensor:
        """x of a block [b], float64."""
        return z.read(block).mul_(self.kappa).add_(self.q.read(block.at))

    def whole(self, learner: Learner) -> Tensor:
        """x [P], float64: as much memory as two models."""
        z = self.model(learner)
        return torch.cat([self.numerator(z, block) for block in self.blocks] or [self.q.read(slice(0, 0))])

    def add(self, z: Flat, terms: Sequence[tuple[float, Flat]], weight: float) -> None:
        """x <- x + the sum of factor * term, w <- w + weight; and z follows, as at the head of this file."""
        before, kappa = self.weight, self.kappa
        self.weight += weight
        self.kappa = self.kappa_at(self.weight)
        shown = min(1.0, self.stretch_max * self.weight)
        rounding = self.fine and self.kappa == self.weight
        if not rounding:
            self.q.widen()
        for block in self.blocks:
            old, q = z.read(block), self.q.read(block.at)
            came = _sum(terms, block)
            hidden = torch.add(q, old, alpha=kappa - before)
            z.write(block, hidden.mul_(shown).add_(old, alpha=before).add_(came).div_(self.weight))
            q.add_(old, alpha=kappa).add_(came).sub_(z.read(block), alpha=self.kappa)
            self.q.write(block.at, q)
        if rounding:
            self.q.narrow()
        z.close()
        self._add_scalars(terms)

    def add_hidden(self, terms: Sequence[tuple[float, Flat]], weight: float) -> None:
        """Make the same change to x and w, while the model stays as it is."""
        self.weight += weight
        self.q.widen()
        for block in self.blocks if terms else ():
            self.q.write(block.at, self.q.read(block.at).add_(_sum(terms, block)))
        self._add_scalars(terms)

    def take(self, z: Flat, sent: Flat, parts: int, weight: float, lossy: bool) -> None:
        """x <- x - parts * sent, w <- w - weight; the model stays as it is."""
        kappa = self.kappa
        self.weight -= weight
        self.kappa = self.kappa_at(self.weight)
        if lossy or not self.fine or self.kappa > self.weight:
            self.q.widen()
        for block in self.blocks:
            q = self.q.read(block.at).add_(z.read(block), alpha=kappa - self.kappa)
            self.q.write(block.at, q.sub_(sent.read(block), alpha=parts))
        self._add_scalars([(-float(parts), sent)])

    def _add_scalars(self, terms: Sequence[tuple[float, Flat]]) -> None:
        for name in self.scalars:
            self.scalars[name] += sum(factor * float(term.tensors[name]) for factor, term in terms)


def _sum(terms: Sequence[tuple[float, Flat]], block: Block) -> Tensor:
    """The sum of factor * term [b] in float64."""
    (factor, term), *more = terms
    total = term.read(block).mul_(factor)
    for factor, term in more:
        total.add_(term.read(block), alpha=factor)
    return total


def begin(
    learner: Learner, scalars: Sequence[str] = (), stretch_max: float = STRETCH_MAX, weight_min: float = 0.0
) -> Mass:
    """All mass of a process that starts: its model, with weight 1. `scalars` are averaged along, and begin with 0.

    Each start brings 1, and one peer may hold all that there is: three times the number of peers leaves room for starts
    whose mass has not been written off yet.
    """
    parts = learner.shared.vector(learner.model)
    device = next((part.device for part in parts.values()), torch.device("cpu"))
    q = Remainder(sum(part.numel() for part in parts.values()), device)
    fine = all(torch.finfo(part.dtype).eps <= torch.finfo(torch.float32).eps for part in parts.values())
    coordinates = Coordinates.of(learner.model, learner.shared)
    return Mass(
        q,
        coordinates,
        blocks_of(parts),
        stretch_max,
        fine,
        scalars=dict.fromkeys(scalars, 0.0),
        weight_min=weight_min,
        weight_max=WEIGHTS_MAX * max(learner.count, len(learner.peers)),
    )


# --- what comes ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reach:
    """How large the model may become by what is going to be added: the largest |w z| and |h| together, and the weight.
    `limit` is half the largest number that the model's types hold."""

    numerator: float
    weight: float
    limit: float

    @staticmethod
    def of(mass: Mass, z: Flat) -> Reach:
        """The reach before anything is added; not finite where the training has diverged."""
        shown = hidden = 0.0
        for block in mass.blocks:
            old = z.read(block)
            shown = _larger(shown, peak(old))
            hidden = _larger(hidden, peak(old.mul_(mass.kappa - mass.weight).add_(mass.q.read(block.at))))
        return Reach(mass.weight * shown + hidden, mass.weight, 0.5 * largest_of(z.tensors.values()))

    @property
    def sound(self) -> bool:
        """Whether the training has not diverged."""
        return math.isfinite(self.numerator)

    def count(self, parts: Iterable[Tensor], weight: float) -> None:
        """Count what was mine and is going to be added again, with this weight."""
        self.numerator, self.weight = self.numerator + max(map(peak, parts), default=0.0), self.weight + weight

    def judge(self, parts: Sequence[Tensor], weight: float) -> None:
        """Count what another peer sends, with this weight.

        Raises:
            PayloadRefusedError: unless what results is certain to be finite.
        """
        largest = max(map(peak, parts), default=0.0)
        if not (self.numerator + largest) / (self.weight + weight) <= self.limit:
            raise PayloadRefusedError("range", f"with weights of {largest:.4g} the model could become infinite")
        self.numerator, self.weight = self.numerator + largest, self.weight + weight


def _larger(one: float, other: float) -> float:
    """The larger of two; NaN if one is."""
    return other if math.isnan(other) or other > one else one


def settle(
    mass: Mass, learner: Learner, arrivals: list[Arrival], returned: Sequence[Returned] = (), shown: bool = True
) -> None:
    """Each arrival is absorbed or refused, once, and what was returned is added. All are looked at before the first is
    mixed in, and nothing that is mixed in can make the model infinite. Unless `shown`, the model stays as it is."""
    if not arrivals and not returned:
        return
    z = mass.model(learner)
    reach = Reach.of(mass, z)
    sound, terms, weight = reach.sound, [], 0.0
    for mine in returned:
        with contextlib.suppress(PayloadRefusedError):
            arrays, parts = _arrays(mine, mass)
            reach.count(parts, mine.weight)
            terms.append((1.0, Flat(arrays, mass.q.device)))
            weight += mine.weight
    for arrival in arrivals:
        try:
            arrays = _read(arrival, mass, learner, reach)
        except PayloadRefusedError as refused:
            learner.refuse(arrival, refused.reason)
            if sound:
                learner.ledger.quarantine(arrival.sender, refused.reason, str(refused))
            continue
        terms.append((1.0, Flat(arrays, mass.q.device)))
        weight += arrival.weight
        mass.reciprocity.came(arrival.sender)
        learner.absorb(arrival)
        learner.ledger.applied(arrival.sender, 0, learner.now_s - arrival.arrived_s)
        learner.ledger.exchanged(arrival.sender, learner.now_s)
    if terms and shown:
        mass.add(z, terms, weight)
    elif terms:
        mass.add_hidden(terms, weight)


def _read(arrival: Arrival, mass: Mass, learner: Learner, reach: Reach) -> dict[str, Tensor]:
    """The arrays of an arrival, or the reason why it is not absorbed."""
    if not (math.isfinite(arrival.weight) and arrival.weight > 0.0):
        raise PayloadRefusedError("weight", f"a push-sum weight of {arrival.weight} is none")
    if not 0.5 * mass.weight_min <= arrival.weight <= mass.weight_max:
        told = (
            f"a push-sum weight of {arrival.weight:.4g}; {0.5 * mass.weight_min:.4g} to {mass.weight_max:.4g} are taken"
        )
        raise PayloadRefusedError("weight", told)
    if not reach.sound:
        raise PayloadRefusedError("diverged", "the training of its recipient has diverged")
    arrays, parts = _arrays(arrival, mass)
    judge_size(arrival.sender, parts, learner, arrival.weight)
    reach.judge(parts, arrival.weight)
    return arrays


def _arrays(carrier: Arrival | Returned, mass: Mass) -> tuple[dict[str, Tensor], list[Tensor]]:
    """All arrays of a parcel by name, and those of the model."""
    shapes, types = mass.coordinates.shapes, mass.coordinates.types
    arrays = unpack(carrier.payload, {**shapes, **dict.fromkeys(mass.scalars, ())}, types)
    return arrays, [arrays[name] for name in shapes]


# --- what leaves -----------------------------------------------------------------------------------------------------


def room_for(weight: float, to: Sequence[PeerName], under_way: Mapping[PeerName, float]) -> dict[PeerName, float]:
    """The neighbours that get a share of the weight that I hold, and the largest part of it that a share may be.

    The weight in flight on one link is at most half of all weight that I hold or have in flight, because it could be
    lost with its recipient. A neighbour that could get less than half of an equal share gets none.
    """
    if weight <= 0.0:
        return {}
    half = 0.5 * (weight + sum(under_way.values()))
    room = {name: (half - under_way.get(name, 0.0)) / weight for name in to}
    return {name: part for name, part in room.items() if part >= 0.5 / (1 + len(to))}


def split(
    mass: Mass, learner: Learner, parts: int, encoding: str, share_max: float = 1.0
) -> tuple[Payload, float] | None:
    """Take `parts` equal shares p = 1 / (parts + 1), `share_max` at most, out of the mass: payload and weight of each.

    What leaves x is what the recipient will read, so that a lossy encoding loses nothing. None, and nothing is taken,
    when there is no recipient, the weight would fall below its least, or the mass is not finite.
    """
    share = min(1.0 / (1 + parts), share_max)
    if not parts or share * mass.weight < mass.weight_min:
        return None
    z = mass.model(learner)
    scalars = {name: share * value for name, value in mass.scalars.items()}
    made = encoded(mass, learner, encoding, lambda block: mass.numerator(z, block).mul_(share), scalars)
    if made is None:
        return None
    payload, sent = made
    weight = share * mass.weight
    mass.take(z, sent, parts, parts * weight, lossy=encoding != "raw")
    return payload, weight


def give_all(mass: Mass, learner: Learner) -> tuple[Payload, float] | None:
    """Take all mass of a peer that leaves: a payload and its weight; None where there is none, or it is not finite. The
    encoding is lossless: no peer would be left to keep the rest."""
    if mass.weight <= 0.0:
        return None
    z, weight = mass.model(learner), mass.weight
    made = encoded(mass, learner, "raw", lambda block: mass.numerator(z, block), mass.scalars)
    if made is None:
        return None
    mass.add_hidden([(-1.0, made[1])], -weight)
    mass.weight = 0.0
    return made[0], weight


def encoded(
    mass: Mass, learner: Learner, encoding: str, values_of: Callable[[Block], Tensor], scalars: Mapping[str, float] = {}
) -> tuple[Payload, Flat] | None:
    """A payload of these values [b] of each block, and of scalars; and what its recipient will read.

    None, with a word in the ledger, where something is not finite, or the encoding fails.
    """
    shapes, types = {**mass.coordinates.shapes, **dict.fromkeys(scalars, ())}, mass.coordinates.types
    payload, arrays = blank(shapes, types)
    out, largest = Flat(arrays, mass.q.device), 0.0
    for block in mass.blocks:
        values = values_of(block)
        largest = _larger(largest, peak(values))
        out.write(block, values)
    for name, value in scalars.items():
        arrays[name].fill_(value)
    if not largest <= largest_of(arrays.values()):
        learner.ledger.not_published(not_finite(arrays) or "their sum")
        return None
    if encoding == "raw":
        return payload, out
    payload = pack(arrays, encoding, learner.ledger, tiny=False)
    try:
        return payload, Flat(unpack(payload, shapes, types), mass.q.device)
    except PayloadRefusedError as refused:
        learner.ledger.warn(f"nothing published: encoded as {encoding}, my own weights: {refused}")
        return None

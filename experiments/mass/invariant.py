"""`python -m experiments.mass.invariant [OPERATIONS]`: the sum of all mass, in exact arithmetic, after each operation.

Peers step, publish, absorb, refuse, are killed and come back, in an order drawn at random. Half of all attempts to
deliver a parcel fail: it stays on its way. What is asked after every single operation: that the sum of x over peers and
parcels is what was brought, plus the steps, less what ended with the killed. The books are kept in fractions, so the
error that is found is that of the product alone.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import nn

from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, settle, split
from gossipdistill.learning.snapshot import unpack
from gossipdistill.messages import Arrival, Content, DeliveryClass, Payload, Returned

SIZES = (3, 2)
"""Parameters of a peer's model, in two tensors."""
LOSS = 0.5
RESULTS = Path(__file__).parent / "results" / "invariant.json"

Sum = list[Fraction]
"""x summed up, one for each parameter, and the weight after them."""


@dataclass
class Parcel:
    """A share on its way."""

    sender: int
    to: int
    payload: Payload
    weight: float
    holds: Sum


@dataclass
class Books:
    """Peers, parcels, and what their sum must be."""

    peers: int = 5
    seed: int = 0
    encodings: tuple[str, ...] = ("raw", "half", "int8")
    stretches: tuple[float, ...] = (1.0, 2.0, math.inf)
    learners: list[Learner] = field(default_factory=list)
    masses: list[Mass] = field(default_factory=list)
    held: list[Sum] = field(default_factory=list)
    on_the_way: list[Parcel] = field(default_factory=list)
    wanted: Sum = field(default_factory=lambda: [Fraction(0)] * (sum(SIZES) + 1))
    """What the sum must be."""
    total: Sum = field(default_factory=lambda: [Fraction(0)] * (sum(SIZES) + 1))
    """What it is: over peers and parcels, kept up with every change of one of them."""
    scale: float = 1.0
    error: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        for place in range(self.peers):
            values = [torch.tensor([self.chance.gauss(0.0, 1.0) for _ in range(size)]) for size in SIZES]
            model = nn.ParameterList([nn.Parameter(value) for value in values])
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            names = tuple(f"p{other}" for other in range(self.peers))
            self.learners.append(Learner(f"p{place}", place, names, model, optimizer, torch.device("cpu"), self.seed))
            self.masses.append(self._born(place))
            self.held.append(self._sum_of(place))
            self.wanted = _plus(self.wanted, self.held[-1])
            self.total = _plus(self.total, self.held[-1])

    def _born(self, place: int) -> Mass:
        return begin(self.learners[place], stretch_max=self.stretches[place % len(self.stretches)], weight_min=1e-3)

    def _sum_of(self, place: int) -> Sum:
        """x = q + kappa z and w of one peer, exactly."""
        mass, kappa = self.masses[place], Fraction(self.masses[place].kappa)
        z = [value for part in self.learners[place].model.parameters() for value in part.detach().tolist()]
        held = mass.q.read(slice(None)).tolist()
        x = [Fraction(q) + kappa * Fraction(value) for q, value in zip(held, z, strict=True)]
        return [*x, Fraction(mass.weight)]

    def operate(self) -> None:
        """One operation, and the sum after it."""
        name = self.chance.choices(("step", "publish", "deliver", "kill"), (10, 6, 40, 0.3))[0]
        self.counts[name] = self.counts.get(name, 0) + 1
        place = self.chance.randrange(self.peers)
        getattr(self, f"_{name}")(place)
        self.scale = max(self.scale, *(abs(float(value)) for value in self.wanted))
        worst = max(abs(float(have - want)) for have, want in zip(self.total, self.wanted, strict=True))
        self.error = max(self.error, worst / self.scale)

    def _touch(self, place: int) -> Sum:
        """What has come to a peer since the last look."""
        before, self.held[place] = self.held[place], self._sum_of(place)
        change = _plus(self.held[place], before, -1)
        self.total = _plus(self.total, change)
        return change

    def _send(self, parcel: Parcel) -> None:
        self.on_the_way.append(parcel)
        self.total = _plus(self.total, parcel.holds)

    def _take(self, at: int) -> Parcel:
        parcel = self.on_the_way.pop(at)
        self.total = _plus(self.total, parcel.holds, -1)
        return parcel

    def _step(self, place: int) -> None:
        """A step of the optimizer, of which x gets the whole: 1 / kappa times as long at z."""
        learner, mass = self.learners[place], self.masses[place]
        for part in learner.model.parameters():
            part.grad = torch.tensor([self.chance.gauss(0.0, 0.05) for _ in range(part.numel())])
        learner.step_scale.factor = 1.0 / mass.kappa
        learner.optimizer.step()
        moved = self._touch(place)
        self.wanted = _plus(self.wanted, moved)
        grads = [value for part in learner.model.parameters() for value in part.grad.tolist()]  # type: ignore[union-attr]
        for value, gradient in zip(moved, grads, strict=False):
            self.error = max(self.error, 0.0 if math.isclose(value, -gradient, abs_tol=1e-5) else 1.0)

    def _publish(self, place: int) -> None:
        learner, mass = self.learners[place], self.masses[place]
        to = self.chance.sample([other for other in range(self.peers) if other != place], self.chance.randint(1, 3))
        made = split(mass, learner, len(to), self.chance.choice(self.encodings))
        self._touch(place)
        for other in to if made is not None else ():
            payload, weight = made  # type: ignore[misc]
            arrays = unpack(payload, mass.coordinates.shapes, mass.coordinates.types)
            values = [Fraction(value) for name in mass.coordinates.shapes for value in arrays[name].tolist()]
            self._send(Parcel(place, other, payload, weight, [*values, Fraction(weight)]))

    def _deliver(self, _: int) -> None:
        if not self.on_the_way or self.chance.random() < LOSS:
            return
        parcel = self._take(self.chance.randrange(len(self.on_the_way)))
        is_returned = self.chance.random() < 0.2  # refused over there
        place = parcel.sender if is_returned else parcel.to
        content = Content("push_sum", parcel.payload, 0, 0, "", DeliveryClass.MASS, parcel.weight)
        if is_returned:
            returned = Returned(PeerName(f"p{parcel.to}"), Version(1, 1), content, "refused")
            settle(self.masses[place], self.learners[place], [], [returned])
        else:
            came = Arrival(PeerName(f"p{parcel.sender}"), Version(1, 1), content, 0.0)
            settle(self.masses[place], self.learners[place], [came])
        settlements, self.learners[place].settlements = self.learners[place].settlements, []
        self._touch(place)
        if settlements and not settlements[0].absorbed:
            self._send(replace(parcel, to=parcel.sender))

    def _kill(self, place: int) -> None:
        """It ends with what it held and what was on its way to it, and comes back with its model and weight 1."""
        self.wanted = _plus(self.wanted, self.held[place], -1)
        for at in reversed(range(len(self.on_the_way))):
            if place in (self.on_the_way[at].to, self.on_the_way[at].sender):
                self.wanted = _plus(self.wanted, self._take(at).holds, -1)
        self.masses[place] = self._born(place)
        self._touch(place)
        self.wanted = _plus(self.wanted, self.held[place])


def _plus(one: Sum, other: Sum, factor: int = 1) -> Sum:
    return [a + factor * b for a, b in zip(one, other, strict=True)]


def main(operations: int) -> None:
    """Write the error to results/invariant.json."""
    torch.set_num_threads(1)
    books = Books()
    for number in range(1, operations + 1):
        books.operate()
        if number % 20_000 == 0:
            print(f"{number:,}: {books.error:.2e}", file=sys.stderr, flush=True)
    figures = {
        "operations": operations,
        "kinds": books.counts,
        "relative_error": books.error,
        "greatest_sum": books.scale,
        "seed": books.seed,
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

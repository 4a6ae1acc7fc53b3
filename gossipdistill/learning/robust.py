"""Mixing neighbours' weights in such a way that a few liars among them can do little.

Notation: x_i [P] my parameters and floating-point buffers, x_j the newest version of neighbour j, m the number of
neighbours known, f how many of them may lie, w_j the mixing weight of one whose version is new. The rules need to see
several neighbours side by side, so the newest version of each is kept until its horizon: m models of memory.

- *clip* (self-centred clipping; He, Karimireddy and Jaggi 2022, 2202.01545):
      x_i <- x_i + sum_j w_j min(1, tau / |x_j - x_i|) (x_j - x_i)
  tau is the largest distance that is left when the f largest are put aside (as in the authors' code, where f = 1). So
  no neighbour pulls further than an honest one could, whatever it sends. Among f neighbours or fewer, tau = 0.
- *trimmed_mean* (per coordinate; Yin et al. 2018, 1803.01498, definition 2):
      x_i <- x_i + s (c - x_i),   s = (how many of the known ones are new) / m
  c is the mean of my own value and those of all known neighbours, without the f smallest and the f largest. Where
  m + 1 <= 2 f there is nothing left to take the mean of, and nothing is mixed.
- *median*: the same with c = the median per coordinate (definition 1 there) of y_0 .. y_m, where y_k is the mean of the
  m + 1 - f models that are nearest to model k, itself among them, mine being model 0 (nearest-neighbour mixing; Allouah
  et al. 2023, 2302.01772, algorithm 2). The median of the models themselves loses what only a few of them know, and a
  liar that pulls each peer away from the others makes it lose more: of unlike labels it keeps no 80 %.

Parameters of low precision are rounded at random, as in plain averaging (learning/rounding.py).

These bend states only. Mass is conserved, so a parcel of mass is never bent: it is refused whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor, nn

from gossipdistill.learning.rounding import Chance, store
from gossipdistill.learning.shared_arrays import SharedArrays
from gossipdistill.learning.snapshot import model_arrays

Arrays = Mapping[str, Tensor]


class Rule(StrEnum):
    """The rule by which the neighbours' models are averaged."""

    NONE = "none"
    CLIP = "clip"
    TRIMMED_MEAN = "trimmed_mean"
    MEDIAN = "median"


@dataclass(frozen=True, slots=True)
class Known:
    """The newest version of one neighbour's arrays, and when it came."""

    arrays: Arrays
    arrived_s: float


@dataclass(slots=True)
class Defence:
    """One peer's memory of its neighbours, for a rule other than `none`."""

    rule: Rule
    liars_max: int
    horizon_of: Callable[[str], float]
    """It gives the age in seconds beyond which a version of a sender is dropped; 0 is never."""
    known: dict[str, Known] = field(default_factory=dict)

    def mix_in(
        self,
        model: nn.Module,
        fresh: Mapping[str, tuple[float, Arrays]],
        now: float,
        shared: SharedArrays | None = None,
        chance: Chance | None = None,
    ) -> None:
        """Mix in what is new, {sender: (w_j, arrays of x_j)}, seen beside what is known; in place."""
        self.known |= {sender: Known(arrays, now) for sender, (_, arrays) in fresh.items()}
        horizons = {name: self.horizon_of(name) for name in self.known}
        self.known = {name: one for name, one in self.known.items() if not 0 < horizons[name] <= now - one.arrived_s}
        known = {name: one.arrays for name, one in self.known.items()}
        if self.rule is Rule.CLIP:
            weights = {sender: weight for sender, (weight, _) in fresh.items()}
            clip_in(model, known, weights, self.liars_max, shared, chance)
        else:
            share = len(fresh) / max(len(known), 1)
            centre_in(model, known, share, self.liars_max, self.rule is Rule.MEDIAN, shared, chance)


def clip_in(
    model: nn.Module,
    known: Mapping[str, Arrays],
    weights: Mapping[str, float],
    liars_max: int,
    shared: SharedArrays | None = None,
    chance: Chance | None = None,
) -> None:
    """Self-centred clipping of those in `weights`, with the radius tau from all in `known`."""
    own = _floating(model, shared)
    distances = {name: _distance(own, arrays) for name, arrays in known.items()}
    radius = [*sorted(distances.values(), reverse=True)[liars_max:], 0.0][0]
    factors = {
        name: weight * (min(1.0, radius / distances[name]) if distances[name] > 0.0 else 1.0)
        for name, weight in weights.items()
    }
    chance = chance if chance is not None else Chance.of(model)
    with torch.no_grad():
        for key, tensor in own.items():
            start = tensor.double()
            moved = start.clone()
            for name, factor in factors.items():
                moved += factor * (known[name][key].to(tensor.device).double() - start)
            store(tensor, moved, chance)


def centre_in(
    model: nn.Module,
    known: Mapping[str, Arrays],
    share: float,
    liars_max: int,
    median: bool,
    shared: SharedArrays | None = None,
    chance: Chance | None = None,
) -> None:
    """x_i <- x_i + share (c - x_i): c is the trimmed mean, or the median of the mixed nearest."""
    count = 1 + len(known)
    if count <= 2 * liars_max:
        return
    own = _floating(model, shared)
    # Nothing of the model changes before the last distance is known.
    mixed = nearest_mixed(own, known, liars_max) if median else None
    trimmed = (count - 1) // 2 if median else liars_max
    chance = chance if chance is not None else Chance.of(model)
    with torch.no_grad():
        for key, tensor in own.items():
            values = _side_by_side(key, tensor, known)
            if mixed is not None:
                values = mixed.to(tensor.device) @ values
            kept = values.sort(dim=0).values[trimmed : count - trimmed]
            store(tensor, tensor.double().lerp(kept.mean(dim=0).view_as(tensor), share), chance)


def nearest_mixed(own: Arrays, known: Mapping[str, Arrays], liars_max: int) -> Tensor:
    """The matrix [models, models] that takes each model's place by the mean of the models - liars_max nearest to it."""
    count = 1 + len(known)
    squares = torch.zeros(count, count, dtype=torch.float64)
    for key, tensor in own.items():
        values = _side_by_side(key, tensor, known)
        # Exact differences: with the formula of inner products a huge lie would swamp the distances between honest
        # models.
        gaps = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
        squares += gaps.square().cpu()
    nearest = squares.argsort(dim=1, stable=True)[:, : count - liars_max]
    return torch.zeros_like(squares).scatter_(1, nearest, 1.0 / (count - liars_max))


def _side_by_side(key: str, own: Tensor, known: Mapping[str, Arrays]) -> Tensor:
    """Array `key` of my model and of all known ones, in float64 [models, entries]."""
    others = (arrays[key].to(own.device).double() for arrays in known.values())
    return torch.stack([own.double(), *others]).reshape(1 + len(known), own.numel())


def _floating(model: nn.Module, shared: SharedArrays | None) -> dict[str, Tensor]:
    """Parameters and floating-point buffers by name; a counter has no mean."""
    return {name: tensor for name, tensor in model_arrays(model, shared).items() if tensor.is_floating_point()}


def _distance(own: Arrays, others: Arrays) -> float:
    # In float64 the square of every float32 is finite.
    squares = (
        (others[key].to(tensor.device).double() - tensor.double()).square().sum().item() for key, tensor in own.items()
    )
    return math.sqrt(sum(squares))

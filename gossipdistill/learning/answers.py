"""What a table of outputs contains: the likeliest class, its probability, and whether it is the same for all rows. Pure
functions.

Outputs may be of any shape [R, ...] and any floating or complex type. They are class scores where labels are whole
numbers and there is one axis more in the outputs: [R, C] for labels [R]; [R, T, C] or [R, C, T] for labels [R, T].
"""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ENTRIES_MAX = 1 << 22
"""At most this number of entries of one table is looked at; of a larger table, evenly spread rows or columns are."""
_SAME = 1e-4
"""Rows that differ by less than this, relative to the largest entry, are the same, unless their type is coarser."""
_SAME_SCORES = 1e-2
"""Scores of classes that differ by more than this are not the same, however large they are."""
_SAME_OF_TARGET = 1e-2
"""Outputs that spread by more than this share of what the targets do are not the same."""
_TAUGHT_SHARE = 0.25
"""A class is taught where it is at least so frequent among the own labels, relative to the validation set."""


@dataclass(frozen=True, slots=True)
class ClassAnswers:
    """For N labels that count: the likeliest class, the label, and -log of the probability that the label was given."""

    given: Tensor
    labels: Tensor
    losses: Tensor

    def among(self, classes: Set[int]) -> ClassAnswers:
        """Those whose label is one of `classes`."""
        keep = torch.isin(self.labels, torch.tensor(sorted(classes), dtype=self.labels.dtype))
        return ClassAnswers(self.given[keep], self.labels[keep], self.losses[keep])

    @property
    def accuracy(self) -> float:
        """Share of the labels that were given, 0 to 1; NaN without any."""
        return float((self.given == self.labels).double().mean())

    @property
    def surprise(self) -> float:
        """The mean of `losses`, in nats."""
        return float(self.losses.double().mean())


def class_answers(outputs: Tensor, labels: Tensor) -> ClassAnswers | None:
    """Outputs as class scores (logits, log-probabilities or probabilities); None where they are none.

    Labels below 0, such as the -100 that losses pass over, do not count.
    """
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        return None
    if outputs.ndim != labels.ndim + 1 or not outputs.dtype.is_floating_point:
        return None
    last = outputs.shape[:-1] == labels.shape
    second = (outputs.shape[0], *outputs.shape[2:]) == tuple(labels.shape)
    if last == second and outputs.ndim > 2:
        return None  # neither, or it cannot be told which axis has the classes
    if not (last or second):
        return None
    rows = spread_rows(len(outputs), max(1, ENTRIES_MAX * len(outputs) // max(outputs.numel(), 1)))
    scores = (outputs if last else outputs.movedim(1, -1))[rows]
    scores = scores.reshape(-1, scores.shape[-1]).float()
    wanted = labels[rows].reshape(-1).long()
    counts = wanted >= 0
    scores, wanted = scores[counts], wanted[counts]
    if not len(wanted) or scores.shape[1] < 2 or int(wanted.max()) >= scores.shape[1]:
        return None
    likely = scores.log() if _are_probabilities(scores) else scores.log_softmax(dim=1)
    return ClassAnswers(scores.argmax(dim=1), wanted, -likely.gather(1, wanted[:, None])[:, 0])


def spread_rows(count: int, rows_max: int) -> Tensor:
    """Row numbers [at most rows_max], evenly spread over `count`."""
    return torch.linspace(0, count - 1, min(count, rows_max), dtype=torch.float64).round().long()


def most_frequent_share(labels: Tensor) -> tuple[float, float]:
    """(share of the most frequent label, entropy in nats of how often each comes) of labels [N]."""
    shares = list(shares_of(labels).values())
    return max(shares), -sum(share * math.log(share) for share in shares)


def taught_classes(validation: Tensor, own: Tensor) -> frozenset[int] | None:
    """The classes of the validation labels that are not rare among the own ones; None where labels are no classes."""
    if own.dtype.is_floating_point or own.dtype.is_complex or own.dtype == torch.bool:
        return None
    shares, own_shares = shares_of(validation), shares_of(own)
    return frozenset(label for label, share in shares.items() if own_shares.get(label, 0.0) >= _TAUGHT_SHARE * share)


def shares_of(labels: Tensor) -> dict[int, float]:
    """The relative frequency of each of these labels [...], above 0 and up to 1; labels below 0 do not count."""
    values, counts = np.unique(labels[labels >= 0].numpy(), return_counts=True)
    return {int(value): int(count) / int(counts.sum()) for value, count in zip(values, counts, strict=True)}


def _are_probabilities(scores: Tensor) -> bool:
    return bool((scores >= 0).all()) and bool(((scores.sum(dim=1) - 1.0).abs() < 1e-3).all())


def inputs_vary(rows: Tensor) -> bool:
    """Whether not all rows [R, ...] are the same."""
    return len(rows) > 1 and not bool((rows[1:] == rows[:1]).all())


def spread(rows: Tensor) -> float:
    """The largest difference between two rows [R, ...] in any entry."""
    table = _table(rows)
    return float((table.amax(dim=0) - table.amin(dim=0)).max()) if table.numel() else 0.0


def all_the_same(outputs: Tensor, target_spread: float | None) -> bool:
    """Whether outputs [R, ...] are the same for all rows, to what their type can tell apart.

    `target_spread` is by how much the targets differ, where outputs are to come near them; None where they are scores
    of classes.
    """
    table = _table(outputs)
    if len(table) < 2 or not table.numel():
        return False
    coarse = torch.finfo(outputs.dtype).eps if outputs.dtype.is_floating_point or outputs.dtype.is_complex else 0.0
    largest, found = float(table.abs().max()), spread(table)
    if not math.isfinite(largest):
        return bool((table[1:] == table[:1]).all())
    bound = _SAME_SCORES if target_spread is None else _SAME_OF_TARGET * target_spread
    return found <= min(max(_SAME, 2 * coarse) * largest, bound)


def _table(rows: Tensor) -> Tensor:
    """Rows [R, K] of real numbers, of at most `ENTRIES_MAX` entries."""
    table = rows.detach().reshape(len(rows), -1)
    if table.dtype.is_complex:
        table = torch.view_as_real(table.resolve_conj()).reshape(len(rows), -1)
    every = -(-table.numel() // ENTRIES_MAX)
    table = table[:, ::every] if every > 1 else table
    return table.double() if table.dtype in (torch.float64, torch.int64) else table.float()

"""What peers report of one another's models: measured by others than the owner, and compared so that one lie does
little.

A *word* g_k(j) is what judge k has measured of the newest model that it has of peer j: by how much that is better than
the untrained model, on examples of k, as a share of the untrained model's loss:

    g_k(j) = mean over rows r of max(0, b_k - l_r) / |b_k|      l_r the loss of one row; b_k that of the model that k
                                                                began with, mean over rows

So ignorance costs nothing and earns nothing: a model that knows a part of the labels only beats one that knows none,
though its errors on all other labels are the larger ones. A loss that is not finite earns 0. Losses that are never
negative make a gain at most 1, so that no judge counts more than another because its losses are larger.

Two models are compared by the peers that have measured both. A model's owner is no judge of it. So a liar can lie
about others only, and cannot lift its own model above one that honest judges prefer:

    d(j, i) = mean over k of g_k(j) - g_k(i)      k other than i and j; from 5 such k on without the outer fifths
    d(j, i) = mean_k g_k(j) - mean_k g_k(i)       where no k has measured both; of the words about i, that of j counts
                                                  only if there is no other

Words travel from judge to neighbour, and are passed on, so that they also come round where links go one way. A word
that is passed on may be forged by the peer that passes it on. It counts only where the words that peers say for
themselves do not suffice: where none of those that I hear, but for j, has measured my model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossipdistill.learning.evaluation import untouched
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.user_code import users_code

WORDS_MAX = 32
"""One message has at most this number of words: first the sender's own, then those that it passes on, the newest
first."""
KEPT_MAX = 1024
"""One peer keeps at most this number of words; the oldest ones go first."""
_AGE_MAX_S = 1e6
TRIMMED_FROM = 5
"""With fewer words than this there is nothing to spare for a trimmed mean."""
_GAIN_MAX = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True, slots=True)
class Word:
    """A gain, and when it was measured: by my clock (s), and the own step at which I learned of it. `sender` is the
    neighbour whose message it comes from: its pace decides when the word goes stale."""

    gain: float
    sender: str
    passed_on: bool
    at_s: float
    step: int


@dataclass(slots=True)
class Words:
    """All words that one peer knows, by the mark of the model's owner, then by that of the judge. `fresh` says whether
    a word from this sender counts at this age (s, own steps)."""

    me: str
    fresh: Callable[[str, float, int], bool]
    known: dict[int, dict[int, Word]] = field(default_factory=dict)

    def measured(self, name: str, gain: float, now_s: float, step: int) -> None:
        """My own word about the model of `name`."""
        self._put(mark_of(name), mark_of(self.me), Word(gain, name, False, now_s, step))

    def heard(self, sender: str, table: Tensor, at_s: float, step: int) -> None:
        """Take in the words of a neighbour, in place of all its own earlier words, and the words that it passes on.

        Args:
            table: as `table` gives it; it came at `at_s`.

        Raises:
            PayloadRefusedError: for a gain that is negative or infinite, or an age that is negative.
        """
        marks = table[:, :2].tolist()
        numbers = table[:, 2:].contiguous().view(torch.float32).tolist()
        said = [(*mark, *number) for mark, number in zip(marks, numbers, strict=True) if not math.isnan(number[0])]
        for _, _, gain, age_s in said:
            if not (0.0 <= gain < math.inf and 0.0 <= age_s <= _AGE_MAX_S):
                raise PayloadRefusedError("words", f"says that a model gains {gain:.4g}, {age_s:.4g} s ago")
        me, judge = mark_of(self.me), mark_of(sender)
        for by in self.known.values():
            if judge in by and not by[judge].passed_on:
                del by[judge]
        for who, about, gain, age_s in said:
            word = Word(gain, sender, who != judge, at_s - age_s, step)
            before = self.known.get(about, {}).get(who)
            newer = before is None or (before.passed_on and before.at_s <= word.at_s)
            if who not in (me, about) and (newer or not word.passed_on):
                self._put(about, who, word)

    def forget(self, now_s: float, step: int) -> None:
        """Drop what is no longer fresh, and the oldest words beyond `KEPT_MAX`."""
        fresh = [
            (owner, judge, word)
            for owner, judge, word in self._all()
            if self.fresh(word.sender, now_s - word.at_s, step - word.step)
        ]
        if len(fresh) > KEPT_MAX:
            fresh.sort(key=lambda one: (one[2].passed_on, -one[2].at_s))
        self.known = {}
        for owner, judge, word in fresh[:KEPT_MAX]:
            self._put(owner, judge, word)

    def table(self, now_s: float) -> Tensor:
        """The table that I send to my neighbours [WORDS_MAX, 4], as whole numbers, which no encoding changes: the marks
        of judge and owner, and the bits of a gain and of its age (s) in float32. In rows that are not needed, the gain
        is NaN.
        """
        marks, numbers = torch.zeros(WORDS_MAX, 2, dtype=torch.int32), torch.full((WORDS_MAX, 2), math.nan)
        me = mark_of(self.me)
        first = sorted(self._all(), key=lambda one: (one[1] != me, -one[2].at_s))
        for row, (owner, judge, word) in enumerate(first[:WORDS_MAX]):
            marks[row] = torch.tensor([judge, owner])
            numbers[row] = torch.tensor([word.gain, min(max(now_s - word.at_s, 0.0), _AGE_MAX_S)])
        return torch.cat([marks, numbers.view(torch.int32)], dim=1)

    @property
    def all_useless(self) -> bool:
        """Whether no judge has found anything that any model is good for."""
        return not any(word.gain for _, _, word in self._all())

    def about(self, name: str, passed_on: bool = False) -> dict[int, Word]:
        """By judge, what others than its owner have measured of this model; with or without what is `passed_on`."""
        mark = mark_of(name)
        by = self.known.get(mark, {})
        return {judge: word for judge, word in by.items() if judge != mark and (passed_on or not word.passed_on)}

    def lead(self, name: str) -> float | None:
        """d(name, me): by how much its model is better than mine; None where one of the two was not measured."""
        lead = self._lead(name, passed_on=False)
        return lead if lead is not None else self._lead(name, passed_on=True)

    def _put(self, owner: int, judge: int, word: Word) -> None:
        self.known.setdefault(owner, {})[judge] = word

    def _all(self) -> Iterator[tuple[int, int, Word]]:
        """(owner, judge, word) of each."""
        return ((owner, judge, word) for owner, by in self.known.items() for judge, word in by.items())

    def _lead(self, name: str, passed_on: bool) -> float | None:
        theirs, mine = self.about(name, passed_on), self.about(self.me, passed_on)
        others = {judge: word for judge, word in mine.items() if judge != mark_of(name) and word.sender != name}
        mine = others or mine
        both = theirs.keys() & mine.keys()
        if both:
            return trimmed_mean(theirs[judge].gain - mine[judge].gain for judge in sorted(both))
        if not theirs or not mine:
            return None
        return trimmed_mean(w.gain for w in theirs.values()) - trimmed_mean(w.gain for w in mine.values())


def no_words() -> Tensor:
    """The shape and type of a table, without memory."""
    return torch.empty(WORDS_MAX, 4, dtype=torch.int32, device="meta")


def mark_of(name: str) -> int:
    """32 bits that stand for a name on the wire."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little", signed=True)


def trimmed_mean(values: Iterable[float]) -> float:
    """The mean; from `TRIMMED_FROM` values on without the lowest and the highest fifth."""
    ordered = sorted(values)
    cut = len(ordered) // 5 if len(ordered) >= TRIMMED_FROM else 0
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def row_losses(model: nn.Module, criterion: Callable[[Any, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The loss of each of these examples [rows], in evaluation mode, float64 on the CPU."""
    with untouched(model), users_code("Task.model"):
        outputs = model(x)
        alone = isinstance(outputs, Tensor) and outputs.ndim > 0 and len(outputs) == len(x)
        parts = [outputs[row : row + 1] if alone else model(x[row : row + 1]) for row in range(len(x))]
        losses = [criterion(part, y[row : row + 1]).detach() for row, part in enumerate(parts)]
        return torch.stack(losses).double().cpu().reshape(len(x))


def gain_over(start_loss: float, losses: Tensor) -> float:
    """g of these losses [rows], where b is `start_loss`; 0 where that is 0."""
    below = (start_loss - losses).clamp(min=0.0) / (abs(start_loss) or math.inf)
    mean = float(below[below.isfinite()].sum() / len(losses))
    return mean if mean <= _GAIN_MAX else 0.0

"""What peers say of one another's models: measured by others than the owner, and compared so that one lie does little.

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
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossipdistill.learning.evaluation import untouched
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.user_code import users_code

WORDS_MAX = 16
"""Words that travel in one message: the newest of its sender's."""
TRIMMED_FROM = 5
"""With fewer words than this there is nothing to spare for a trimmed mean."""
_GAIN_MAX = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True, slots=True)
class Word:
    """A gain, and when I measured or received it: clock (s) and own step. `sender` is the neighbour whose message it
    comes from: by the pace of that one it goes stale."""

    gain: float
    sender: str
    at_s: float
    step: int


@dataclass(slots=True)
class Words:
    """All words that one peer knows, by judge and by the mark of whose model it is about. `fresh` says whether a word
    from this sender counts at this age (s, own steps)."""

    me: str
    fresh: Callable[[str, float, int], bool]
    by: dict[str, dict[int, Word]] = field(default_factory=dict)

    def measured(self, name: str, gain: float, now_s: float, step: int) -> None:
        """My own word about the model of `name`."""
        mine = self.by.setdefault(self.me, {})
        mine.pop(mark_of(name), None)  # the newest last
        mine[mark_of(name)] = Word(gain, name, now_s, step)

    def heard(self, judge: str, table: Tensor, at_s: float, step: int) -> None:
        """The words of a neighbour, in place of all that it has said before.

        Args:
            table: as `table` gives it.

        Raises:
            PayloadRefusedError: for a gain that is negative or infinite.
        """
        marks, gains = table[:, 0].tolist(), table[:, 1].contiguous().view(torch.float32).tolist()
        said = {mark: gain for mark, gain in zip(marks, gains, strict=True) if not math.isnan(gain)}
        odd = next((gain for gain in said.values() if not 0.0 <= gain < math.inf), None)
        if odd is not None:
            raise PayloadRefusedError("words", f"says that a model gains {odd:.4g}, which cannot be")
        self.by[judge] = {mark: Word(gain, judge, at_s, step) for mark, gain in said.items()}

    def forget(self, now_s: float, step: int) -> None:
        """What is no longer fresh."""
        for judge, said in list(self.by.items()):
            kept = {
                mark: word
                for mark, word in said.items()
                if self.fresh(word.sender, now_s - word.at_s, step - word.step)
            }
            self.by[judge] = kept
            if not kept:
                del self.by[judge]

    @property
    def mine(self) -> dict[int, Word]:
        """What I have measured myself, the newest last."""
        return self.by.get(self.me, {})

    def table(self) -> Tensor:
        """My newest words [WORDS_MAX, 2] as whole numbers, which no encoding changes: a mark, and the bits of its gain
        in float32. Rows that are not needed hold NaN."""
        marks, gains = torch.zeros(WORDS_MAX, dtype=torch.int32), torch.full((WORDS_MAX,), math.nan)
        for row, (mark, word) in enumerate(list(self.mine.items())[-WORDS_MAX:]):
            marks[row], gains[row] = mark, word.gain
        return torch.stack([marks, gains.view(torch.int32)], dim=1)

    def about(self, name: str) -> dict[str, float]:
        """What judges other than its owner have measured of this model."""
        mark = mark_of(name)
        return {judge: said[mark].gain for judge, said in self.by.items() if judge != name and mark in said}

    @property
    def all_useless(self) -> bool:
        """Whether no judge has found anything that any model is good for."""
        return not any(word.gain for said in self.by.values() for word in said.values())

    def lead(self, name: str) -> float | None:
        """d(name, me): by how much its model is better than mine; None where nobody has measured one of the two."""
        theirs, mine = self.about(name), self.about(self.me)
        both = theirs.keys() & mine.keys()
        if both:
            return trimmed_mean(theirs[judge] - mine[judge] for judge in sorted(both))
        mine = {judge: gain for judge, gain in mine.items() if judge != name} or mine
        if not theirs or not mine:
            return None
        return trimmed_mean(theirs.values()) - trimmed_mean(mine.values())


def no_words() -> Tensor:
    """The shape and type of a table, without memory."""
    return torch.empty(WORDS_MAX, 2, dtype=torch.int32, device="meta")


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

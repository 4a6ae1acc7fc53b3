"""The teachers' predictions for samples that all peers hold: per teacher the newest prediction of each sample.

Keyed by sample, since a prediction is about its input, whenever it comes: nothing needs to be in step. Each entry has
an age of its own. Of each teacher at most `rows_max` entries are kept; the oldest make room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_NEVER_S = -1e300
_EMPTY = {"_probabilities": 0.0, "_slot_of": -1, "_sample_in": -1, "_arrived_s": _NEVER_S, "_arrived_step": 0}
"""These are the table's columns, and what an empty entry holds."""


class PredictionCache:
    """J teachers, N samples, C classes, M = `rows_max` entries per teacher."""

    def __init__(self, samples: int, classes: int, rows_max: int, device: torch.device) -> None:
        self.samples, self.rows_max = samples, min(rows_max, samples)
        self.names: list[str] = []
        self._probabilities = torch.empty(0, self.rows_max, classes, device=device)
        self._slot_of = torch.empty(0, samples, dtype=torch.long, device=device)
        """[J, N]: where the entry of a sample is; -1: nowhere."""
        self._sample_in = torch.empty(0, self.rows_max, dtype=torch.long, device=device)
        """[J, M]: of which sample an entry is; -1: of none."""
        self._arrived_s = torch.empty(0, self.rows_max, dtype=torch.float64, device=device)
        self._arrived_step = torch.empty(0, self.rows_max, dtype=torch.long, device=device)

    def put(self, name: str, rows: Tensor, probabilities: Tensor, arrived_s: float, arrived_step: int) -> None:
        """Predictions [R, C] of teacher `name` for the samples `rows` [R], each once; they replace older ones."""
        teacher = self._place(name)
        if len(rows) == self.rows_max == self.samples:
            # An entry lies where its sample does, so that `whole` finds it without looking.
            self._slot_of[teacher] = torch.arange(self.samples, device=rows.device)
            self._write(teacher, rows, rows, probabilities, arrived_s, arrived_step)
            return
        rows, probabilities = rows[: self.rows_max], probabilities[: self.rows_max]
        slots = self._slot_of[teacher, rows]
        new = slots < 0
        # What is about to be replaced is as new as what comes, so that it is not evicted in its favour.
        self._arrived_s[teacher, slots[~new]] = arrived_s
        oldest = torch.argsort(self._arrived_s[teacher], stable=True)[: int(new.sum())]
        evicted = self._sample_in[teacher, oldest]
        self._slot_of[teacher, evicted[evicted >= 0]] = -1
        slots[new] = oldest
        self._slot_of[teacher, rows] = slots
        self._write(teacher, slots, rows, probabilities, arrived_s, arrived_step)

    def forget(self, name: str) -> None:
        """Drop everything of this teacher."""
        kept = [place for place, other in enumerate(self.names) if other != name]
        self.names = [self.names[place] for place in kept]
        for field in _EMPTY:
            setattr(self, field, getattr(self, field)[kept])

    def held(self, name: str) -> int:
        """The number of entries of this teacher."""
        return int((self._sample_in[self.names.index(name)] >= 0).sum()) if name in self.names else 0

    def look_up(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(predictions [J, B, C] for `rows` [B], their entries [J, B]; -1 where there is none)."""
        slots = self._slot_of[:, rows]
        predictions: Tensor = self._probabilities[self._teachers, slots.clamp_min(0)]
        return predictions, slots

    def whole(self, rows: Tensor) -> Tensor:
        """Predictions [J, B, C] for `rows` [B], where every `put` was of all samples: most of the cost is spared."""
        return self._probabilities.index_select(1, rows)

    def freshness(self, slots: Tensor, now_s: float, step: int, after_s: Mapping[str, float], steps: int) -> Tensor:
        """[J, B] in [0, 1] for entries [J, B]: as `age_weight`, with the horizon `after_s` of each teacher and that of
        `steps`; 0 where there is no entry."""
        at = (self._teachers, slots.clamp_min(0))
        return self._fresh(at, now_s, step, [after_s[name] for name in self.names], steps) * (slots >= 0)

    def living(self, names: set[str], now_s: float, step: int, after_s: Mapping[str, float], steps: int) -> Tensor:
        """The samples [n] of which one of these teachers has an entry within the horizon, in rising order."""
        mine = [place for place, name in enumerate(self.names) if name in names]
        everything = (torch.tensor(mine, dtype=torch.long, device=self._slot_of.device),)
        fresh = self._fresh(everything, now_s, step, [after_s[self.names[place]] for place in mine], steps)
        samples = self._sample_in[everything]
        spoken_of = torch.zeros(self.samples, dtype=torch.bool, device=samples.device)
        spoken_of[samples[(fresh > 0.0) & (samples >= 0)]] = True  # quicker than to sort them
        return spoken_of.nonzero()[:, 0]

    @property
    def _teachers(self) -> Tensor:
        return torch.arange(len(self.names), device=self._slot_of.device)[:, None]

    def _fresh(self, at: tuple[Tensor, ...], now_s: float, step: int, after_s: Sequence[float], steps: int) -> Tensor:
        age_s = now_s - self._arrived_s[at]
        # The longest horizon stands for none, and entries that were never there have no weight.
        horizons = age_s.new_tensor([one if one > 0 else -_NEVER_S for one in after_s])
        fresh = 1.0 - age_s / horizons[:, None]
        if steps > 0:
            fresh = torch.minimum(fresh, 1.0 - (step - self._arrived_step[at]) / steps)
        return fresh.clamp(0.0, 1.0).float()

    def _write(
        self, teacher: int, slots: Tensor, rows: Tensor, values: Tensor, arrived_s: float, arrived_step: int
    ) -> None:
        self._probabilities[teacher, slots] = values
        self._sample_in[teacher, slots] = rows
        self._arrived_s[teacher, slots] = arrived_s
        self._arrived_step[teacher, slots] = arrived_step

    def _place(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
            for field, empty in _EMPTY.items():
                kept: Tensor = getattr(self, field)
                setattr(self, field, torch.cat([kept, kept.new_full((1, *kept.shape[1:]), empty)]))
        return self.names.index(name)

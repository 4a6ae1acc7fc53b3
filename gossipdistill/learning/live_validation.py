"""The quality of a model on a few validation rows while it trains, computed seldom, cheaply, and without a trace.

Rules of this file
1. Training is the same, bit for bit, as without it (`evaluation.untouched`), and takes at most one per cent longer.
2. A failure of a user's model or metric here does not affect training: there are no figures then.
3. The figures are of some of the rows. Those in results are of all of them, after the last step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossipdistill.learning.evaluation import untouched
from gossipdistill.learning.learner import Learner

ROWS_MAX = 256
_BATCHES = 4
"""A look uses at most the rows of this number of training batches: it takes about as long as one or two steps."""
_ROWS_MIN = 32
_SHARE_MAX = 0.01
"""Looks take at most this share of all time."""
_PAUSE_S = 2.0
"""At least this time (s) passes between two looks, and before the first."""
_ENTRIES_MAX = 1 << 22
"""One table of outputs has at most this number of entries, as far as inputs tell; fewer rows are looked at where one
row is large."""

Figures = Callable[[Tensor, Tensor], Mapping[str, float]]
"""A function of this type gives the loss and the metrics of outputs [rows, ...] and labels [rows, ...]."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The result of a look, over `rows` rows, after step number `step`; 0 rows before the first look."""

    loss: float | None = None
    accuracy: float | None = None
    rows: int = 0
    step: int = 0


@dataclass(slots=True)
class LiveValidation:
    """The live validation of one learner. `clock` measures how long a look takes."""

    learner: Learner
    validation: tuple[Tensor, Tensor]
    figures: Figures
    clock: Callable[[], float]
    batch_rows: int = _ROWS_MIN
    _due_s: float | None = None
    _over: bool = False
    found: Looked = Looked()
    """The last look found this."""

    def look(self, now: float) -> None:
        """Between two steps, at clock reading `now`: look if it is time to."""
        if self._due_s is None:
            self._due_s = now + _PAUSE_S
            self._over = _is_compiled(self.learner.model)
        if self._over or now < self._due_s:
            return
        began_s = self.clock()
        try:
            self.found = self._look()
        except (Exception, SystemExit):
            self._over, self.found = True, Looked()
        ended_s = self.clock()
        self._due_s = ended_s + max(_PAUSE_S, (ended_s - began_s) / _SHARE_MAX)

    def _look(self) -> Looked:
        learner, (x, y) = self.learner, self.validation
        per_row = max(x[0].numel(), 1)
        wanted = min(ROWS_MAX, max(_BATCHES * self.batch_rows, _ROWS_MIN), max(_ENTRIES_MAX // per_row, 2))
        rows = torch.linspace(0, len(x) - 1, min(len(x), wanted)).round().long()
        with untouched(learner.model):
            outputs = learner.predict(learner.model, x[rows].to(learner.device)).cpu()
            figures = self.figures(outputs, y[rows])
        return Looked(_finite(figures.get("loss")), _finite(figures.get("accuracy")), len(rows), learner.step)


def _is_compiled(model: nn.Module) -> bool:
    """A compiled model would be compiled anew for evaluation, which may take a minute."""
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in model.modules())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

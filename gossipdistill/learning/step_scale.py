"""The steps of an optimizer, scaled by a factor: between exchanges this costs nothing.

The model moves by `factor` times what the optimizer would have moved it by:

    x <- x_before + factor (x_after - x_before)

Where a step is proportional to the learning rate, and nothing that the optimizer remembers depends on it, the rate
itself is scaled during the step (the *rate form*): no pass over the parameters. That is so for the types in
`PROPORTIONAL`, which a test over all of torch.optim decides. Other optimizers, also those derived from these, are left
as they are, and the model is moved afterwards (the *displacement form*: two passes, and a copy of the parameters while
the step lasts).

Both happen in hooks of the optimizer itself: in any loop, the rates that schedulers, checkpoints and people see
are the unscaled ones. A rate that is a tensor is scaled in place, as compiled and captured steps read it; a compiled
step with a rate that is a float is compiled again whenever the factor is another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    SparseAdam,
)

from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.rounding import wide

if TYPE_CHECKING:
    from gossipdistill.learning.learner import Learner

PROPORTIONAL = frozenset((SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Muon, NAdam, RAdam, RMSprop, SparseAdam))
"""The step of exactly these types is the learning rate times something that does not depend on it, weight decay
included."""


@dataclass(slots=True)
class Held:
    """One group's learning rate as it was, and what it is during the step. `place` is the rate itself if it is a
    tensor."""

    group: dict[str, Any]
    rate: Any
    scaled: Any
    place: Tensor | None


@dataclass(slots=True)
class StepScale:
    """The step scale of one learner. No hook is set as long as the factor has always been 1."""

    learner: Learner
    _factor: float = 1.0
    _hooked: bool = False
    _rates: list[Held] = field(default_factory=list)
    _before: Tensor | None = None
    _depth: int = 0
    """This counts steps in progress: in a type that is derived from another, the step of the other runs the same
    hooks."""

    @property
    def factor(self) -> float:
        """The factor of the next steps. It is set between steps."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        self._factor, self._depth = factor, 0
        if factor != 1.0 and not self._hooked:
            self._hooked = True
            self.learner.optimizer.register_step_pre_hook(self._before_step)
            self.learner.optimizer.register_step_post_hook(self._after_step)

    @property
    def by_rate(self) -> bool:
        """Whether the rate is scaled, and not what the step has done."""
        optimizer = self.learner.optimizer
        return type(optimizer) in PROPORTIONAL and all("lr" in group for group in optimizer.param_groups)

    def _before_step(self, *_: Any) -> None:
        if self.by_rate:
            self._restore()  # what a step that was interrupted has left
            self._scale_rates()
            return
        self._depth += 1
        if self._depth == 1:
            learner = self.learner
            self._before = flat_parameters(learner.model, learner.shared) if self._factor != 1.0 else None

    def _after_step(self, *_: Any) -> None:
        self._restore()
        self._depth = max(self._depth - 1, 0)
        if self._depth or self._before is None:
            return
        learner, before, self._before = self.learner, wide(self._before), None
        after = wide(flat_parameters(learner.model, learner.shared))
        load_flat(learner.model, before + self._factor * (after - before), learner.shared, learner.chance)

    def _scale_rates(self) -> None:
        for group in self.learner.optimizer.param_groups if self._factor != 1.0 else ():
            rate = group["lr"]
            if isinstance(rate, Tensor):
                kept = rate.clone()
                rate.mul_(self._factor)
                self._rates.append(Held(group, kept, rate.clone(), rate))
            else:
                group["lr"] = rate * self._factor
                self._rates.append(Held(group, rate, group["lr"], None))

    def _restore(self) -> None:
        """The same objects with the same values as before; a rate that other code has set meanwhile stays."""
        held, self._rates = self._rates, []
        for one in held:
            if one.place is not None and one.group["lr"] is one.place and torch.equal(one.place, one.scaled):
                one.place.copy_(one.rate)
            elif one.place is None and one.group["lr"] is one.scaled:
                one.group["lr"] = one.rate

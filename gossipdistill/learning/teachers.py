"""Which teachers to listen to, and how much: the rules that all strategies with teachers share.

1. Everything is judged by the receiver: on its own steps, its own clock and, where models travel, its own data.
2. A weight in [0, 1] per teacher is its freshness, or 0 for one that the rules leave out. Teachers share the
   distillation term by their weights, and the term as a whole fades with the freshest of them: so one teacher alone
   fades as well.
3. A rule that leaves a teacher out reports why, once per change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from gossipdistill.events import EventKind
from gossipdistill.learning.distillation import Average, Divergence, divergence_rows, mean_of_teachers, tempered
from gossipdistill.learning.ledger import Ledger

SMOOTHED_OVER_STEPS = 20
"""Losses are smoothed over this number of steps: a single batch says little about a teacher."""


@dataclass(slots=True)
class RunningLoss:
    """An exponential mean over about `SMOOTHED_OVER_STEPS` looks; NaN before the first."""

    value: float = math.nan
    looks: int = 0

    def look(self, loss: float) -> None:
        """Take in one more loss; one that is not finite counts as infinitely bad until the next."""
        self.looks += 1
        share = 1.0 / min(self.looks, SMOOTHED_OVER_STEPS)
        if math.isfinite(self.value) and math.isfinite(loss):
            self.value += share * (loss - self.value)
        else:
            self.value = loss if math.isfinite(loss) else math.inf


class LeftOut(NamedTuple):
    """Which rule leaves a teacher out, and why, in words."""

    rule: str
    reason: str


CONSTANT = LeftOut("constant", "it says the same about all inputs: its training has collapsed, or has not begun")
"""Nothing can be learned of such a teacher, and it drives others to constant outputs too."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which teachers to leave out. `quality_margin`: those whose loss is above mine by more; None: none. `best_k`: all
    but the k of the lowest loss; None: none. Both together with k = 1 and margin 0 make the leader the only teacher.
    `newcomer_steps`: those whose process was first heard fewer steps of mine ago."""

    quality_margin: float | None = None
    best_k: int | None = None
    newcomer_steps: int = 0

    @property
    def judges(self) -> bool:
        """Whether losses are looked at, and therefore have to be known."""
        return self.quality_margin is not None or self.best_k is not None

    def left_out(self, losses: Mapping[str, float], mine: float) -> dict[str, LeftOut]:
        """Teacher -> why it is not listened to. A loss of NaN is not known: it passes no gate and ranks last."""
        reasons: dict[str, LeftOut] = {}
        known = {name: math.inf if math.isnan(loss) else loss for name, loss in losses.items()}
        if self.quality_margin is not None:
            for name, loss in known.items():
                if not loss <= mine + self.quality_margin:
                    told = f"its loss, {loss:.3g}, is" if math.isfinite(loss) else "its loss is not known, or"
                    why = f"{told} above mine, {mine:.3g}, by more than quality_margin = {self.quality_margin:g}"
                    reasons[name] = LeftOut("quality_margin", why)
        if self.best_k is not None:
            ranked = sorted((loss, name) for name, loss in known.items() if name not in reasons)
            for loss, name in ranked[self.best_k :]:
                reasons[name] = LeftOut("best_k", f"its loss, {loss:.3g}, is not among the best {self.best_k}")
        return reasons


@dataclass(slots=True)
class Attention:
    """Which teachers are listened to, for the event stream. Changes are reported, but those of one teacher at most once
    in `SMOOTHED_OVER_STEPS` own steps, so that two teachers of almost the same loss do not fill the stream."""

    told: dict[str, tuple[str, int]] = field(default_factory=dict)
    """This maps a teacher to the rule that leaves it out ("": none), and the step at which that was reported."""
    first: dict[str, tuple[int, int]] = field(default_factory=dict)
    """This maps a teacher to its process, and to my step at which that was first heard."""

    def heard(self, name: str, boot: int, step: int) -> bool:
        """Note a word of this teacher's process `boot`. Returns whether it is another process than before."""
        known = self.first.get(name)
        if known is None or known[0] < boot:
            self.first[name] = (boot, step)
        return known is not None and known[0] < boot

    def newcomers(self, step: int, steps: int) -> dict[str, LeftOut]:
        """The teachers that are still new, by my own steps: a newcomer is to learn before others learn from it."""
        new = {name: step - since for name, (_, since) in self.first.items() if step - since < steps}
        rule = "teacher_burn_in_steps"
        return {
            name: LeftOut(rule, f"it was first heard {n} of my steps ago, {rule} = {steps}") for name, n in new.items()
        }

    def note(self, ledger: Ledger, step: int, teachers: Iterable[str], left_out: Mapping[str, LeftOut]) -> None:
        """Note that of all `teachers`, those in `left_out` are not listened to in this step."""
        for name in teachers:
            now = left_out.get(name)
            rule, said_at = self.told.get(name, ("", step - SMOOTHED_OVER_STEPS))
            if step - said_at < SMOOTHED_OVER_STEPS or rule == (now.rule if now is not None else ""):
                continue
            if now is not None:
                ledger.note(EventKind.LEFT_OUT, name, now.reason, rule=now.rule)
            else:
                ledger.note(EventKind.LISTENED_TO, name, f"no rule leaves it out any more ({rule} did)")
            self.told[name] = (now.rule if now is not None else "", step)

    def burning_in(self, ledger: Ledger, step: int, teachers: Iterable[str], steps: int) -> None:
        """Note that no teacher is listened to yet."""
        why = LeftOut("burn_in_steps", f"of my own first {steps} steps, which are for learning alone, this is {step}")
        names = list(teachers)
        self.note(ledger, step, names, dict.fromkeys(names, why))

    def stale(self, ledger: Ledger, step: int, name: str, age_s: float, staleness_steps: int) -> None:
        """Note that this teacher has sent nothing new within the horizon, and is dropped."""
        why = f"its newest word came {age_s:.1f} s and {staleness_steps} of my steps ago, beyond the horizon"
        self.note(ledger, step, [name], {name: LeftOut("stale", why)})


@dataclass(frozen=True, slots=True)
class Distillation:
    """The comparison of teachers and student. Predictions arrive as softmax(z / `temperature`); those of a teacher in
    `temperature_of` are compared at its own temperature instead, and so is the student with them."""

    temperature: float = 1.0
    kind: Divergence = Divergence.FORWARD_KL
    average: Average = Average.PROBABILITIES
    temperature_of: Mapping[str, float] = field(default_factory=dict)

    def term(self, logits: Tensor, names: Sequence[str], predictions: Tensor, weights: Tensor) -> Tensor:
        """The mean over rows of max_j w_j * sum_t s_t D_t(mean of the teachers at temperature t, student): a scalar.

        Args:
            logits: z [B, C] of the student.
            names: of the J teachers.
            predictions: their p_j [J, B, C] at `temperature`.
            weights: w_j [J, B] in [0, 1], or [J, 1] for all rows; a row in which all are 0 costs nothing.

        s_t is the share sum_(j at t) w_j / sum_j w_j.
        """
        shares = weights / weights.sum(dim=0).clamp_min(torch.finfo(weights.dtype).tiny)
        fade = weights.amax(dim=0)
        groups: dict[float, list[int]] = {}
        for place, name in enumerate(names):
            groups.setdefault(self.temperature_of.get(name, self.temperature), []).append(place)
        if len(groups) == 1:
            ((temperature, _),) = groups.items()
            target = mean_of_teachers(tempered(predictions, self.temperature, temperature), shares, self.average)
            return (fade * divergence_rows(logits, target, temperature, self.kind)).mean()
        rows = fade.new_zeros(len(logits))
        for temperature, places in groups.items():
            share = shares[places].sum(dim=0)
            within = shares[places] / share.clamp_min(torch.finfo(share.dtype).tiny)
            target = mean_of_teachers(
                tempered(predictions[places], self.temperature, temperature), within, self.average
            )
            rows = rows + share * divergence_rows(logits, target, temperature, self.kind)
        return (fade * rows).mean()

"""How a training ended: a judgement of numbers and tensors, with its reason and the likely remedy. Pure functions.

    diverged    the loss, a parameter or the outputs are not finite: nothing can be done with this model
    collapsed   the model answers the same whatever it is asked
    finished    neither; with warnings when it is at chance, or worse than it was before its first step

What is only doubtful is a warning, and no warning is given without evidence: a peer that trains alone on a few of the
classes may have a larger loss than before its first step, and is still better at what it was taught.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor

from gossipdistill.learning.answers import (
    ClassAnswers,
    all_the_same,
    class_answers,
    inputs_vary,
    most_frequent_share,
    shares_of,
    spread,
    taught_classes,
)

COLLAPSED_AFTER_STEPS = 50
"""A model whose outputs are constant after this number of steps has collapsed; earlier, it may just have begun. The
same goes for a model at chance."""
COMPARED_AFTER_STEPS = 20
"""A shorter training is not compared with its start."""
NOT_FINITE_STEPS = 5
"""The training has diverged once this number of losses in a row are not finite. A single one may pass."""
CHANCE_ROWS_MIN = 20
"""With fewer validation rows, skill cannot be told from luck."""
_SAME_LOSS = 0.01
"""A loss that differs by less than this share has not moved."""
_WORSE_LOSS = 0.25
"""A loss of outputs that are numbers is worse from this share on: a start may be near the optimum by chance, or by the
design of the task."""
_ALMOST_ALL = 0.95
"""If more than this share of the validation labels is of classes that were taught, these are not mentioned."""
_HIGHER = ("accuracy", "acc", "f1", "auc", "auroc", "precision", "recall", "iou", "bleu", "r2", "score", "top1", "top5")
_LOWER = ("loss", "error", "mse", "mae", "rmse", "perplexity", "ppl", "nll", "distance", "cer", "wer")
"""These words in the name of a metric show whether higher or lower is better."""


class Ending(StrEnum):
    """The word for a peer's end, as results have it."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    COLLAPSED = "collapsed"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that a remedy may name."""

    lr: float = 0.0
    clip_norm: float | None = None
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """A model on some rows: its `outputs` [R, ...] (CPU) for `inputs` [R, ...] and `labels` [R, ...], what the task's
    loss and metrics make of them, and the `classes` that they name, where they are class scores."""

    inputs: Tensor
    outputs: Tensor
    labels: Tensor
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    classes: ClassAnswers | None = None

    @staticmethod
    def of(inputs: Tensor, outputs: Tensor, labels: Tensor, loss: float, metrics: Mapping[str, float]) -> Answers:
        """The answers, with the classes that they name."""
        return Answers(inputs, outputs, labels, loss, metrics, class_answers(outputs, labels))

    def kept(self) -> Answers:
        """The part that is needed later, when these are the start: neither inputs nor outputs."""
        return replace(self, inputs=self.inputs[:0], outputs=self.outputs[:0].clone(), labels=self.labels[:0])


@dataclass(frozen=True, slots=True)
class Look:
    """A model at one moment: on rows of the validation set, and on rows that it is trained on."""

    validation: Answers
    own: Answers

    def kept(self) -> Look:
        """Small enough to be held for as long as the training lasts."""
        return Look(self.validation.kept(), replace(self.own.kept(), classes=None))


@dataclass(slots=True)
class LossTrace:
    """Which losses of this training were not finite."""

    steps: int = 0
    not_finite: int = 0
    in_a_row: int = 0
    first_step: int | None = None

    def look(self, loss: float, step: int) -> None:
        """Take in the loss of one step, numbered from 1."""
        self.steps += 1
        if math.isfinite(loss):
            self.in_a_row = 0
            return
        self.not_finite += 1
        self.in_a_row += 1
        self.first_step = step if self.first_step is None else self.first_step

    @property
    def diverged(self) -> bool:
        """Whether it has not been finite lately."""
        return 0 < min(NOT_FINITE_STEPS, self.steps) <= self.in_a_row


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict: the `reason` of a bad end, with the likely remedy, or lines about what is doubtful in a good one."""

    ending: Ending = Ending.FINISHED
    reason: str = ""
    doubts: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """All lines for the user."""
        return (f"{self.ending.value}: {self.reason}", *self.doubts) if self.reason else self.doubts


def judge(
    end: Look,
    start: Look | None,
    trace: LossTrace,
    *,
    steps: int,
    broken: str = "",
    figures: Mapping[str, float] | None = None,
    labels: tuple[Tensor, Tensor] | None = None,
    whole: ClassAnswers | None = None,
    alone: bool = False,
    settings: Settings = Settings(),
) -> Outcome:
    """The verdict on a training of `steps` optimiser steps.

    Args:
        end: the model now, on the same rows as `start`.
        start: the model before its first step; None where it was not examined.
        trace: the training losses.
        broken: what else is not finite, in words: a parameter, an output.
        figures: "loss" and the metrics over the whole validation set; those of `end` by default.
        labels: (validation, own) of all rows, to see which classes were taught; those of `end` by default.
        whole: the classes that are named for the whole validation set; those of `end` by default.
        alone: whether it has learned from no other peer: then its own examples may have led it away from those of
            others.
        settings: what a remedy may name.
    """
    figures = {"loss": end.validation.loss, **end.validation.metrics} if figures is None else figures
    why = broken or _diverged(end, start, trace, figures["loss"])
    if why:
        return Outcome(Ending.DIVERGED, f"{why}; {_calmer(settings)}")
    if steps >= COLLAPSED_AFTER_STEPS and _collapsed(end):
        text = (
            "the model gives the same output for every input, on the validation set and on its own training examples; "
            f"{_awake(end, start, settings)}, or change the initialisation or the model (dead units, no normalisation)"
        )
        return Outcome(Ending.COLLAPSED, text)
    warnings = _figures_missing(figures)
    if trace.not_finite:
        warnings.append(
            f"the training loss was not finite in {trace.not_finite} of {trace.steps} steps, first in step "
            f"{trace.first_step}; {_calmer(settings)}"
        )
    every = labels if labels is not None else (end.validation.labels, end.own.labels)
    taught = taught_classes(*every)
    named = whole if whole is not None else end.validation.classes
    chance = _at_chance(named, taught, every[0]) if steps >= COLLAPSED_AFTER_STEPS else ""
    if chance:
        warnings.append(f"at chance: {chance}; {_remedy(end, start, taught, settings)}")
    elif start is not None and steps >= COMPARED_AFTER_STEPS:
        worse = _worse(end, start, taught, alone)
        if worse:
            warnings.append(f"worse than before its first step: {worse}; {_remedy(end, start, taught, settings)}")
    return Outcome(doubts=tuple(warnings))


# --- diverged and collapsed ------------------------------------------------------------------------------------------


def _diverged(end: Look, start: Look | None, trace: LossTrace, validation_loss: float) -> str:
    if trace.diverged:
        return (
            f"the training loss has not been finite for {trace.in_a_row} steps, the first of all was {trace.first_step}"
        )
    for answers, where in ((end.validation, "validation"), (end.own, "own training")):
        # Infinity may be meant: a logit of -inf is a class that cannot be. NaN never is.
        if bool(answers.outputs.isnan().any()):
            return f"its outputs for {where} rows hold NaN"
    # A loss that was not finite before the first step either is the task's own, and no matter of the training.
    if not math.isfinite(validation_loss) and (start is None or math.isfinite(start.validation.loss)):
        return "its loss on the validation set is not finite"
    return ""


def _figures_missing(figures: Mapping[str, float]) -> list[str]:
    found = []
    if not math.isfinite(figures["loss"]):
        found.append("the validation loss is not finite, and was not before the first step: is the task's loss right?")
    names = [name for name, value in figures.items() if name != "loss" and not math.isfinite(value)]
    if names:
        found.append(f"metric {', '.join(names)} is not finite on the validation set")
    return found


def _collapsed(end: Look) -> bool:
    """Whether outputs are the same for all rows, though the rows differ and should be told apart."""
    for answers in (end.validation, end.own):
        if len(answers.outputs) < 2 or not inputs_vary(answers.inputs) or not inputs_vary(answers.labels):
            return False
    validation, own = end.validation.outputs, end.own.outputs
    target_spread = None if end.validation.classes is not None else spread(end.validation.labels)
    together = [torch.cat([validation, own])] if validation.shape[1:] == own.shape[1:] else [validation, own]
    return all(all_the_same(outputs, target_spread) for outputs in together)


# --- doubtful --------------------------------------------------------------------------------------------------------


def _at_chance(named: ClassAnswers | None, taught: frozenset[int] | None, labels: Tensor) -> str:
    """Why this is no better than one answer for all, among the classes that were taught; empty if it is better, or that
    is not known."""
    given = _among(named, taught)
    if given is None or not _is_chance(given):
        return ""
    share, _ = most_frequent_share(given.labels)
    return (
        f"it is right on {100 * given.accuracy:.1f} % of the validation set, and one answer for all is on "
        f"{100 * share:.1f} %{_of_taught(taught, labels)}"
    )


def _is_chance(given: ClassAnswers) -> bool:
    """Whether one answer for all would be as good, to one standard error."""
    if len(given.labels) < CHANCE_ROWS_MIN:
        return False
    share, entropy = most_frequent_share(given.labels)
    error = math.sqrt(share * (1.0 - share) / len(given.labels))
    # A rare class is seldom the likeliest, and may be told apart all the same: then the likelihood shows it.
    return share < 1.0 and given.accuracy <= share + error and given.surprise >= entropy * (1.0 - 2 * _SAME_LOSS)


def _worse(end: Look, start: Look, taught: frozenset[int] | None, alone: bool) -> str:
    """Why loss and every metric are worse than before the first step; empty if they are not, or that is not known."""
    now, before = end.validation, start.validation
    margin = _SAME_LOSS if now.classes is not None else _WORSE_LOSS
    if not math.isfinite(before.loss) or not _larger(now.loss, before.loss, margin):
        return ""
    given, had = _among(now.classes, taught), _among(before.classes, taught)
    # Its own examples may be unlike those of others. Where classes are taught, only those count.
    if (alone or given is None) and _larger(start.own.loss, end.own.loss):
        return ""
    parts, unclear = [f"validation loss {before.loss:.4g}, now {now.loss:.4g}"], False
    for name in now.metrics.keys() & before.metrics.keys():
        was, is_ = before.metrics[name], now.metrics[name]
        if not (math.isfinite(was) and math.isfinite(is_)):
            continue
        better = direction(name)
        if better * (is_ - was) > 0:
            return ""
        unclear |= better == 0 and is_ != was
        parts += [f"{name} {was:.4g}, now {is_:.4g}"] if better else []
    if given is not None and had is not None and len(given.labels):
        if given.accuracy > had.accuracy:
            return ""
    elif unclear:
        return ""
    return ", ".join(parts)


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where the name of the metric does not tell."""
    words = "".join(character if character.isalnum() else " " for character in metric.lower()).split()
    if any(word in _LOWER for word in words):
        return -1
    return int(any(word in _HIGHER for word in words))


def _among(given: ClassAnswers | None, taught: frozenset[int] | None) -> ClassAnswers | None:
    return given.among(taught) if given is not None and taught is not None else given


def _of_taught(taught: frozenset[int] | None, labels: Tensor) -> str:
    if taught is None or sum(share for label, share in shares_of(labels).items() if label in taught) > _ALMOST_ALL:
        return ""
    return f" (of the {len(taught)} classes of its own examples)"


def _larger(one: float, other: float, margin: float = _SAME_LOSS) -> bool:
    return not one <= other + margin * max(abs(other), 1e-12)


# --- remedies --------------------------------------------------------------------------------------------------------


def _calmer(settings: Settings) -> str:
    clip = "train.clip_norm = 1.0" if settings.clip_norm is None else f"train.clip_norm below {settings.clip_norm:g}"
    return f"try train.lr below {settings.lr:g}, or {clip}" if settings.lr else f"try a smaller train.lr, or {clip}"


def _awake(end: Look, start: Look | None, settings: Settings) -> str:
    """A remedy for a collapsed model. Mostly steps were too large; for a model that has never moved, they were too
    small."""
    if start is not None and not _larger(end.own.loss, start.own.loss) and not _larger(start.own.loss, end.own.loss):
        return f"its loss has not moved since before its first step: try train.lr above {settings.lr:g}"
    return _calmer(settings)


def _remedy(end: Look, start: Look | None, taught: frozenset[int] | None, settings: Settings) -> str:
    """A remedy that follows from the change of the loss on the peer's own examples."""
    if start is None or not math.isfinite(start.own.loss) or _larger(end.own.loss, start.own.loss):
        return _calmer(settings)
    own = _among(end.own.classes, taught)
    if _larger(start.own.loss, end.own.loss) and not (own is not None and _is_chance(own)):
        return (
            "it has learned its own examples and not what they have in common with the validation set: are labels and "
            "preprocessing the same, and are there enough examples?"
        )
    return f"it has hardly learned its own examples either: try more steps than {settings.steps}, or another train.lr"

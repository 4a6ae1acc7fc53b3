"""What is called diverged, collapsed, at chance or worse than before, and what is not: a table of examples."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from gossipdistill.learning.answers import class_answers, taught_classes
from gossipdistill.learning.outcome import Answers, Ending, Look, LossTrace, Outcome, Settings, direction, judge

ROWS, CLASSES = 200, 4
NAN, INF = math.nan, math.inf


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = random(ROWS, 3)
Y = torch.randint(CLASSES, (ROWS,), generator=torch.Generator().manual_seed(1))
GOOD = 4.0 * one_hot(Y, CLASSES) + random(ROWS, CLASSES, seed=2)
BIAS = torch.tensor([0.3, -1.0, 0.2, 0.0]).expand(ROWS, CLASSES)


def answers(outputs: Tensor, labels: Tensor = Y, inputs: Tensor = X, **metrics: float) -> Answers:
    classes = class_answers(outputs, labels)
    loss = float(classes.losses.mean()) if classes is not None else float(mse_loss(outputs.float(), labels.float()))
    if classes is not None:
        metrics = {"accuracy": classes.accuracy} | metrics
    return Answers.of(inputs, outputs, labels, loss, metrics)


def both(outputs: Tensor, labels: Tensor = Y, inputs: Tensor = X, **metrics: float) -> Look:
    return Look(answers(outputs, labels, inputs, **metrics), answers(outputs, labels, inputs))


def trace(*losses: float) -> LossTrace:
    made = LossTrace()
    for step, loss in enumerate(losses, start=1):
        made.look(loss, step)
    return made


def verdict(end: Look, start: Look | None = None, losses: tuple[float, ...] = (1.0,), **more: Any) -> Outcome:
    return judge(end, start, trace(*losses), **{"steps": 200, **more})


# --- diverged --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "ending", "said"),
    [
        ((1.0,) * 9, Ending.FINISHED, ""),
        ((1.0, INF, 1.0, 1.0), Ending.FINISHED, "not finite in 1 of 4 steps, first in step 2"),
        ((1.0, NAN, NAN, 1.0, INF), Ending.FINISHED, "not finite in 3 of 5 steps"),
        ((1.0,) * 9 + (INF,) * 4, Ending.FINISHED, "not finite in 4 of 13"),
        ((1.0,) * 9 + (INF,) * 5, Ending.DIVERGED, "not been finite for 5 steps"),
        ((NAN,) * 2, Ending.DIVERGED, "not been finite for 2 steps"),
        ((), Ending.FINISHED, ""),
    ],
)
def test_a_loss_that_stays_away_has_diverged_and_one_that_comes_back_has_not(
    losses: tuple[float, ...], ending: Ending, said: str
) -> None:
    outcome = verdict(both(GOOD), losses=losses)
    assert outcome.ending is ending
    assert said in " ".join(outcome.warnings)
    assert bool(outcome.warnings) == bool(said)


def with_entry(outputs: Tensor, value: float) -> Tensor:
    changed = outputs.clone()
    changed[3, 1] = value
    return changed


def test_what_is_not_finite_is_named_with_the_remedy() -> None:
    look = both(GOOD)
    outcome = verdict(look, broken="parameter 0.weight is not finite", settings=Settings(0.5, None))
    assert outcome.ending is Ending.DIVERGED
    assert outcome.reason == ("parameter 0.weight is not finite; try train.lr below 0.5, or train.clip_norm = 1.0")
    assert outcome.warnings == (f"diverged: {outcome.reason}",)
    nan = replace(look, own=replace(look.own, outputs=with_entry(GOOD, NAN)))
    assert "its outputs for own training rows hold NaN" in verdict(nan).reason
    assert "below 2" in verdict(nan, settings=Settings(0.5, 2.0)).reason
    assert verdict(replace(look, validation=replace(look.validation, outputs=with_entry(GOOD, NAN)))).reason
    assert "loss on the validation set" in verdict(look, figures={"loss": INF}).reason


def test_a_mask_of_minus_infinity_among_the_outputs_is_meant() -> None:
    wrong = (int(Y[3]) + 1) % CLASSES
    masked = GOOD.clone()
    masked[3, wrong] = -INF
    assert verdict(both(masked)) == Outcome()


def test_a_loss_that_was_never_finite_is_the_tasks_and_a_metric_alone_is_no_divergence() -> None:
    look = both(GOOD)
    start = replace(look, validation=replace(look.validation, loss=INF))
    outcome = verdict(look, start, figures={"loss": INF, "accuracy": 0.9})
    assert outcome.ending is Ending.FINISHED
    assert "is the task's loss right?" in outcome.warnings[0]
    outcome = verdict(look, figures={"loss": 0.3, "accuracy": 0.9, "auc": NAN})
    assert (outcome.ending, outcome.warnings) == (Ending.FINISHED, ("metric auc is not finite on the validation set",))


# --- collapsed -------------------------------------------------------------------------------------------------------

TOKENS = torch.randint(7, (ROWS, 5), generator=torch.Generator().manual_seed(3))
TARGETS = 1000.0 + random(ROWS)
POSITIONS = random(5, 7, seed=4)
NOISE = 1e-6 * random(ROWS, CLASSES, seed=5)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (BIAS, Y),
        (BIAS + NOISE, Y),
        (torch.zeros(ROWS, CLASSES), Y),
        (BIAS.bfloat16(), Y),
        (BIAS.half(), Y),
        (BIAS.double(), Y),
        (POSITIONS.expand(ROWS, 5, 7), TOKENS),  # it knows the position, and no input
        (POSITIONS.t().expand(ROWS, 7, 5), TOKENS),
        (torch.full((ROWS,), 1000.0), TARGETS),
        (torch.full((ROWS, 1), 1000.0), TARGETS[:, None]),
        (torch.full((ROWS,), 0.5), (Y > 1).float()),
        (torch.full((ROWS,), 1.0 + 2.0j), TARGETS),
        (torch.full((ROWS, CLASSES), -INF), Y),
    ],
)
def test_what_answers_the_same_to_all_has_collapsed(outputs: Tensor, labels: Tensor) -> None:
    look = Look(Answers.of(X, outputs, labels, 1.0, {}), Answers.of(X, outputs, labels, 1.0, {}))
    outcome = verdict(look)
    assert outcome.ending is Ending.COLLAPSED
    assert "same output for every input" in outcome.reason
    assert "train.lr" in outcome.reason
    assert judge(look, None, trace(1.0), steps=49).ending is Ending.FINISHED


def test_a_model_that_has_never_moved_is_to_be_moved_more() -> None:
    look, settings = both(BIAS), Settings(1e-9, None, 200)
    assert "try train.lr above 1e-09" in verdict(look, look.kept(), settings=settings).reason
    driven = of(look, look.validation.loss, 9.0)
    assert "try train.lr below 1e-09" in verdict(driven, look.kept(), settings=settings).reason


@pytest.mark.parametrize(
    ("outputs", "labels", "inputs"),
    [
        (GOOD, Y, X),
        (BIAS, torch.zeros(ROWS, dtype=torch.long), X),  # there is but one class
        (BIAS, Y, torch.ones(ROWS, 3)),  # nothing goes in that differs
        (BIAS[:1], Y[:1], X[:1]),
        (TARGETS + 0.1, TARGETS, X),  # large, and different by little
        (1000.0 + 0.05 * (TARGETS - 1000.0), TARGETS, X),  # too little, but not the same
        (BIAS + 0.02 * random(ROWS, CLASSES, seed=6), Y, X),
        (1e5 + GOOD, Y, X),
        (torch.full((ROWS,), 1000.0).bfloat16() + torch.tensor([0.0, 8.0]).repeat(ROWS // 2).bfloat16(), TARGETS, X),
    ],
)
def test_what_tells_inputs_apart_or_has_nothing_to_tell_apart_has_not(
    outputs: Tensor, labels: Tensor, inputs: Tensor
) -> None:
    look = Look(Answers.of(inputs, outputs, labels, 1.0, {}), Answers.of(inputs, outputs, labels, 1.0, {}))
    assert verdict(look).ending is Ending.FINISHED


def test_both_the_validation_set_and_the_own_examples_must_be_answered_alike() -> None:
    constant, alive = answers(BIAS), answers(GOOD)
    for look in (Look(constant, alive), Look(alive, constant), Look(answers(BIAS), answers(BIAS + 1.0))):
        assert verdict(look).ending is Ending.FINISHED
    one_class = Look(answers(BIAS), answers(BIAS, torch.zeros_like(Y)))
    assert verdict(one_class).ending is Ending.FINISHED  # it was taught one answer


# --- at chance -------------------------------------------------------------------------------------------------------

NOISY = random(ROWS, CLASSES, seed=7)
RARE = (torch.arange(ROWS) % 20 == 0).long()
"""One in twenty."""
ALWAYS = torch.tensor([3.0, -3.0]).expand(ROWS, 2) + 0.1 * random(ROWS, 2, seed=8)
TOLD_APART = ALWAYS + torch.stack([-2.5 * RARE, 2.5 * RARE], dim=1)
"""Never the likeliest class, and far likelier where it is right."""


@pytest.mark.parametrize(
    ("outputs", "labels", "fires"),
    [
        (NOISY, Y, True),
        (BIAS + 0.05 * NOISY, Y, True),  # the same answer, and not quite the same output
        (ALWAYS, RARE, True),
        (GOOD, Y, False),
        (GOOD.softmax(1), Y, False),
        (TOLD_APART, RARE, False),
        (NOISY[:10], Y[:10], False),  # too few to tell
        (random(ROWS, 5, 7, seed=9), TOKENS, True),
        (6.0 * one_hot(TOKENS, 7).float(), TOKENS, False),
        (random(ROWS, 1), random(ROWS, 1, seed=2), False),  # no classes
    ],
)
def test_chance_is_one_answer_for_all(outputs: Tensor, labels: Tensor, fires: bool) -> None:
    look = both(outputs, labels, X[: len(labels)])
    outcome = verdict(look)
    assert outcome.ending is Ending.FINISHED
    assert any("at chance" in line for line in outcome.warnings) == fires
    assert not judge(look, None, trace(1.0), steps=49).warnings


def test_who_was_taught_few_classes_is_judged_by_these() -> None:
    own = Y[Y < 2]  # of four
    knows_two = GOOD.clone()
    knows_two[:, 2:] = -9.0
    knows_two[Y > 1] = 0.1 * random(int((Y > 1).sum()), CLASSES, seed=10)
    assert taught_classes(Y, own) == {0, 1}
    assert not verdict(both(knows_two), labels=(Y, own)).warnings
    outcome = verdict(both(NOISY), labels=(Y, own))
    assert "(of the 2 classes of its own examples)" in outcome.warnings[0]
    assert not verdict(both(NOISY), labels=(Y, torch.zeros(9, dtype=torch.long))).warnings  # of one there is no chance


# --- worse than before its first step --------------------------------------------------------------------------------

LOW, HIGH = both(GOOD), both(NOISY + 0.4 * one_hot(Y, CLASSES))


def of(look: Look, loss: float, own_loss: float, **metrics: float) -> Look:
    """The same outputs, with these figures."""
    validation = replace(look.validation, loss=loss, metrics=metrics)
    return Look(validation, replace(look.own, loss=own_loss))


@pytest.mark.parametrize(
    ("now", "fires"),
    [
        (of(HIGH, 3.0, 3.0, accuracy=0.2), True),
        (of(HIGH, 3.0, 0.1, accuracy=0.2), True),  # of what it has learned from others nothing is left either
        (of(HIGH, 1.005, 1.0, accuracy=0.2), False),  # no larger
        (of(HIGH, 3.0, 3.0, accuracy=0.6), False),  # better in something
        (of(HIGH, 3.0, 3.0, accuracy=0.2, rmse=0.1), False),
        (of(HIGH, 3.0, 3.0, accuracy=0.2, rmse=9.0), True),
        (of(HIGH, 3.0, 3.0, accuracy=0.2, auc=NAN), True),
        (of(LOW, 3.0, 3.0, accuracy=0.2), False),  # more of its answers are right, whatever the metric is
    ],
)
def test_worse_in_loss_and_in_every_metric(now: Look, fires: bool) -> None:
    start = of(HIGH, 1.0, 1.0, accuracy=0.5, rmse=1.0, auc=0.5)
    outcome = verdict(now, start)
    assert verdict(now, start.kept()) == outcome
    assert outcome.ending is Ending.FINISHED
    assert any("worse than before its first step: validation loss 1, now 3" in w for w in outcome.warnings) == fires
    assert not any("worse" in line for line in judge(now, start, trace(1.0), steps=19).warnings)
    assert not any("worse" in line for line in verdict(now, None).warnings)


def test_who_trains_alone_may_move_away_from_all_others() -> None:
    start, now = of(HIGH, 1.0, 1.0, accuracy=0.5), of(HIGH, 3.0, 0.1, accuracy=0.2)
    assert not verdict(now, start, alone=True).warnings
    assert verdict(of(HIGH, 3.0, 1.5, accuracy=0.2), start, alone=True).warnings
    assert verdict(now, start, alone=False).warnings
    numbers = both(random(ROWS, 1), random(ROWS, 1, seed=2))
    start, now = of(numbers, 1.0, 1.0), of(numbers, 3.0, 0.1)  # its own targets may be unlike everybody's
    assert not verdict(now, start).warnings
    assert verdict(of(numbers, 3.0, 1.5), start).warnings


def test_a_metric_of_which_nobody_knows_whether_more_is_better_silences_the_warning_where_there_are_no_classes() -> (
    None
):
    numbers = both(random(ROWS, 1), random(ROWS, 1, seed=2))
    start = of(numbers, 1.0, 1.0, hits=5.0)
    assert not verdict(of(numbers, 3.0, 3.0, hits=6.0), start).warnings
    assert verdict(of(numbers, 3.0, 3.0, hits=5.0), start).warnings
    assert verdict(of(numbers, 3.0, 3.0), start).warnings
    assert [direction(name) for name in ("val_acc", "F1", "rmse", "distance_to_optimum", "accurate", "hits")] == [
        1,
        1,
        -1,
        -1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("own_loss", "own", "remedy"),
    [
        (3.0, NOISY, "train.lr below 0.1"),
        (1.0, NOISY, "more steps than 60"),
        (0.5, NOISY, "more steps than 60"),  # it has only learned how frequent each class is
        (0.1, GOOD, "are labels and preprocessing the same"),
    ],
)
def test_the_remedy_goes_by_what_became_of_the_own_examples(own_loss: float, own: Tensor, remedy: str) -> None:
    start, now = of(both(NOISY), 1.4, 1.0), of(Look(answers(NOISY), answers(own)), 1.4, own_loss)
    outcome = verdict(now, start, settings=Settings(0.1, None, 60))
    assert "at chance" in outcome.warnings[0]
    assert remedy in outcome.warnings[0]


def test_answers_are_read_as_what_the_loss_reads_them() -> None:
    given = class_answers(GOOD, Y)
    assert given is not None
    assert given.surprise == pytest.approx(float(cross_entropy(GOOD, Y)), rel=1e-5)
    as_probabilities = class_answers(GOOD.softmax(1), Y)
    assert as_probabilities is not None
    assert as_probabilities.surprise == pytest.approx(given.surprise, rel=1e-4)
    ignored = Y.clone()
    ignored[:50] = -100
    passed_over = class_answers(GOOD, ignored)
    assert passed_over is not None
    assert len(passed_over.labels) == ROWS - 50
    square = random(6, 5, 5)
    assert class_answers(square, torch.zeros(6, 5, dtype=torch.long)) is None  # which axis has the classes?

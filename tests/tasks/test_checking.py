"""Metrics and labels of a user's task, tried before the training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossipdistill.errors import ConfigError, UserCodeError
from gossipdistill.tasks import Task, accuracy, odd_label
from gossipdistill.tasks.checking import figures, measured

X, Y = torch.rand(12, 4), torch.arange(12) % 3


def a_task(metric: Callable[[Tensor, Tensor], object] = accuracy, **changes: object) -> Task:
    order = Y.argsort(stable=True)  # the classes one after another, as most folders of images are
    parts: dict[str, object] = {
        "model": lambda: nn.Linear(4, 3),
        "train": (X, Y),
        "validation": (X[order], Y[order]),
        "loss": nn.functional.cross_entropy,
        "metrics": {"it": metric},
        **changes,
    }
    return Task(**parts)  # type: ignore[arg-type]


def needs_classes(out: Tensor, y: Tensor) -> float:
    if len(torch.unique(y)) < 2:
        raise ValueError("Only one class present in y_true")
    return accuracy(out, y)


def of_classes_only(out: Tensor, y: Tensor) -> float | None:
    return accuracy(out, y) if len(torch.unique(y)) > 1 else None


def refuses_all(out: Tensor, y: Tensor) -> float:
    raise ValueError(f"no luck with {len(y)} rows")


@pytest.mark.parametrize("metric", [needs_classes, of_classes_only])
def test_a_metric_that_needs_several_classes_is_tried_on_all_rows(metric: Callable[[Tensor, Tensor], object]) -> None:
    task, seen = a_task(metric), []
    model = task.model()
    model.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    task.check_model(model)
    assert seen == [2, 12]


def test_a_metric_that_works_in_place_spoils_nothing() -> None:
    def in_place(out: Tensor, y: Tensor) -> float:
        out.numpy()[:] = 0.0
        y.fill_(2)
        return 1.0

    task = a_task(metrics={"spoils": in_place, "it": accuracy})
    out, y = nn.functional.one_hot(task.validation[1], 3).float(), task.validation[1]
    assert figures(task, out, y) == {"loss": pytest.approx(0.5514, abs=1e-3), "spoils": 1.0, "it": 1.0}
    assert y.unique().tolist() == [0, 1, 2]


def test_a_metric_that_does_with_a_few_rows_costs_no_more() -> None:
    task, seen = a_task(), []
    model = task.model()
    model.register_forward_hook(lambda module, args, out: seen.append(len(out)))
    task.check_model(model)
    assert seen == [2]


def test_a_metric_that_refuses_all_rows_is_refused_with_how_many_there_were() -> None:
    task = a_task(refuses_all)
    match = (
        r"^Task.metrics\['it'\]: refuses the whole validation set, outputs \[12, 3\]: ValueError: "
        r"no luck with 12 rows \(.*test_checking.py:\d+\)$"
    )
    with pytest.raises(UserCodeError, match=match):
        task.check_model(task.model())


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (torch.tensor(0.5), 0.5),
        (torch.tensor([0.5], dtype=torch.float64), 0.5),
        (torch.tensor(True), 1.0),
        (torch.tensor(0.5, requires_grad=True), 0.5),
        (np.float32(0.5), 0.5),
        (np.array([[0.5]]), 0.5),
        (np.int64(3), 3.0),
        (True, 1.0),
        (3, 3.0),
    ],
)
def test_what_is_a_number_is_taken(value: object, number: float) -> None:
    task = a_task(lambda out, y: value)
    task.check_model(task.model())
    found = measured(task, "it", torch.zeros(12, 3), Y)
    assert (found, type(found)) == (number, float)


def test_nan_is_a_value() -> None:
    for value in (float("nan"), torch.tensor(float("nan")), np.float64("nan")):
        assert measured(a_task(lambda out, y, value=value: value), "it", torch.zeros(12, 3), Y) != 0.5


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "gives None, which is no number"),
        ("0.5", "gives '0.5', which is no number"),
        (1j, "gives 1j, which is no number"),
        (torch.ones(3), r"gives a tensor \[3\], which is no number"),
        (torch.tensor(1j), "gives 1j, which is no number"),
        (np.ones(2), r"gives array\(\[1., 1.\]\), which is no number"),
        ({"accuracy": 0.5}, "gives {'accuracy': 0.5}, which is no number"),
        (Unspeakable(), "gives <Unspeakable: ValueError when it is written out>, which is no number"),
    ],
)
def test_what_is_no_number_is_refused_by_name(value: object, said: str) -> None:
    task = a_task(lambda out, y: value)
    with pytest.raises(ConfigError, match=r"^Task.metrics\['it'\]: " + said):
        task.check_model(task.model())


# --- labels -----------------------------------------------------------------------------------------------------------


def with_label(label: int, row: int) -> tuple[Tensor, Tensor]:
    y = Y.clone()
    y[row] = label
    return X, y


def test_a_label_that_the_loss_refuses_is_named_with_its_row() -> None:
    task = a_task(train=with_label(-1, 7))
    match = (
        r"^Task.train: label -1 at row 7 of this peer's training data is refused by Task.loss; accepted: 0 to 2: "
        r"IndexError: Target -1 is out of bounds. \(.*test_checking.py:\d+\)$"
    )
    with pytest.raises(UserCodeError, match=match):
        task.check_model(task.model())
    task = a_task(validation=with_label(-7, 3))
    with pytest.raises(UserCodeError, match=r"^Task.validation: label -7 at row 3 of the validation data"):
        task.check_model(task.model())


def test_a_label_that_the_loss_passes_over_is_fine() -> None:
    task = a_task(train=with_label(-100, 7))
    task.check_model(task.model())
    hinge = a_task(
        train=(X, 2 * (Y % 2) - 1),
        validation=(X, 2 * (Y % 2) - 1),
        metrics={},
        loss=lambda out, y: (1 - y[:, None] * out).clamp_min(0).mean(),
    )
    hinge.check_model(hinge.model())


def test_odd_labels_in_words() -> None:
    assert odd_label(a_task(), 3) is None
    assert odd_label(a_task(), 2) == "label 2 at row 2 of this peer's training data; accepted: 0 to 1"
    assert (
        odd_label(a_task(validation=with_label(5, 4)), 3) == "label 5 at row 4 of the validation data; accepted: 0 to 2"
    )
    assert odd_label(a_task(train=(X, X), validation=(X, X)), 3) is None


def test_where_a_task_is_made_is_kept_for_messages() -> None:
    assert a_task().made_at.startswith(f"{__file__}:")
    import dataclasses

    assert dataclasses.replace(a_task()).made_at == ""

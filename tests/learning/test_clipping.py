"""The bound of a gradient: a fixed one, and one that follows a peer's own norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gossipdistill.learning.clipping import KEPT, Norms, clip, largest, scale_of


def model_of(*gradients: list[float], dtype: torch.dtype = torch.float32) -> nn.Module:
    model = nn.Module()
    for number, gradient in enumerate(gradients):
        parameter = nn.Parameter(torch.zeros(len(gradient), dtype=dtype))
        parameter.grad = torch.tensor(gradient, dtype=dtype)
        model.register_parameter(f"p{number}", parameter)
    return model


def gradient_of(model: nn.Module) -> list[float]:
    return [float(entry) for p in model.parameters() if p.grad is not None for entry in p.grad.abs()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("bound", [0.5, 2.5, 100.0])
def test_a_fixed_bound_is_torchs(bound: float, dtype: torch.dtype) -> None:
    ours, theirs = (model_of([3.0, 0.0], [0.0, 4.0, 0.0], dtype=dtype) for _ in range(2))
    clip(ours, bound, Norms())
    nn.utils.clip_grad_norm_(theirs.parameters(), bound)
    assert gradient_of(ours) == pytest.approx(gradient_of(theirs), rel=1e-2 if dtype is torch.bfloat16 else 1e-6)


def test_parameters_of_several_types_have_one_norm() -> None:
    model = model_of([3.0])
    model.register_parameter("wide", nn.Parameter(torch.zeros(1, dtype=torch.float64)))
    model.wide.grad = torch.tensor([4.0], dtype=torch.float64)  # type: ignore[union-attr]
    clip(model, 1.0, Norms())
    assert gradient_of(model) == pytest.approx([0.6, 0.8], rel=1e-5)


def test_without_a_bound_or_without_gradients_nothing_changes() -> None:
    model = model_of([3.0, 4.0])
    clip(model, None, Norms())
    assert gradient_of(model) == [3.0, 4.0]
    for bound in (None, 1.0, "auto"):
        clip(nn.Linear(2, 2), bound, Norms())  # type: ignore[arg-type]


def test_auto_is_the_tenth_of_the_last_norms_by_hand() -> None:
    norms = Norms()
    assert norms.bound(5.0) == 5.0, "a first gradient is what it is"
    assert [norms.bound(float(norm)) for norm in (7, 3, 9)] == [5.0, 3.0, 3.0]
    norms = Norms()
    for norm in range(1, 101):
        norms.bound(float(norm))
    assert norms.bound(1000.0) == 11.0, "of 2..100 and 1000, ninety are longer"
    assert len(norms.last) == KEPT


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_auto_does_not_depend_on_the_scale_of_the_loss(scale: float) -> None:
    norms, shortened = Norms(), []
    for step in range(200):
        model = model_of([scale * (1.0 + math.sin(step)) + scale, 0.0])
        clip(model, "auto", norms)
        shortened.append(gradient_of(model)[0] / scale)
    reference = Norms()
    expected = [min(n, reference.bound(n)) for n in (2.0 + math.sin(step) for step in range(200))]
    assert shortened == pytest.approx(expected, rel=1e-3 if scale > 1e-5 else 1.0)


@pytest.mark.parametrize("odd", [0.0, math.inf, math.nan])
def test_a_norm_that_says_nothing_is_left_out_and_holds_nobody_down(odd: float) -> None:
    norms = Norms()
    assert norms.bound(odd) == math.inf
    assert not norms.last
    for _ in range(50):
        norms.bound(odd)
    assert norms.bound(2.0) == 2.0


def test_a_gradient_that_grows_is_held_down_for_kept_steps_at_most() -> None:
    norms = Norms()
    for _ in range(1000):
        norms.bound(1e-6)
    bounds = [norms.bound(1.0) for _ in range(KEPT)]
    assert bounds[0] == 1e-6
    assert bounds[-1] == 1.0


def test_norms_go_through_a_checkpoint_and_nonsense_does_not() -> None:
    norms = Norms(scale=200.0)
    for norm in range(1, 130):
        norms.bound(float(norm))
    back = Norms()
    back.recall(norms.remember())
    assert (list(back.last), back.scale) == (list(norms.last), 200.0)
    assert back.bound(7.0) == norms.bound(7.0)
    assert Norms().remember() == {}
    for memory in ({}, {"gradient_norms": 3.0}, {"gradient_norms": torch.zeros(2, 2)}):
        back = Norms()
        back.recall(memory)
        assert not back.last
    back.recall({"gradient_norms": torch.tensor([math.nan, -1.0, 2.0, math.inf])})
    assert list(back.last) == [2.0]


@pytest.mark.parametrize("scale", [1.0, 32.0, 0.01])
def test_where_outputs_are_class_logits_auto_has_a_most(scale: float) -> None:
    for length, shortened in ((16.0, 1.0), (0.5, 0.5)):
        model, norms = model_of([length * scale]), Norms(scale=scale)
        clip(model, "auto", norms)
        assert gradient_of(model) == pytest.approx([shortened * scale], rel=1e-3)
        assert list(norms.last) == pytest.approx([length * scale])
    model = model_of([16.0])
    clip(model, 3.0, Norms(scale=scale))
    assert gradient_of(model) == pytest.approx([3.0], rel=1e-5)


def test_the_scale_of_a_loss_by_hand() -> None:
    outputs, labels = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    mean, total = (float(nn.functional.cross_entropy(outputs, labels, reduction=how)) for how in ("mean", "sum"))
    assert scale_of(mean, outputs, labels) == 1.0
    assert scale_of(total, outputs, labels) == pytest.approx(8.0)
    assert scale_of(mean, outputs, nn.functional.one_hot(labels).float()) == pytest.approx(1.0)
    for odd in (math.nan, math.inf, 0.0, -1.0):
        assert scale_of(odd, outputs, labels) == 1.0
    assert scale_of(mean, outputs, torch.zeros(8, 5)) == 1.0
    assert scale_of(mean, (outputs,), labels) == 1.0


def test_what_no_gradient_exceeds() -> None:
    bounds = [
        largest("auto", Norms(scale=2.0)),
        largest("auto", Norms()),
        largest(None, Norms()),
        largest(0.3, Norms()),
    ]
    assert bounds == [2.0, None, None, 0.3]

"""Soft targets against the formulas, by hand and against torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from gossipdistill.learning.distillation import (
    Divergence,
    age_weight,
    are_probabilities,
    divergence,
    mean_of_teachers,
    ramp,
    soft_targets,
)


def _logits(seed: int, rows: int = 5, classes: int = 4) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_teacher_first_is_torchs_kl_with_batchmean(temperature: float) -> None:
    student, teacher = _logits(0), soft_targets(_logits(1), temperature)
    expected = temperature**2 * kl_div(log_softmax(student / temperature, 1), teacher, reduction="batchmean")
    assert torch.allclose(divergence(student, teacher, temperature, Divergence.FORWARD_KL), expected, atol=1e-6)


def test_gradient_of_teacher_first_is_student_minus_teacher() -> None:
    student = _logits(0).requires_grad_()
    teacher = soft_targets(_logits(1), 1.0)
    divergence(student, teacher, 1.0, Divergence.FORWARD_KL).backward()
    expected = (softmax(student.detach(), 1) - teacher) / len(student)
    assert student.grad is not None
    assert torch.allclose(student.grad, expected, atol=1e-6)


def test_student_first_is_the_reverse() -> None:
    student, teacher = _logits(0), soft_targets(_logits(1), 1.0)
    q = softmax(student, 1)
    expected = (q * (q.log() - teacher.log())).sum(1).mean()
    assert torch.allclose(divergence(student, teacher, 1.0, Divergence.REVERSE_KL), expected, atol=1e-6)


@pytest.mark.parametrize("kind", list(Divergence))
def test_a_teacher_that_is_sure_costs_no_infinity(kind: Divergence) -> None:
    sure = torch.eye(4)
    value = divergence(_logits(0, rows=4), sure, 1.0, kind)
    assert math.isfinite(value.item())
    assert value.item() > 0


@pytest.mark.parametrize("kind", [kind for kind in Divergence if kind is not Divergence.CROSS_ENTROPY])
def test_agreement_costs_nothing(kind: Divergence) -> None:
    logits = _logits(0)
    assert divergence(logits, soft_targets(logits, 2.0), 2.0, kind).item() == pytest.approx(0.0, abs=1e-6)


def test_teachers_are_averaged_as_probabilities() -> None:
    one, other = soft_targets(_logits(1), 1.0), soft_targets(_logits(2), 1.0)
    mean = mean_of_teachers(torch.stack([one, other]), torch.tensor([[0.75], [0.25]]).expand(2, 5))
    assert torch.allclose(mean, 0.75 * one + 0.25 * other, atol=1e-6)
    # The gradient against the mean equals the mean of the gradients (papers.md, section 1, derived by algebra).
    student = _logits(0)
    of_mean = divergence(student, mean, 1.0, Divergence.FORWARD_KL)
    apart = 0.75 * cross_entropy(student, one) + 0.25 * cross_entropy(student, other)
    entropy = torch.xlogy(mean, mean).sum(1).mean()
    assert torch.allclose(of_mean, apart + entropy, atol=1e-5)


def test_age_weight_falls_to_zero_at_the_nearer_horizon() -> None:
    assert age_weight(0.0, 0, 30.0, 0) == 1.0
    assert age_weight(15.0, 0, 30.0, 0) == pytest.approx(0.5)
    assert age_weight(30.0, 0, 30.0, 0) == 0.0
    assert age_weight(31.0, 0, 30.0, 0) == 0.0
    assert age_weight(1e9, 10**9, 0.0, 0) == 1.0, "a horizon of 0 is none"
    assert age_weight(3.0, 75, 30.0, 100) == pytest.approx(0.25)


def test_ramp_counts_the_receivers_own_steps() -> None:
    assert [ramp(step, 2, 4) for step in range(8)] == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [ramp(step, 0, 0) for step in range(2)] == [1.0, 1.0]


def test_rows_that_are_no_probabilities_are_recognised() -> None:
    table = soft_targets(_logits(0), 1.0)
    assert are_probabilities(table)
    assert are_probabilities(table.half().float())
    assert not are_probabilities(2 * table)
    assert not are_probabilities(_logits(0))

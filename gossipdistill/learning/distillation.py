"""Soft targets: how teachers are averaged, weighted by age, and compared with a student.

Notation: z [B, C] logits of the student, p_j [B, C] probabilities of teacher j, T the temperature, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

ROW_SUM_ERROR_MAX = 0.05
"""How far a row of received probabilities may be from 1; half precision over 32,768 classes stays below."""


class Direction(StrEnum):
    """Which way the divergence runs."""

    TEACHER_FIRST = "teacher_first"
    STUDENT_FIRST = "student_first"


def soft_targets(logits: Tensor, temperature: float) -> Tensor:
    """softmax(z / T) [B, C] in float32 (Hinton et al. 2015, section 2)."""
    return softmax(logits.detach().float() / temperature, dim=1)


def are_probabilities(table: Tensor) -> bool:
    """Whether each row of [N, C] (on the CPU) is non-negative and sums to 1 up to the rounding of its encoding."""
    # In NumPy: on tables of this size a torch operation costs several times its arithmetic. NaN fails each comparison.
    values = table.numpy()
    sums = values.sum(axis=1)
    within = sums.min() >= 1 - ROW_SUM_ERROR_MAX and sums.max() <= 1 + ROW_SUM_ERROR_MAX
    return bool(values.min() >= 0 and within)


def age_weight(age_s: float, staleness_steps: int, stale_after_s: float, stale_after_steps: int) -> float:
    """Weight of a teacher in [0, 1]: falls linearly with its age, to 0 at the nearer of the two horizons.

    Age and staleness are counted by the receiver from the arrival on, so a slow sender is not stale for being slow.
    A horizon of 0 is none.
    """
    weight = 1.0
    if stale_after_s > 0:
        weight = min(weight, 1.0 - age_s / stale_after_s)
    if stale_after_steps > 0:
        weight = min(weight, 1.0 - staleness_steps / stale_after_steps)
    return max(weight, 0.0)


def mean_of_teachers(probabilities: Tensor, weights: Sequence[float]) -> Tensor:
    """sum_j w_j p_j / sum_j w_j [B, C] of p [J, B, C]: averaged as probabilities, before the divergence is taken
    (Anil et al. 2018, section 2); in gradient equal to the mean of the divergences."""
    share = torch.tensor(weights, dtype=probabilities.dtype, device=probabilities.device)
    return torch.einsum("j,jbc->bc", share / share.sum(), probabilities)


def divergence(student_logits: Tensor, teacher: Tensor, temperature: float, direction: Direction) -> Tensor:
    """T^2 times the mean over rows of a Kullback-Leibler divergence: a scalar, with its gradient to the student.

    With q = softmax(z / T) of the student and the teacher's p (made at the same T):
    teacher_first KL(p || q) = sum p (log p - log q), the standard of mutual learning and codistillation;
    student_first KL(q || p) = sum q (log q - log p), mode-seeking. The mean is over rows only, never over classes,
    and T^2 keeps the gradient's scale (Hinton et al. 2015, section 2.1).
    """
    log_q = log_softmax(student_logits.float() / temperature, dim=1)
    if direction is Direction.TEACHER_FIRST:
        rows = torch.xlogy(teacher, teacher) - teacher * log_q
    else:
        # The floor is what half precision cannot hold anyway; without it a class at 0 would cost infinity.
        rows = log_q.exp() * (log_q - teacher.clamp_min(2.0**-24).log())
    return temperature**2 * rows.sum(dim=1).mean()


def ramp(step: int, burn_in_steps: int, ramp_steps: int) -> float:
    """Factor of the distillation weight at the receiver's own step: 0 during burn-in, then linear up to 1."""
    if step < burn_in_steps:
        return 0.0
    if ramp_steps <= 0:
        return 1.0
    return min((step - burn_in_steps + 1) / ramp_steps, 1.0)

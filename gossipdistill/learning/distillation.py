"""Soft targets: how teachers are averaged, weighted by age, and compared with a student.

Notation: z [B, C] logits of the student, p_j [B, C] probabilities of teacher j, T the temperature, C classes.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softmax

ROW_SUM_ERROR_MAX = 0.05
"""The sum of a row of received probabilities may be this far from 1; half precision over 32,768 classes stays below."""


CONSTANT_ROWS_MIN = 16
"""From fewer rows it cannot be told whether a model's output is constant."""
CONSTANT_SPREAD_MAX = 1e-3
"""Two probabilities of one class that are no further apart than this count as the same."""

PROBABILITY_MIN = 2.0**-24
"""Half precision holds nothing below this; the logarithm of a probability stops here."""


class Divergence(StrEnum):
    """The divergence that is minimised between teacher p and student q = softmax(z / T); see `divergence_rows`."""

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    CROSS_ENTROPY = "cross_entropy"
    MSE = "mse"


class Average(StrEnum):
    """The quantity that is averaged over several teachers."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


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


def are_constant(table: Tensor) -> bool:
    """Whether the probabilities [N, C] are the same for each of N inputs, as those of a collapsed model: nothing can be
    learned from them. False for fewer than `CONSTANT_ROWS_MIN` inputs."""
    if len(table) < CONSTANT_ROWS_MIN:
        return False
    low, high = table.aminmax(dim=0)
    return bool((high - low).max() <= CONSTANT_SPREAD_MAX)


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


def mean_of_teachers(probabilities: Tensor, shares: Tensor, average: Average = Average.PROBABILITIES) -> Tensor:
    """One teacher [B, C] of p [J, B, C] with shares [J, B], or [J, 1] for all rows, which sum to 1 over J in each row.

    `probabilities`: sum_j s_j p_j, averaged before the divergence is taken (Anil et al. 2018, section 2); for the
    forward divergence equal in gradient to the mean of the divergences. `logits`: the normalised geometric mean, which
    is the softmax of the mean of the logits; for MSE equal in gradient to the mean of the squared distances.
    """
    if average is Average.PROBABILITIES:
        return (shares[:, :, None] * probabilities).sum(dim=0)
    return softmax((shares[:, :, None] * _log(probabilities)).sum(dim=0), dim=1)


def tempered(probabilities: Tensor, made_at: float, temperature: float) -> Tensor:
    """softmax(z / temperature) of softmax(z / made_at) [..., C]: p^(made_at / temperature), normalised."""
    if made_at == temperature:
        return probabilities
    return softmax(_log(probabilities) * (made_at / temperature), dim=-1)


def divergence_rows(student_logits: Tensor, teacher: Tensor, temperature: float, kind: Divergence) -> Tensor:
    """The cost of each row [B], with its gradient to the student's logits z [B, C]; teacher p [B, C], at the same T.

    forward_kl    T^2 KL(p || q) = T^2 sum p (log p - log q): the standard; gradient T (q - p)
    reverse_kl    T^2 KL(q || p) = T^2 sum q (log q - log p): mode-seeking; T q (log q - log p - KL(q || p))
    cross_entropy -T^2 sum p log q: the gradient of forward_kl, another value
    mse           |z' - v'|^2 / 2 C with z' and v' = T log p less their means over the classes: gradient (z' - v') / C,
                  to which that of forward_kl comes near as T grows

    q = softmax(z / T). T^2 keeps the gradient's scale (Hinton et al. 2015, section 2.1, which has the limit as well).
    """
    if kind is Divergence.MSE:
        z, v = student_logits.float(), temperature * _log(teacher)
        gap = (z - z.mean(dim=1, keepdim=True)) - (v - v.mean(dim=1, keepdim=True))
        return gap.square().mean(dim=1) / 2
    # Factors of 1 cost as much as others, and a small model's step is little more than such calls.
    log_q = log_softmax(student_logits.float() if temperature == 1.0 else student_logits.float() / temperature, dim=1)
    if kind is Divergence.FORWARD_KL:
        entries = torch.xlogy(teacher, teacher) - teacher * log_q
    elif kind is Divergence.CROSS_ENTROPY:
        entries = -teacher * log_q
    else:
        # Without the floor of _log a class at 0 would cost infinity.
        entries = log_q.exp() * (log_q - _log(teacher))
    return entries.sum(dim=1) if temperature == 1.0 else temperature**2 * entries.sum(dim=1)


def divergence(student_logits: Tensor, teacher: Tensor, temperature: float, kind: Divergence) -> Tensor:
    """The mean of `divergence_rows` over rows only, never over classes: a scalar."""
    return divergence_rows(student_logits, teacher, temperature, kind).mean()


def _log(probabilities: Tensor) -> Tensor:
    return probabilities.clamp_min(PROBABILITY_MIN).log()


def ramp(step: int, burn_in_steps: int, ramp_steps: int) -> float:
    """Factor of the distillation weight at the receiver's own step: 0 during burn-in, then linear up to 1."""
    if step < burn_in_steps:
        return 0.0
    if ramp_steps <= 0:
        return 1.0
    return min((step - burn_in_steps + 1) / ramp_steps, 1.0)

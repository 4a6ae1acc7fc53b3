"""Means over paired seeds, with what is uncertain of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

_T_975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
    2.120,
    2.110,
    2.101,
    2.093,
    2.086,
    2.080,
    2.074,
    2.069,
    2.064,
    2.060,
    2.056,
    2.052,
    2.048,
    2.045,
    2.042,
)
"""The 97.5 % point of Student's t with 1, 2, ... degrees of freedom; for more than there are here the last is used,
which is larger than the true one."""


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """(mean, standard error of the mean); the error of a single value is NaN."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, lower end, upper end) of the 95 % interval of the mean by Student's t. The ends of one value are NaN."""
    mean, error = mean_and_error(values)
    if math.isnan(error):
        return mean, math.nan, math.nan
    half = _T_975[min(len(values) - 2, len(_T_975) - 1)] * error
    return mean, mean - half, mean + half

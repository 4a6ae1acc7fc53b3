"""How long steps took and how many were lost, from the moments at which they were over. Pure: no process, no clock."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

STALL_S = 0.25
"""A padded step that takes longer than this was held up by something; what would have been made meanwhile is lost."""


@dataclass(frozen=True, slots=True)
class Steps:
    """One worker in one window. Steps that began before the window or end after it belong to it, too; a worker that
    says nothing to the end of the window is counted as held up to its end."""

    made: int
    p99_s: float
    longest_s: float
    lost: int


def read_moments(file: Path) -> list[float]:
    """The readings of the clock in a `steps.f64`; none where there is none."""
    data = file.read_bytes() if file.exists() else b""
    return list(struct.unpack(f"{len(data) // 8}d", data[: len(data) // 8 * 8]))


def steps(moments: Sequence[float], from_s: float, to_s: float, step_time_s: float, ended: bool = False) -> Steps:
    """Of one worker; `ended`: it has made all its steps, so that silence after the last one is no stall."""
    points = [at_s for at_s in moments if at_s < from_s][-1:]
    points += [at_s for at_s in moments if from_s <= at_s <= to_s]
    made = len([at_s for at_s in points if at_s >= from_s])
    points += [at_s for at_s in moments if at_s > to_s][:1] or ([] if ended else [to_s])
    took = sorted(later - earlier for earlier, later in pairwise(points))
    if not took:
        return Steps(made, 0.0, 0.0, 0)
    lost = sum(int(each / step_time_s) - 1 for each in took if each > max(STALL_S, 2 * step_time_s))
    return Steps(made, quantile(took, 0.99), took[-1], lost)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least `share` of all values at or below it."""
    ordered = sorted(values)
    return ordered[max(-int(-share * len(ordered) // 1) - 1, 0)]

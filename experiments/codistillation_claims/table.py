"""The tables of `codistillation_claims`. Pure: no run in here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from experiments.common.cells import Cell
from experiments.common.command import line
from experiments.common.spread import interval


class Times(NamedTuple):
    """Virtual seconds to a loss, by speeds and seed; infinite where a run did not get there."""

    task: str
    target_of: str
    target: float
    method: str
    rate: float
    took_s: Mapping[str, Sequence[float]]


def time_table(task: str, rows: Sequence[Times]) -> str:
    """Medians over seeds, and how many runs got there."""
    lines = [
        f"## {task}: virtual seconds to a validation loss (median over the seeds; in brackets how many got there)",
        "",
        "| loss | which is what it reaches | method | rate | all alike | beside a straggler | times longer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        calm, slow = (row.took_s[speeds] for speeds in ("alike", "straggler"))
        ratio = median(slow) / median(calm) if math.isfinite(median(slow)) else math.nan
        entries = [
            f"{row.target:.2f}",
            row.target_of,
            f"`{row.method}`",
            f"{row.rate:g}",
            _seconds(calm),
            _seconds(slow),
            "-" if math.isnan(ratio) else f"{ratio:.1f}",
        ]
        lines.append(line(entries))
    return "\n".join(lines) + "\n"


def _seconds(took: Sequence[float]) -> str:
    there = sum(map(math.isfinite, took))
    middle = median(took)
    return f"{middle:.1f} ({there}/{len(took)})" if math.isfinite(middle) else f"never ({there}/{len(took)})"


def churn_table(task: str, alone: str, rows: Mapping[str, Sequence[Cell]]) -> str:
    """Means over pairs of runs; changes against a model alone are paired."""
    lines = [
        f"## {task}: churn between two runs on the same examples",
        "",
        "| what is served | models | unlike answers % | less than alone | mean difference of probabilities "
        "| less than alone | accuracy % | loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, cells in rows.items():
        entries = [f"`{name}`", "2" if name.startswith("ensemble") else "1"]
        for figure, digits in (("flips", 2), ("distance", 4)):
            values = [float(cell[figure]) for cell in cells]
            base = [float(cell[figure]) for cell in rows[alone]]
            entries.append(f"{sum(values) / len(values):.{digits}f}")
            entries.append("-" if name == alone else _saved(values, base))
        for figure, digits in (("accuracy", 2), ("loss", 3)):
            entries.append(f"{sum(float(cell[figure]) for cell in cells) / len(cells):.{digits}f}")
        lines.append(line(entries))
    return "\n".join(lines) + "\n"


def _saved(values: Sequence[float], base: Sequence[float]) -> str:
    """In percent of what there is alone, with its 95 % interval over pairs."""
    whole = sum(base) / len(base)
    mean, low, high = interval([100 * (b - v) / whole for v, b in zip(values, base, strict=True)])
    return f"{mean:.0f} % ({low:.0f} to {high:.0f})"

"""Figures from the progress records of workers: rates over a window, ages, medians. Pure: no process, no clock."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gossipdistill.learning.ledger import Distribution, bin_to_age_s

STALLED_AFTER_S = 1.0
"""A worker that has said nothing for so long at the end of a window is counted as standing still (it reports four
times a second, a straggler with steps of 200 ms every 400 ms)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One progress record. `at_s` is when the launcher read it; all other figures are the worker's own."""

    at_s: float
    elapsed_s: float
    step: int
    cpu_s: float
    exchanges: Mapping[str, int] = field(default_factory=dict)
    age_bins: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @staticmethod
    def from_record(at_s: float, record: Mapping[str, Any]) -> Sample:
        """Of a record of the type `progress`. `ages` may be missing: then no ages are shown."""
        ages = record.get("ages") or {}
        return Sample(
            at_s=at_s,
            elapsed_s=float(record["elapsed_s"]),
            step=int(record["step"]),
            cpu_s=float(record["cpu_s"]),
            exchanges=dict(record["links"]),
            age_bins={sender: {int(age): n for age, n in bins.items()} for sender, bins in ages.items()},
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """What one worker did in one window. `exchanges_per_s` and `age_bins` are by sender."""

    steps_per_s: float
    cores: float
    cpu_s_per_step: float | None
    exchanges_per_s: Mapping[str, float]
    age_bins: Mapping[str, Counter[int]]


def rates(samples: Sequence[Sample], from_s: float, to_s: float) -> Rates:
    """Between the first and the last record inside the window, by the worker's own clock.

    A worker that stands still is measured to the end of the window by the launcher's clock, so that it does not look
    faster than it is; one without any record inside has made no step.
    """
    inside = [sample for sample in samples if from_s <= sample.at_s <= to_s]
    if not inside:
        return Rates(0.0, 0.0, None, {}, {})
    first, last = inside[0], inside[-1]
    stalled = to_s - last.at_s > STALLED_AFTER_S
    wall_s = to_s - first.at_s if stalled else last.elapsed_s - first.elapsed_s
    if wall_s <= 0:
        return Rates(0.0, 0.0, None, {}, {})
    steps, cpu_s = last.step - first.step, last.cpu_s - first.cpu_s
    exchanges = {sender: (count - first.exchanges.get(sender, 0)) / wall_s for sender, count in last.exchanges.items()}
    ages = {
        sender: Counter(dict(bins)) - Counter(dict(first.age_bins.get(sender, {})))
        for sender, bins in last.age_bins.items()
    }
    return Rates(steps / wall_s, cpu_s / wall_s, cpu_s / steps if steps else None, exchanges, ages)


def age_quantiles_s(bins: Iterable[Counter[int]]) -> dict[str, float | None]:
    """Median and 95th percentile of ages (s) that were counted in the ledger's bins."""
    together = Distribution(sum(bins, Counter()))
    return {name: bin_to_age_s(together.quantile(share)) for name, share in (("median", 0.5), ("p95", 0.95))}


def median(values: Iterable[float | None]) -> float | None:
    """Median of those that are there; None without any."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of those that are there; None without any."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None

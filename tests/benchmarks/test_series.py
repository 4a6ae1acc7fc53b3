"""Rates, ages and medians from made-up progress records."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.kit.series import Sample, age_quantiles_s, mean, median, rates
from gossipdistill.learning.ledger import age_to_bin


def sample(at_s: float, step: int, exchanges: int = 0, cpu_s: float = 0.0) -> Sample:
    """A record that the launcher read 10 ms after it was written; the worker began at launcher time 100."""
    return Sample(at_s, at_s - 100.01, step, cpu_s, {"bo": exchanges}, {"bo": {age_to_bin(0.01): exchanges}})


def test_rates_are_between_the_first_and_the_last_record_inside_the_window() -> None:
    samples = [sample(100 + at_s, int(50 * at_s), int(25 * at_s), 0.1 * at_s) for at_s in (0, 1, 2, 3, 4, 5)]
    found = rates(samples, 100.5, 104.9)
    assert found.steps_per_s == pytest.approx(50)
    assert found.cores == pytest.approx(0.1)
    assert found.cpu_s_per_step == pytest.approx(0.002)
    assert found.exchanges_per_s["bo"] == pytest.approx(25)
    assert found.age_bins["bo"] == Counter({age_to_bin(0.01): 75})


def test_a_worker_that_stops_inside_the_window_is_measured_to_its_end() -> None:
    samples = [sample(100.0, 0), sample(100.5, 25)]
    assert rates(samples, 100.0, 105.0).steps_per_s == pytest.approx(5)


def test_a_worker_that_says_nothing_makes_no_step() -> None:
    found = rates([sample(99.9, 500)], 100.0, 104.0)
    assert found.steps_per_s == 0.0
    assert found.cpu_s_per_step is None


def test_a_new_sender_is_counted_from_zero() -> None:
    first = Sample(100.0, 0.0, 0, 0.0, {}, {})
    last = Sample(102.0, 2.0, 100, 0.2, {"cy": 80}, {})
    assert rates([first, last], 100.0, 102.1).exchanges_per_s == {"cy": 40.0}


def test_ages_are_those_of_all_links_together() -> None:
    quantiles = age_quantiles_s([Counter({age_to_bin(0.01): 90}), Counter({age_to_bin(0.5): 10})])
    assert quantiles["median"] == pytest.approx(0.01, rel=0.1)
    assert quantiles["p95"] == pytest.approx(0.5, rel=0.1)
    assert age_quantiles_s([]) == {"median": None, "p95": None}


def test_medians_and_means_leave_out_what_is_missing() -> None:
    assert median([1.0, None, 3.0, 2.0]) == 2.0
    assert mean([1.0, None, 3.0]) == 2.0
    assert median([None]) is None
    assert mean([]) is None


def test_a_record_without_ages_is_read() -> None:
    record = {"type": "progress", "elapsed_s": 1.5, "step": 75, "cpu_s": 0.2, "links": {"bo": 70}}
    assert Sample.from_record(3.0, record) == Sample(3.0, 1.5, 75, 0.2, {"bo": 70}, {})


def test_ages_come_with_their_bins_as_texts() -> None:
    record = {"elapsed_s": 1, "step": 7, "cpu_s": 0, "links": {}, "ages": {"bo": {"12": 3}}}
    assert Sample.from_record(3.0, record).age_bins == {"bo": {12: 3}}

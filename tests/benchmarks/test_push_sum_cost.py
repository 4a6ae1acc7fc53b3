"""How the benchmark of push-sum computes its figures."""

from __future__ import annotations

import math

import pytest

from benchmarks import push_sum_cost
from benchmarks.push_sum.memory import beyond
from benchmarks.push_sum.steps import Lone, bounded


def test_the_upper_bound_is_that_of_the_median() -> None:
    """Of 20 values it is the 15th: 5 or fewer of 20 lie above the median with a chance of 0.021."""
    assert bounded([float(rank) for rank in range(20, 0, -1)]) == (10.5, 15.0)
    assert bounded([1.0] * 18 + [9.0, 9.0]) == (1.0, 1.0)
    assert bounded([1.0, 2.0, 3.0]) == (2.0, math.inf)


def test_models_beyond_isolated_are_counted_at_the_peak_of_each_worker() -> None:
    alone = {"parameters": 100, "peak_bytes": {"before": [1000, 1000], "training": [1200, 1200], "after": [1300, 1300]}}
    gossip = {"parameters": 100, "peak_bytes": {"before": [1400, 0], "training": [2000, 2400], "after": [0, 3300]}}
    assert beyond(gossip, alone, "training") == pytest.approx(2.5)
    assert beyond(gossip, alone, "whole") == pytest.approx((2650 - 1300) / 400)


def test_what_is_posted_comes_back_and_no_weight_is_lost() -> None:
    lone = Lone.of("sgp", "4,810")
    lone.exchange_once(back=3)
    assert lone.worker.gossip.held_weight() == pytest.approx(1.0)


def test_the_table_judges_and_shows_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"strategy": "sgp", "optimizer": "SGD", "operations": 6.0, "beyond": 0.0, "python_bytes": 0}
    monkeypatch.setattr(
        push_sum_cost,
        "circumstances",
        lambda module: {
            "command": module,
            "date": "",
            "cores": 1,
            "processor": "",
            "load_at_start": [0.0],
            "versions": {},
        },
    )
    found = {"kernels": {"about": push_sum_cost.circumstances("x"), "rows": [row]}}
    before = {"kernels": {"about": push_sum_cost.circumstances("y"), "rows": [row | {"beyond": 10.0}]}}
    lines = push_sum_cost.report(found, before)
    assert "| SGD | sgp | 6 | 0 | 10 | 0 | PASS (none) |" in lines
    assert not any("FAIL" in line for line in lines)

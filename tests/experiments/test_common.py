"""What several experiments share: finished cells, and means with their uncertainty, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.common.cells import add, known, missing
from experiments.common.spread import interval, mean_and_error


def test_a_series_goes_on_where_it_was_also_after_a_line_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "results" / "cells.jsonl"
    keys = [{"seed": seed, "strategy": "sgp"} for seed in range(3)]
    add(path, keys[0], {"accuracy": 70.0})
    with path.open("a") as file:
        file.write('{"key": {"seed": 1, "strat')
    assert [cell["accuracy"] for cell in known(path)] == [70.0]
    assert list(missing(path, keys)) == keys[1:]
    add(path, {"strategy": "sgp", "seed": 1}, {"accuracy": 71.0})
    assert [cell["accuracy"] for cell in known(path)] == [70.0, 71.0]
    assert list(missing(path, keys)) == keys[2:]


def test_intervals_by_hand() -> None:
    assert mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, high - low) == pytest.approx((3.0, 2 * 2.776 * math.sqrt(0.5)), rel=1e-3)
    assert all(math.isnan(end) for end in interval([1.0])[1:])

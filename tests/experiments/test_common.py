"""What several experiments share: finished cells, and means with their uncertainty, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from experiments.common.cells import Cell, Key, add, fill, known, missing
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


def squared(key: Key) -> Cell:
    return {"square": key["seed"] ** 2}


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_missing_is_run_one_by_one_or_side_by_side(jobs: int, tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    add(path, {"seed": 2}, {"square": 5})
    cells = fill(path, ({"seed": seed} for seed in range(4)), squared, jobs)
    assert {cell["key"]["seed"]: cell["square"] for cell in cells} == {0: 0, 1: 1, 2: 5, 3: 9}
    assert all("cpu_s" in cell for cell in cells[1:])


def test_intervals_by_hand() -> None:
    assert mean_and_error([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1 / math.sqrt(3)))
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, high - low) == pytest.approx((3.0, 2 * 2.776 * math.sqrt(0.5)), rel=1e-3)
    assert all(math.isnan(end) for end in interval([1.0])[1:])

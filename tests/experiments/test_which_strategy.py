"""The table of the strategies, from made-up cells, and which cells there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.which_strategy.run import keys_of, longer_keys, specs_of
from experiments.which_strategy.table import Series, table
from gossipdistill.strategies import STRATEGIES


def cell(strategy: str, setting: str, speeds: str, seed: int, accuracy: float, wall_s: float = 15.0) -> dict[str, Any]:
    key = {"strategy": strategy, "setting": setting, "speeds": speeds, "seed": seed, "scale": 1.0}
    accuracies = {"ada": accuracy - 1, "bo": accuracy + 1}
    megabytes = 0.0 if strategy == "isolated" else 9.0
    return {"key": key, "accuracy": accuracies, "megabytes": megabytes, "wall_s": wall_s, "cpu_ms_per_step": 1.0 + seed}


def test_each_strategy_has_every_cell_once_and_the_first_seed_comes_first() -> None:
    keys = list(keys_of(list(STRATEGIES), [0, 1], 1.0))
    assert len(keys) == 2 * 3 * len(STRATEGIES)
    assert len({str(sorted(key.items())) for key in keys}) == len(keys)
    assert [key["seed"] for key in keys] == sorted(key["seed"] for key in keys)
    assert not [key for key in keys if (key["setting"], key["speeds"]) == ("iid", "straggler")]


def test_gains_are_paired_by_seed_and_a_cell_that_is_missing_is_a_dash() -> None:
    cells = [cell("isolated", "skewed", "alike", seed, 50.0 + 10 * seed) for seed in (0, 1)]
    cells += [cell("dpsgd", "skewed", "alike", seed, 70.0 + 12 * seed) for seed in (0, 1)]
    cells += [cell("dpsgd", "skewed", "straggler", 0, 60.0, wall_s=150.0)]
    alone, lockstep = table(cells).splitlines()[2:]
    assert alone.startswith(
        "| `isolated` | never | - | - | - | 55.0 | 54.0 | +0.0 ± 0.0 | - | 0.0 | 1.0 x | 15.0 | - | - |"
    )
    assert lockstep == (
        "| `dpsgd` | every round | - | - | - | 76.0 | 75.0 | +21.0 ± 1.0 | 1 | 9.0 | 1.0 x | 15.0 | 150.0 | 60.0 |"
    )


def series(**accuracies: list[float]) -> Series:
    """Cells of skewed labels, one for each seed."""
    return Series(
        cell(name, "skewed", "alike", seed, one) for name, given in accuracies.items() for seed, one in enumerate(given)
    )


def test_strategies_that_differ_by_less_than_two_standard_errors_have_one_rank() -> None:
    """Paired by seed: sgp beats dpsgd by 1 in each, but osgp's lead over either is chance; gossip is behind."""
    ranks = series(
        isolated=[50, 50, 50], gossip_averaging=[70, 72, 71], sgp=[80, 82, 84], osgp=[85, 80, 85], dpsgd=[79, 81, 83]
    ).ranks("skewed")
    assert ranks == {"sgp": 1, "osgp": 1, "dpsgd": 1, "gossip_averaging": 4}
    assert series(sgp=[80, 82, 84], dpsgd=[79, 81, 83]).ranks("skewed") == {"sgp": 1, "dpsgd": 2}
    assert series(sgp=[80], dpsgd=[60]).ranks("skewed") == {"sgp": 1, "dpsgd": 1}, "one seed says nothing"
    shared = [
        line.split(" | ")[8]
        for line in table(
            [cell(n, "skewed", "alike", s, 70.0 + s) for n in ("sgp", "osgp") for s in (0, 1)]
        ).splitlines()[2:]
    ]
    assert shared == ["1=", "1="]


def test_training_alone_is_given_the_time_of_the_dearest_teacher() -> None:
    cells = [cell("isolated", "skewed", "alike", seed, 50.0) for seed in (0, 1)]
    cells += [cell("codistill_predictions", "skewed", "alike", seed, 60.0 + seed) for seed in (0, 1)]
    for one in cells[2:]:
        one["cpu_ms_per_step"] *= 2.1
    found = Series(cells)
    assert found.cost("codistill_predictions") == pytest.approx(2.1)
    assert found.times == 2.5, "to the next half"
    assert "times the steps" not in table(cells)
    (key, *others) = longer_keys(found.times, [0, 1], 1.0)
    assert key == {"strategy": "isolated", "setting": "iid", "speeds": "alike", "seed": 0, "scale": 1.0, "times": 2.5}
    assert len(others) == 3
    assert list(longer_keys(None, [0, 1], 1.0)) == []
    for seed in (0, 1):
        longer = cell("isolated", "skewed", "alike", seed, 57.0 - seed)
        longer["key"]["times"] = 2.5
        cells.append(longer)
    lines = table(cells).splitlines()
    assert lines[2].startswith("| `isolated` | never | - | - | - | 50.0 |"), "the first table is at equal steps"
    assert "training alone with 2.5 times the steps" in lines[5]
    assert lines[-3:] == [
        "| `isolated`, 2.5 x steps | 2.5 x | - | - | 56.5 | +0.0 ± 0.0 |",
        "| `isolated` | 1.0 x | - | - | 50.0 | -6.5 ± 0.5 |",
        "| `codistill_predictions` | 2.1 x | - | - | 60.5 | +4.0 ± 1.0 |",
    ]


def test_the_longer_run_has_so_many_steps(tmp_path: Path) -> None:
    (key, *_) = longer_keys(2.5, [0], 0.1)
    with specs_of(key) as specs:
        assert {spec.config.steps for spec in specs} == {188}


def test_a_collective_is_shown_with_its_time_if_all_of_it_overlapped() -> None:
    (one,) = [cell("all_reduce", "skewed", "alike", 0, 80.0, wall_s=40.0)]
    one["wall_overlapped_s"] = 27.0
    assert "| 40.0 (27.0 overlapped) |" in table([one])

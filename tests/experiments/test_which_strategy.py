"""The table of the strategies, from made-up cells, and which cells there are."""

from __future__ import annotations

from typing import Any

from experiments.which_strategy.run import keys_of
from experiments.which_strategy.table import table
from gossipdistill.strategies import STRATEGIES


def cell(strategy: str, setting: str, speeds: str, seed: int, accuracy: float, wall_s: float = 15.0) -> dict[str, Any]:
    key = {"strategy": strategy, "setting": setting, "speeds": speeds, "seed": seed, "scale": 1.0}
    accuracies = {"ada": accuracy - 1, "bo": accuracy + 1}
    return {"key": key, "accuracy": accuracies, "megabytes": 9.0, "wall_s": wall_s, "cpu_ms_per_step": 1.0 + seed}


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
    assert alone.startswith("| `isolated` | never | - | - | 55.0 | 54.0 | +0.0 ± 0.0 | 9.0 | 1.0 x | 15.0 | - | - |")
    assert lockstep == (
        "| `dpsgd` | every round | - | - | 76.0 | 75.0 | +21.0 ± 1.0 | 9.0 | 1.0 x | 15.0 | 150.0 | 60.0 |"
    )

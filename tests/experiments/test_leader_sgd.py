"""What the experiments about leader_sgd and concurrent_adversarial count, by hand."""

from __future__ import annotations

from typing import Any

from experiments.concurrent_adversarial import run as adversarial
from experiments.leader_sgd import run as leader


def test_each_cell_is_there_once_and_other_seeds_choose_than_show() -> None:
    shown, choosing = list(leader.keys_to_show()), list(leader.keys_to_choose())
    for keys in (shown, choosing):
        assert len({str(key) for key in keys}) == len(keys)
    assert not {key["seed"] for key in shown} & {key["seed"] for key in choosing}
    assert "adult" not in {key["task"] for key in choosing}
    assert not set(adversarial.CHOSEN_WITH) & set(adversarial.SHOWN_WITH)


def cell(row: str, seed: int, led: float, *accuracy: float) -> dict[str, Any]:
    key = {"row": row, "task": "digits", "setting": "iid", "seed": seed}
    return {"key": key, "accuracy": dict(enumerate(accuracy)), "led": led, "cpu_ms_per_step": 1.0 + led}


def test_gains_are_paired_by_seed() -> None:
    cells = [
        cell("isolated", 0, 0.0, 80.0, 82.0),
        cell("isolated", 1, 0.0, 70.0, 72.0),
        cell("leader_sgd", 0, 0.5, 85.0, 87.0),
        cell("leader_sgd", 1, 0.7, 71.0, 73.0),
        cell("leader_sgd", 2, 0.5, 99.0, 99.0),
    ]
    alone, led = leader.table(cells).splitlines()[2:]
    assert alone == "| digits | iid | isolated | 76.0 | - | - | 70.0 | - | 1.0 x |"
    # +5 and +1: mean 3, standard error 2; the third seed has no partner.
    assert led == "| digits | iid | leader_sgd | 79.0 | +3.0 ± 2.0 | 2 of 2 | 71.0 | 0.60 | 1.6 x |"


def test_each_row_is_shown_at_the_rate_that_did_best_on_the_validation_part() -> None:
    chosen = [
        {"key": key, "accuracy": 50.0 + (key["rate"] == 0.1) + (key["row"] == adversarial.PLAIN) * 9 * key["rate"]}
        for key in adversarial.keys_to_choose()
    ]
    keys = list(adversarial.keys_to_show(chosen))
    rates = {(key["batch"], key["row"]): key["rate"] for key in keys}
    assert rates[16, adversarial.PLAIN] == 0.05
    assert rates[512, adversarial.PLAIN] == 0.8
    assert {rate for (batch, row), rate in rates.items() if row.startswith("adv") and batch > 16} == {0.1}
    assert len(keys) == 5 * len(rates)

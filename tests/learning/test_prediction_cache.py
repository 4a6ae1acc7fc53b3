"""The cache of predictions against a plain dictionary that does the same."""

from __future__ import annotations

import random

import pytest
import torch

from gossipdistill.learning.prediction_cache import PredictionCache

SAMPLES, CLASSES = 12, 3


def table(rows: list[int], stamp: float) -> torch.Tensor:
    return torch.tensor([[row, stamp, 0.0] for row in rows])


@pytest.mark.parametrize("rows_max", [3, 5, 12])
def test_it_holds_the_newest_of_each_sample_and_drops_the_oldest(rows_max: int) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        cache = PredictionCache(SAMPLES, CLASSES, rows_max, torch.device("cpu"))
        plain: dict[str, dict[int, float]] = {}
        for now in range(1, 30):
            name = rng.choice(["bo", "cy", "dee"])
            rows = rng.sample(range(SAMPLES), rng.randint(1, 3))
            cache.put(name, torch.tensor(rows), table(rows, float(now)), float(now), now)
            kept = plain.setdefault(name, {})
            for row in rows:
                kept.pop(row, None)
                kept[row] = float(now)
            if rng.random() < 0.05:
                cache.forget(name)
                del plain[name]
            predictions, entries = cache.look_up(torch.arange(SAMPLES))
            for place, other in enumerate(cache.names):
                held = {row: predictions[place, row, 1].item() for row in range(SAMPLES) if entries[place, row] >= 0}
                theirs = plain[other]
                newest = sorted(theirs.values())[-rows_max:]
                assert len(held) == min(len(theirs), rows_max) == cache.held(other), f"seed {seed}"
                assert sorted(held.values()) == newest, f"seed {seed}: not the newest ones"
                assert all(theirs[row] == stamp for row, stamp in held.items()), f"seed {seed}"
                assert all(predictions[place, row, 0].item() == row for row in held), f"seed {seed}"
                for row in set(theirs) - set(held):  # the bound is one of memory: the dictionary forgets it as well
                    del theirs[row]


def test_each_entry_has_its_own_age() -> None:
    cache = PredictionCache(SAMPLES, CLASSES, SAMPLES, torch.device("cpu"))
    cache.put("bo", torch.tensor([0, 1]), table([0, 1], 0.0), 0.0, 0)
    cache.put("bo", torch.tensor([1, 2]), table([1, 2], 5.0), 5.0, 50)
    _, entries = cache.look_up(torch.tensor([0, 1, 2, 3]))
    assert cache.freshness(entries, 6.0, 60, {"bo": 10.0}, 0)[0].tolist() == pytest.approx([0.4, 0.9, 0.9, 0.0])
    assert cache.freshness(entries, 6.0, 60, {"bo": 10.0}, 100)[0].tolist() == pytest.approx([0.4, 0.9, 0.9, 0.0])
    assert cache.freshness(entries, 6.0, 60, {"bo": 0.0}, 100)[0].tolist() == pytest.approx([0.4, 0.9, 0.9, 0.0])
    assert cache.living({"bo"}, 11.0, 60, {"bo": 10.0}, 0).tolist() == [1, 2]
    assert cache.living(set(), 0.0, 0, {"bo": 10.0}, 0).tolist() == []
    assert cache.living({"bo"}, 1e9, 60, {"bo": 0.0}, 0).tolist() == [0, 1, 2], "0 is never"


def test_each_teacher_has_its_own_horizon() -> None:
    cache = PredictionCache(SAMPLES, CLASSES, SAMPLES, torch.device("cpu"))
    for name in ("bo", "cy", "dee"):
        cache.put(name, torch.tensor([0]), table([0], 0.0), 0.0, 0)
    _, entries = cache.look_up(torch.tensor([0, 1]))
    after_s = {"dee": 0.0, "bo": 10.0, "cy": 100.0}
    assert cache.freshness(entries, 8.0, 0, after_s, 0).tolist() == [
        pytest.approx([0.2, 0.0]),
        pytest.approx([0.92, 0.0]),
        [1.0, 0.0],
    ]
    assert cache.living({"bo"}, 20.0, 0, after_s, 0).tolist() == []
    assert cache.living({"bo", "cy"}, 20.0, 0, after_s, 0).tolist() == [0]


def test_a_whole_table_is_replaced_at_once() -> None:
    cache = PredictionCache(SAMPLES, CLASSES, SAMPLES, torch.device("cpu"))
    rows = list(range(SAMPLES))
    for now in (1.0, 2.0):
        cache.put("bo", torch.arange(SAMPLES), table(rows, now), now, 0)
    predictions, entries = cache.look_up(torch.tensor([7, 3]))
    assert torch.equal(predictions[0], table([7, 3], 2.0))
    assert bool((entries >= 0).all())

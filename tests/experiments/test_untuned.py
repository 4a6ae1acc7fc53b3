"""The bed of tasks that nothing was tuned on: which cells there are, and what is asked of them, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from experiments.common import data
from experiments.untuned import tasks
from experiments.untuned.run import HERE, Variant, keys_of, more_seeds, simulated
from experiments.untuned.table import FAMILY, GRAPHS, OTHERS, Gain, gains, places, table
from gossipdistill.strategies import STRATEGIES, Rounds
from gossipdistill.tasks import Shard
from gossipdistill.topology import judge, load_topology

PLACE = ("digits", "skewed", "complete-4")


def cell(strategy: str, seed: int, ada: float, bo: float, **bad_ends: str) -> dict[str, Any]:
    key = dict(zip(("task", "shards", "graph"), PLACE, strict=True)) | {"strategy": strategy, "seed": seed}
    return {"key": key, "accuracy": {"ada": ada, "bo": bo}, "bad_ends": bad_ends}


def seeds(strategy: str, *rows: tuple[float, float]) -> list[dict[str, Any]]:
    return [cell(strategy, seed, *row) for seed, row in enumerate(rows)]


def only_gain(cells: list[dict[str, Any]]) -> Gain:
    ((_, gain),) = gains(cells).items()
    return gain


def test_each_cell_is_there_once_the_first_seed_comes_first_and_none_that_cannot_run() -> None:
    keys = list(keys_of((*FAMILY, *OTHERS), [0, 1], places()))
    assert len({str(key) for key in keys}) == len(keys)
    assert [key["seed"] for key in keys] == sorted(key["seed"] for key in keys)
    irregular = {key["strategy"] for key in keys if key["graph"] == GRAPHS[1]}
    assert {*FAMILY, "sgp", "gossip_averaging"} <= irregular
    assert "adpsgd" not in irregular
    assert not [key for key in keys if STRATEGIES[key["strategy"]].rounds is Rounds.LOCKSTEP]


def test_gains_are_paired_by_seed_and_peer() -> None:
    alone = seeds("isolated", (50.0, 60.0), (40.0, 50.0), (30.0, 30.0))
    gain = only_gain([*alone, *seeds("codistill_predictions", (55.0, 61.0), (39.0, 57.0))])
    # Seed 0: +5 and +1, mean +3; seed 1: -1 and +7, mean +3; seed 2 has no partner.
    assert (gain.seeds, gain.mean, gain.worst_seed, gain.worst_peer) == (2, 3.0, 3.0, -1.0)
    assert (gain.low, gain.high, gain.wide, gain.failures()) == (3.0, 3.0, False, [])


def test_what_is_asked_is_named_where_it_is_not_met() -> None:
    alone = seeds("isolated", *[(50.0, 50.0)] * 3)
    taught = seeds("codistill_checkpoints", (54.0, 54.0), (44.0, 47.0), (50.0, 50.0))
    taught[1]["bad_ends"] = {"ada": "collapsed"}
    gain = only_gain([*alone, *taught])
    # Means over the peers: +4, -4.5, 0; their mean is -1/6, their deviation sqrt(18.0833).
    assert gain.mean == pytest.approx(-1 / 6)
    assert gain.high - gain.mean == pytest.approx(4.303 * math.sqrt(18.0833 / 3), rel=1e-4)
    assert gain.low == pytest.approx(-10.73, abs=0.01)
    assert gain.wide
    assert gain.failures() == ["seed -4.5", "peer -6.0", "1 collapsed"]
    assert replace(gain, seeds=30).failures() == ["interval -10.7", "seed -4.5", "peer -6.0", "1 collapsed"]
    text = table([*alone, *taught])
    assert "| **seed -4.5, peer -6.0, 1 collapsed** |" in text
    assert (
        "`codistill_checkpoints`: of 24 cells 0 hold so far, 1 do not, and 0 have intervals wider than 4 points" in text
    )


def test_a_wide_interval_gets_the_next_seed_and_a_narrow_one_none() -> None:
    alone = seeds("isolated", *[(50.0, 50.0)] * 10)
    wide = seeds("codistill_predictions", *[(60.0 + 10 * (seed % 2),) * 2 for seed in range(10)])
    narrow = seeds("codistill_predictions", *[(60.0 + seed % 2,) * 2 for seed in range(10)])
    assert more_seeds([*alone, *narrow]) == []
    assert more_seeds([*alone, *wide]) == list(keys_of(("isolated", "codistill_predictions"), [10], [PLACE]))


def test_a_setting_of_another_strategy_is_left_out_and_a_variant_is_kept_apart() -> None:
    variant = Variant(("train.clip_norm=1.0", "strategy.weight=0.5"), "validation")
    place = {"task": "adult", "shards": "skewed", "graph": "complete-4"}
    alone, taught = (place | {"strategy": name} for name in FAMILY[:2])
    assert "strategy.weight=0.5" not in variant.settings_of(alone)
    assert {"strategy.weight=0.5", "task.skew=0.8", "task.part=validation"} <= set(variant.settings_of(taught))
    assert variant.path.name == "validation+train.clip_norm=1.0+strategy.weight=0.5.cells.jsonl"
    assert Variant().path.name == "cells.jsonl"


def test_a_cell_has_a_figure_for_each_peer_and_groups_fit_the_graph() -> None:
    key = {"task": "synthetic", "shards": "skewed", "graph": GRAPHS[1], "strategy": "codistill_groups", "seed": 0}
    found = simulated(key, Variant(scale=0.02))
    assert list(found["accuracy"]) == ["ada", "bo", "cy", "dee", "eve", "fay", "gus"]
    assert all(0.0 < figure < 100.0 for figure in found["accuracy"].values())
    assert (found["bad_ends"], found["megabytes"] > 0.0) == ({}, True)


def test_the_graph_is_irregular_directed_and_strongly_connected() -> None:
    names = ("ada", "bo", "cy", "dee", "eve", "fay", "gus")
    schedule = load_topology(str(HERE / "irregular-7.toml"), names)
    judgement = judge(schedule)
    assert judgement.strongly_connected
    assert not judgement.symmetric
    degrees = {len(schedule.out_neighbours(name, 0)) for name in names}
    assert len(degrees) > 1


def test_no_row_is_in_two_parts_and_models_are_small() -> None:
    found = data.synthetic()
    rows = torch.cat([found.pool[0], found.transfer, found.validation[0], found.test[0]])
    assert len(rows.unique(dim=0)) == len(rows)
    judged = [tasks.synthetic(Shard(0, 4), part).validation[0] for part in ("validation", "test")]
    assert all(torch.equal(one, part[0]) for one, part in zip(judged, (found.validation, found.test), strict=True))
    models = [tasks.digits(Shard(0, 4)).model(), tasks.strided(3, 32, (16, 32)), data.NextLetter()]
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert counts == [9_050, 10_554, 10_443]


def test_digits_are_grey_levels_as_they_come() -> None:
    found = data.digits()
    assert set(found.pool[0].unique().tolist()) == set(range(17))
    assert [len(part[1]) for part in (found.pool, found.validation, found.test)] == [800, 150, 247]

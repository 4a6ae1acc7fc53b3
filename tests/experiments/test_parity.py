"""Equal compute, counted in the product's own runs; the search; the verdicts, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.common.lockstep import train, workers_of
from experiments.parity.bench import CHANGES, COLLECTIVE, COUNTS, METHODS, SIZES, TRIED, Setting
from experiments.parity.compute import Step, steps_within
from experiments.parity.search import DECAYS, RATES, START, Point, climb, neighbours
from experiments.parity.table import Row, comparison, verdict
from gossipdistill.assembly.building import build_schedule
from gossipdistill.config.plan import Asked
from gossipdistill.simulation.run import plan_simulation


def settings() -> list[Setting]:
    found = [Setting("adult", "disjoint", n, method) for n in COUNTS for method in (COLLECTIVE, *METHODS)]
    return found + [Setting("adult", "disjoint", 4, method, (change,)) for method in TRIED for change in TRIED[method]]


@pytest.mark.parametrize(
    ("strategy", "keys", "step"),
    [
        ("isolated", [], Step(32)),
        ("codistill_checkpoints", [], Step(32, teachers=2)),
        ("codistill_checkpoints", ["topology=directed_ring"], Step(32, teachers=1)),
        ("codistill_predictions", ["strategy.transfer_batch_size=16"], Step(32, 0, 16, 600, 5)),
    ],
)
def test_rows_are_counted_as_they_go_through_the_models(
    strategy: str, keys: list[str], step: Step, tmp_path: Path
) -> None:
    settings = ["exchange.every_steps=5", "exchange.per_second_max=0", *keys]
    asked = Asked(task="digits", peers="3", topology="complete", strategy=strategy, steps=20, settings=settings)
    asked = Asked(**{**vars(asked), "device": "cpu", "out": tmp_path})
    workers = workers_of(plan_simulation(asked))
    train(workers, 20, until=5)  # from here on each has its teachers
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        if isinstance(module, nn.Sequential):  # the model as a whole
            counted += len(inputs[0]) * (3 if output.requires_grad else 1)

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        train(workers, 20, until=15)
    finally:
        hook.remove()
    assert counted == 10 * 3 * step.passes


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: f"{setting.n}-{setting.method}-{setting.changes}")
def test_what_is_counted_is_what_is_run(setting: Setting, tmp_path: Path) -> None:
    with setting.specs(START, 0, "validation") as (spec, *_):
        pass
    config, step = spec.config, setting.step
    assert (config.steps, config.train.batch_size) == (setting.steps, step.batch)
    if setting.method == "codistill_checkpoints":
        schedule = build_schedule(spec, config.make_strategy())
        assert step.teachers == len(schedule.in_neighbours(spec.name, 0))
    elif setting.method == "codistill_predictions":
        strategy = config.make_strategy()
        assert strategy.options.transfer_batch_size == step.transfer_batch  # type: ignore[attr-defined]
        assert strategy.exchange.every_steps == step.every_steps
        assert config.task_options()["transfer_examples"] == step.published_rows
    budget = SIZES["small"].updates * Step(32).passes
    assert budget - step.passes < setting.steps * step.passes <= budget


def test_passes_by_hand() -> None:
    assert Step(32).passes == 96
    assert Step(32, teachers=3).passes == 96 + 3 * 32
    assert Step(32, 0, 32, 500, 10).passes == 96 + 96 + 50
    assert steps_within(96 * 400, Step(32, teachers=1)) == 300
    assert set(CHANGES) >= {change for tried in TRIED.values() for change in tried}


def test_the_search_climbs_to_the_top_of_a_hill_and_tries_no_more_than_it_must() -> None:
    top, tried = (0.2, 3e-4), []

    def score(point: Point) -> float:
        tried.append(point)
        return -abs(RATES.index(point[0]) - RATES.index(top[0])) - abs(DECAYS.index(point[1]) - DECAYS.index(top[1]))

    assert climb(score) == top
    assert len(tried) == len(set(tried)) < len(RATES) * len(DECAYS)
    assert climb(lambda point: 0.0) == START
    assert neighbours((RATES[0], DECAYS[-1]), RATES, DECAYS) == [(RATES[1], DECAYS[-1]), (RATES[0], DECAYS[-2])]


def test_verdicts_and_a_line_of_the_table_by_hand() -> None:
    ends = [(-0.4, 0.3), (0.1, 0.9), (-1.0, -0.6), (-0.6, -0.4), (-0.5, 0.0)]
    assert [verdict(*end) for end in ends] == ["parity", "better", "worse", "open", "parity"]

    def cell(accuracy: float, cpu_s: float) -> dict[str, Any]:
        key = {"lr": 0.05, "weight_decay": 0.003}
        return {"key": key, "accuracy": accuracy, "worst": accuracy - 1, "steps": 300, "cpu_s": cpu_s}

    base = [cell(accuracy, 1.0 + accuracy) for accuracy in (80.0, 81.0, 82.0)]
    cells = [cell(accuracy, 2.0 * accuracy) for accuracy in (79.0, 80.0, 81.0)]
    line = comparison(["task"], [Row(["adult"], base, cells, cells[:1])]).splitlines()[-1]
    told = "| adult | 79.0 | 81.0 | 80.0 | -1.00 | -1.00 to -1.00 | worse | 79.0 | 0.05, 0.003 | 300 | 1.95 x |"
    assert line == told

"""The rows of `pace --every`, and its verdicts from made-up figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.kit.machine import circumstances
from benchmarks.kit.plans import plan
from benchmarks.pace import every as pace_every
from benchmarks.pace.scenes import Windows
from gossipdistill.strategies import STRATEGIES


def figures(steps_per_s: float, exchanges_per_s: float) -> dict[str, Any]:
    return {
        "steps_per_s": {"ada": steps_per_s, "bo": steps_per_s},
        "cores": {"ada": 0.1, "bo": 0.1},
        "exchanges_per_s": {"ada > bo": exchanges_per_s, "bo > ada": exchanges_per_s},
    }


def test_every_strategy_has_a_row_that_can_be_planned(tmp_path: Path) -> None:
    assert {row.strategy for row in pace_every.ROWS.values()} == set(STRATEGIES)
    for row in pace_every.ROWS.values():
        specs = plan(tmp_path, row.strategy, row.topology, [*row.common, *row.settings], peers=row.peers)
        assert [spec.name for spec in specs] == list(pace_every.NAMES)
        strategy = specs[0].config.make_strategy()
        assert strategy.name == row.strategy
        if pace_every.exchanges(row.key) and not pace_every.waits(row.key):
            assert strategy.exchange.every_steps == pace_every.EVERY_STEPS


def test_free_ones_must_keep_pace_and_exchanges_and_lockstep_ones_must_wait_as_they_say() -> None:
    alone = {"healthy": figures(50.0, 0.0), "straggler": figures(50.0, 0.0)}
    keeps = {"healthy": figures(50.0, 20.0), "straggler": figures(49.0, 19.5)}
    falls = {"healthy": figures(50.0, 20.0), "straggler": figures(5.0, 2.0)}
    repeat = {"isolated": alone, "sgp": keeps, "osgp": falls, "dpsgd": falls, "decentlam": keeps}
    passed = {verdict.target.split(":")[0].split(",")[0]: [] for verdict in pace_every.verdicts([repeat], list(repeat))}
    for verdict in pace_every.verdicts([repeat], list(repeat)):
        passed[verdict.target.split(":")[0].split(",")[0]].append(verdict.passed)
    assert passed == {"sgp": [True, True], "osgp": [False, False], "dpsgd": [True], "decentlam": [False]}
    text = "\n".join(pace_every.report(circumstances("x"), [repeat], list(repeat), Windows()))
    assert "| dpsgd | every round | 50.0 | 5.0 | 0.100 | 0.100 | 0.100, 0.100 |" in text
    assert "| isolated | never | 50.0 | 50.0 | 1.000 | 0.100 | - |" in text


@pytest.mark.parametrize("key", ["isolated", "self_distillation", "all_reduce"])
def test_who_exchanges_nothing_through_our_sockets_is_not_judged_by_it(key: str) -> None:
    assert not pace_every.exchanges(key)

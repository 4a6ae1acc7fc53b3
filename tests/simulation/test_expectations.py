"""A plan's expectations in a simulated run: the same measurements and exit codes as in a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossipdistill.config.plan import Asked
from gossipdistill.faults import FaultPlan
from gossipdistill.observe.records import SummaryRecord
from gossipdistill.simulation.run import Simulation, plan_simulation

FAULTS = [
    {"kind": "slow", "peer": "dee", "from_s": 3, "factor": 10.0},
    {"kind": "kill", "peer": "bo", "at_s": 4, "restart_after_s": 2},
]


def simulated(tmp_path: Path, *expected: dict[str, Any]) -> tuple[int, SummaryRecord]:
    plan = FaultPlan.model_validate({"fault": FAULTS, "expect": list(expected)})
    asked = Asked(peers="4", seconds=12.0, out=tmp_path, settings=("sim.step_time_s=0.02",))
    simulation = Simulation(plan_simulation(asked), plan)
    return simulation.run(), simulation.summary


def test_what_is_expected_is_judged_in_virtual_time(tmp_path: Path) -> None:
    code, summary = simulated(
        tmp_path,
        {"metric": "pace_ratio", "at_least": 0.9},
        {"metric": "pace_ratio", "peers": ("dee",), "at_most": 0.2},
        {"metric": "rejoin_s", "at_most": 5.0},
    )
    assert [verdict.met for verdict in summary.expectations] == [True, True, True]
    pace, slowed, _ = (verdict.measured for verdict in summary.expectations)
    assert pace == pytest.approx(1.0, abs=0.1)
    assert slowed == pytest.approx(0.1, abs=0.05)
    assert (code, summary.exit_code) == (0, 0)


def test_an_expectation_that_is_not_met_is_exit_code_20(tmp_path: Path) -> None:
    code, summary = simulated(tmp_path, {"metric": "val_accuracy", "at_least": 0.5})
    assert (code, summary.exit_code) == (20, 20)
    (verdict,) = summary.expectations
    assert verdict.reason == "no finished peer has an accuracy"  # the task is a regression

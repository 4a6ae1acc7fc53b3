"""The schedule of what happens to processes."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gossipdistill.faults import ActKind, FaultPlan, ProcessAct, ProcessFaults
from gossipdistill.faults.processes import _acts

NAMES = ("ada", "bo", "cy", "dee")


def planned(*faults: dict[str, Any], seed: int = 0) -> FaultPlan:
    return FaultPlan.model_validate({"seed": seed, "fault": list(faults)})


def all_acts(*faults: dict[str, Any], seed: int = 0) -> list[ProcessAct]:
    return ProcessFaults(planned(*faults, seed=seed), NAMES).due(math.inf)


def test_each_kind_has_its_acts_in_order_of_time() -> None:
    acts = all_acts(
        {"kind": "kill", "peer": "bo", "at_s": 5, "restart_after_s": 3},
        {"kind": "slow", "peer": ["dee", "cy"], "from_s": 3, "to_s": 9, "factor": 10},
        {"kind": "pause", "peer": "ada", "from_s": 1, "to_s": 2},
        {"kind": "restart", "peer": "ada", "at_s": 6},
        {"kind": "clock_jump", "peer": "ada", "at_s": 4, "seconds": -2},
        {"kind": "drop", "peer": "*", "probability": 0.5},
        {"kind": "kill", "peer": "cy", "at_s": 10},
    )
    assert [(act.at_s, act.peer, act.kind.value, act.amount, act.fault) for act in acts] == [
        (1, "ada", "pause", 0, 2),
        (2, "ada", "resume", 0, 2),
        (3, "cy", "slow", 10, 1),
        (3, "dee", "slow", 10, 1),
        (4, "ada", "clock_jump", -2, 4),
        (5, "bo", "kill", 0, 0),
        (6, "ada", "leave", 0, 3),
        (6.5, "ada", "restart", 0, 3),
        (8, "bo", "restart", 0, 0),
        (9, "cy", "slow", 1, 1),
        (9, "dee", "slow", 1, 1),
        (10, "cy", "kill", 0, 6),
    ]


def test_each_act_is_handed_out_once_and_the_next_is_known() -> None:
    schedule = ProcessFaults(planned({"kind": "kill", "peer": "bo", "at_s": 5, "restart_after_s": 3}), NAMES)
    assert schedule.next_s() == 5
    assert schedule.due(4.9) == []
    assert [act.kind for act in schedule.due(5)] == [ActKind.KILL]
    assert schedule.due(5) == []
    assert [act.kind for act in schedule.left()] == [ActKind.RESTART]
    assert schedule.next_s() == 8
    assert [act.kind for act in schedule.due(100)] == [ActKind.RESTART]
    assert schedule.next_s() == math.inf


def test_a_share_is_drawn_by_the_seed() -> None:
    names = [f"peer-{n}" for n in range(40)]
    half = {"kind": "kill", "peer": "*", "share": 0.5, "at_s": 1}
    chosen = [planned(half, seed=seed).whom(0, names) for seed in (1, 1, 2)]
    assert [len(one) for one in chosen] == [20, 20, 20]
    assert chosen[0] == chosen[1] != chosen[2]
    assert list(chosen[0]) == sorted(chosen[0], key=names.index)
    assert len(planned({**half, "share": 0.001}).whom(0, names)) == 1


def test_what_cannot_happen_to_a_drawn_peer_is_left_out() -> None:
    everyone = {"peer": "*", "share": 0.99}
    acts = all_acts(
        {"kind": "pause", "from_s": 1, "to_s": 9, **everyone},
        {"kind": "pause", "from_s": 2, "to_s": 3, **everyone},
        {"kind": "kill", "at_s": 4, "restart_after_s": 4, **everyone},
        {"kind": "restart", "at_s": 5, **everyone},
        {"kind": "clock_jump", "at_s": 6, "seconds": 1, **everyone},
        {"kind": "slow", "from_s": 6, "to_s": 7, "factor": 2, **everyone},
    )
    of_ada = [(act.at_s, act.kind.value) for act in acts if act.peer == "ada"]
    assert of_ada == [(1, "pause"), (4, "kill"), (6, "slow"), (7, "slow"), (8, "restart")]


def test_only_process_faults_have_acts() -> None:
    with pytest.raises(TypeError, match="happens to no process"):
        _acts(planned({"kind": "drop", "peer": "*", "probability": 0.5}).fault[0], "ada", 0)  # type: ignore[arg-type]

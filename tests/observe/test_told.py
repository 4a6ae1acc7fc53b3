"""What a worker tells survives the line between two processes; what is no record of this release is passed over."""

from __future__ import annotations

import json

import pytest

from gossipdistill.observe.report import unknown_peer
from gossipdistill.observe.told import (
    Done,
    Exited,
    Failure,
    Happened,
    Phase,
    Progress,
    Ready,
    Restarting,
    Result,
    Started,
    Told,
    Waiting,
    decoded,
    encoded,
)

RECORDS = [
    Phase("importing torch"),
    Ready({"run": "x"}, 12, 3, "100 examples"),
    Waiting("1 of 2 here", "bo"),
    Progress(7, 0.5, 2.0, 3.5, None, 4, 2, 2, left_s=1.0, links={"bo": 3}, ages={"bo": {"5": 1}}, faults={"0": 2}),
    Done(unknown_peer("ada").but(status="finished")),
    Result(unknown_peer("bo")),
    Failure("no such key", 3, True),
    Happened(1.5, "dead", "bo: dead", "bo"),
    Started(7, 1),
    Exited("exit code 1", False),
    Restarting(1, 3),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.KIND)
def test_each_kind_survives_the_line(record: Told) -> None:
    line = json.dumps(encoded(record))
    assert decoded(json.loads(line)) == record
    assert decoded(json.loads(line) | {"of a later release": 1}) == record
    assert json.loads(line)["type"] == record.KIND


def test_all_kinds_are_tried() -> None:
    assert {type(record) for record in RECORDS} == set(Told.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "odd", [{}, {"type": "lunch"}, {"type": None, "text": "x"}, {"type": "phase"}, {"type": ["error"]}]
)
def test_what_is_no_record_is_passed_over(odd: dict[str, object]) -> None:
    assert decoded(odd) is None

"""A record is written as it was read or made: the same keys, in the same order, with the same numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gossipdistill.observe.records import LinkRecord, PeerRecord, SummaryRecord
from gossipdistill.observe.report import as_json, unknown_peer

HELD: dict[str, Any] = {
    "of a later release": {"x": [1, {"y": None}]},
    "schema": 1,
    "task": "digits",
    "name": "r",
    "strategy": "sgp",
    "topology": "ring",
    "seed": 0,
    "wall_s": 2,
    "val_accuracy": {"worst": 0, "mean": 0.5, "ensemble": None, "over": 1},
    "links": [{"to": "ada", "from": "bo"}],
    "peers": [unknown_peer("ada").plain() | {"plain": 1, "pid": "odd"}],
    "exit_code": "unread",
}


def test_what_was_read_is_written_to_the_byte() -> None:
    text = json.dumps(HELD)
    read = SummaryRecord.model_validate(json.loads(text))
    assert as_json(read) == text
    assert as_json(read.printable()) == text
    assert as_json(read.but(seed=1)) == text.replace('"seed": 0', '"seed": 1')
    assert as_json(read.but(data="new").without("data")) == text


def test_what_was_made_has_the_keys_that_were_given_and_defaults_for_others() -> None:
    peer = unknown_peer("ada")
    assert (peer.troubles, peer.links, peer.wall_s) == ([], [], None)
    assert "wall_s" not in peer.plain()
    assert list(peer.but(pid=7).plain())[-1] == "pid"
    assert LinkRecord(sender="bo", to="ada").plain() == {"from": "bo", "to": "ada"}
    assert LinkRecord.model_validate({"from": "bo"}).sender == "bo"


def test_what_is_read_is_checked_and_stays_as_it_is() -> None:
    with pytest.raises(ValidationError):
        unknown_peer("ada").but(steps="many")
    with pytest.raises(ValidationError):
        unknown_peer("ada").steps = 3  # type: ignore[misc]
    assert PeerRecord.model_validate(HELD["peers"][0]).pid == "odd"  # type: ignore[comparison-overlap]

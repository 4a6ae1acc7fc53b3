"""A worker that comes to a run of another release ends, and says whose version is which."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import zmq
from commands import Command, free_pairs, write_roster

Start = Callable[..., Command]
FRAMES_V2 = Path(__file__).parents[1] / "golden" / "frames-v2.json"


def test_a_worker_that_meets_an_older_process_of_wire_version_2_ends_and_says_so(start: Start, tmp_path: Path) -> None:
    ports = free_pairs(2)
    write_roster(tmp_path / "two.toml", ["ada", "bo"], ports)
    (greeting,) = json.loads(FRAMES_V2.read_text())["greeting"]  # of ada to bo
    context = zmq.Context()
    try:
        ada = context.socket(zmq.DEALER)
        ada.setsockopt(zmq.LINGER, 0)
        ada.connect(f"tcp://127.0.0.1:{ports[1]}")
        ada.send(bytes.fromhex(greeting))
        bo = start("worker", "--name", "bo", "--peers", "two.toml", "--task", "logistic", "--strategy", "sgp")
        assert bo.end() == 3, bo.err
    finally:
        context.destroy(linger=0)
    bo.expect("^gossipdistill: ada speaks wire version 2 and bo 3: install the same gossipdistill on both", 0)
    assert "Traceback" not in bo.err

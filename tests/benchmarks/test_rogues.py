"""Insiders and floods of the benchmark of rogues, at a hundredth of their size: beside each, two peers go on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.rogue_reset import attempt
from benchmarks.rogues.__main__ import NOBODY, faults, table
from benchmarks.rogues.cast import Target
from benchmarks.rogues.floods import FLOODS
from benchmarks.rogues.insiders import INSIDERS, Absorber, Insider
from benchmarks.rogues.stage import ROGUES, Seen
from gossipdistill.presence import Address
from tests.drivers.harness import LIMITS, Node, exchange_works, free_address, wait_until

ACT_S = 0.3
HONEST = Seen(1.0, 1.0, 1.0, 0, 0, [143, 143], 0.5, 2.5, 0.7, {}, {})


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    """Two peers of an open run whose roster has a seat for eve."""
    roster = {name: free_address() for name in ("ada", "bo", "eve")}
    nodes = [Node(name, roster, limits=replace(LIMITS, handshake_timeout_s=0.5)) for name in ("ada", "bo")]
    try:
        wait_until(lambda: nodes[0].sees("bo") and nodes[1].sees("ada"))
        yield nodes[0], nodes[1]
    finally:
        for node in nodes:
            node.stop()
    assert [node.network.failure() for node in nodes] == [None, None]


@pytest.mark.parametrize("name", [*FLOODS, *INSIDERS])
def test_beside_each_of_them_two_peers_go_on(
    name: str, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.rogues.insiders._MODEL_WITHIN_S", 0.0)
    ada, bo = pair
    at, seat = ada.roster["ada"], ada.roster["eve"]
    target = Target(
        "ada", at.host, at.port, b"", {}, 0.01, places={"eve": (2, Address(*seat))}, fingerprint={"run": "test"}
    )
    rogue = ROGUES[name](target)
    if isinstance(rogue, Insider):
        rogue.boot = 5  # the peers of these tests began with 1: a far higher one is not believed
    rogue.prepare()
    if isinstance(rogue, Insider):
        wait_until(lambda: ada.sees("eve"))
    exchange_works(ada, bo, 1)
    acting = threading.Thread(target=rogue.act, args=(time.monotonic() + ACT_S,))
    acting.start()
    exchange_works(ada, bo, 2)
    acting.join(30)
    exchange_works(ada, bo, 3)
    assert rogue.done or isinstance(rogue, Absorber), "it did something"
    assert {"bo"} <= ada.mailbox.neighbourhood().alive


def test_a_ping_behind_a_full_queue_and_a_reset_end_nobody(pair: tuple[Node, Node]) -> None:
    """Of libzmq 4.3.5 one attempt in two ended the whole process."""
    ada, bo = pair
    at = ada.roster["ada"]
    for number in range(20):
        with contextlib.suppress(OSError):
            attempt((at.host, at.port + number % 2), None, None, 0.001, 40 if number % 2 else 700)
    exchange_works(ada, bo, 1)


def test_what_does_not_hold_is_named() -> None:
    assert faults("garbage", HONEST, HONEST) == []
    worse = replace(
        HONEST,
        pace=0.5,
        exchanges=float("nan"),
        grown_bytes=10**9,
        applied=1,
        exit_codes=[-6, 143],
        ended_within_s=9.0,
        accuracy=0.5,
    )
    assert faults("garbage", worse, HONEST) == [
        "exit codes [-6, 143]",
        "SIGTERM",
        "pace",
        "exchanges",
        "memory",
        "applied",
        "accuracy",
    ]
    assert faults("a model of noise", replace(HONEST, applied=9), HONEST) == []
    rows = table({NOBODY: {"open": HONEST}, "garbage": {"open": worse, "keyed": "no worker"}}, ["keyed", "open"])
    assert [row.rpartition(" | ")[2][:4] for row in rows[2:]] == ["PASS", "ERRO", "FAIL"]

"""What rogues of all kinds send to a peer with keys: nothing of it counts, its memory and files are its own again, and
it goes on exchanging. The same rogues at full size: `python -m benchmarks.rogues`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import zmq

from benchmarks.rogues.cast import CAST, Rogue, Target
from gossipdistill.drivers.overload.resources import connections
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.events import EventKind
from gossipdistill.presence import NOWHERE

from .harness import LIMITS, Node, exchange_works, free_address, wait_until

QUICK = replace(LIMITS, handshake_timeout_s=0.5, unread_bytes_max=4 << 20, guard_interval_s=0.02)
ACT_S = 0.4
Check = Callable[[Node], object]


def door(reason: str) -> Check:
    return lambda ada: ada.driver.sockets.zap_handler.turned_away[reason]  # type: ignore[union-attr]


def malformed(code: str) -> Check:
    return lambda ada: ada.driver.peer.unreadable.counts.get(code)


SHOWS: dict[str, Check] = {
    "wrong key": door("unknown_key"),
    "revoked key on an open connection": malformed("revoked"),
    "a giant header": malformed("size"),
    "a message without end": lambda ada: EventKind.CUT_OFF in ada.kinds("eve"),
    "another peer's name": malformed("sender"),
}
"""Where it is seen that a rogue was there; of the others libzmq says nothing."""
OF_EVE = {"a message without end": 100, "a replayed capture": 1_100_000}
"""What eve, who is allowed, may say honestly before the attack, in bytes."""


def incoming(ada: Node) -> int:
    """How many connections others have to its two ports."""
    ports = {ada.roster["ada"].port, ada.roster["ada"].data_port}
    return sum(one.port in ports and not one.listens for one in connections())


@pytest.mark.parametrize("name", CAST)
def test_nothing_of_it_counts_and_the_others_go_on(name: str, nodes: list[Node]) -> None:
    keys = {who: zmq.curve_keypair() for who in ("ada", "bo", "eve", "mallory")}
    roster = {"ada": free_address(), "bo": free_address(), "eve": NOWHERE, "mallory": NOWHERE}
    public = {who: pair[0] for who, pair in keys.items()}
    ada, bo = (Node(who, roster, limits=QUICK, curve=Curve(*keys[who], public)) for who in ("ada", "bo"))
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)
    before, heard = incoming(ada), len(ada.values("bo"))
    allowed = {who: keys[who] for who in ("eve", "mallory")}
    rogue: Rogue = CAST[name](Target("ada", "127.0.0.1", roster["ada"].port, public["ada"], allowed, scale=0.05))
    rogue.prepare()
    if name.startswith("revoked"):
        # All of it, on both connections: one that is not open yet when the key is revoked would be turned away.
        wait_until(lambda: (of_it := ada.driver.traffic.get("mallory")) and of_it.bytes_received >= rogue.done["bytes"])
        for node in ada, bo:
            node.network.trust({who: key.decode() for who, key in public.items() if who != "mallory"})
        wait_until(lambda: "mallory" not in ada.driver.curve.server_keys)  # type: ignore[union-attr]
    said = {who: ada.driver.traffic[who].bytes_received for who in allowed if who in ada.driver.traffic}
    acting = threading.Thread(target=rogue.act, args=(time.monotonic() + ACT_S,))
    acting.start()
    exchange_works(ada, bo, 2)
    acting.join(30)
    assert not acting.is_alive()
    exchange_works(ada, bo, 3)
    if name in SHOWS:
        wait_until(lambda: SHOWS[name](ada))
    assert [one.peer for one in ada.got] == ["bo"] * (heard + 2)
    for who in allowed:
        heard_of_it = ada.driver.traffic[who].bytes_received if who in ada.driver.traffic else 0
        assert heard_of_it - said.get(who, 0) <= OF_EVE.get(name, 0), who
    assert not ada.mailbox.neighbourhood().done
    wait_until(lambda: incoming(ada) <= before)  # who has not shaken hands is gone

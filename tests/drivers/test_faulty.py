"""What a process sends, bent by a plan, up to the door of its sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gossipdistill.drivers import faulty
from gossipdistill.drivers.faulty import Corrupt, FaultySender, Flip
from gossipdistill.faults import FaultPlan, LinkFaults
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, Envelope, Transmit
from gossipdistill.presence import Address

HOME = Address("127.0.0.1", 7402)


def transmit(number: int, to: str = "bo") -> Transmit:
    return Transmit(HOME, Envelope(PeerName("ada"), Boot(1), PeerName(to), Boot(2), Confirm("x", "", number)))


class Sockets:
    """Takes what is put, and notes it."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, bool, bool]] = []

    def put(self, transmit: Transmit, late: bool = False, corrupt: Corrupt | None = None) -> None:
        message = transmit.envelope.message
        assert isinstance(message, Confirm)
        self.taken.append((message.number, late, corrupt is not None))


def sender(*faults: dict[str, Any], at_s: float = 1.0) -> FaultySender:
    plan = FaultPlan.model_validate({"fault": list(faults)})
    return FaultySender(LinkFaults(plan, ["ada", "bo"]), lambda: at_s, {HOME: "bo"})


def test_what_no_fault_hits_passes_at_once() -> None:
    sockets, drop = Sockets(), {"kind": "drop", "peer": "bo", "probability": 1, "from_s": 2}
    sender(drop, at_s=-1.0).send(transmit(1), sockets.put)
    sender(drop).send(transmit(2), sockets.put)
    assert sockets.taken == [(1, False, False), (2, False, False)]


def test_a_greeting_to_an_address_is_a_message_to_who_listens_there() -> None:
    sockets = Sockets()
    cut = sender({"kind": "one_way", "link": ["ada", "bo"]})
    cut.send(transmit(1, to=""), sockets.put)
    assert sockets.taken == []
    assert cut.links.fired == {"one_way": 1}


def test_a_second_copy_is_never_told_to_the_protocol() -> None:
    sockets = Sockets()
    sender({"kind": "duplicate", "peer": "bo", "probability": 1, "seconds": 0}).send(transmit(1), sockets.put)
    assert sockets.taken == [(1, False, False), (1, True, False)]


def test_what_is_late_comes_late_and_in_its_own_order() -> None:
    async def scene() -> list[tuple[int, bool, bool]]:
        sockets = Sockets()
        held = sender({"kind": "delay", "peer": "bo", "seconds": 0.02})
        held.send(transmit(1), sockets.put)
        assert sockets.taken == []
        sender({"kind": "corrupt", "peer": "bo", "probability": 1}).send(transmit(2), sockets.put)
        await asyncio.wait_for(until(lambda: len(sockets.taken) == 2), 5)
        return sockets.taken

    async def until(holds: Any) -> None:
        while not holds():
            await asyncio.sleep(0)

    assert asyncio.run(scene()) == [(2, False, True), (1, True, False)]


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(count: int) -> int:
        held = sender({"kind": "delay", "peer": "bo", "seconds": 60})
        for number in range(count):
            held.send(transmit(number), Sockets().put)
        return held.overflowed

    assert asyncio.run(scene(faulty.HELD_MESSAGES_MAX + 3)) == 3
    monkeypatch.setattr(faulty, "HELD_BYTES_MAX", 1000)
    assert asyncio.run(scene(10)) == 2


def test_flip_changes_one_bit_of_a_copy() -> None:
    frames: list[bytes | memoryview] = [b"head", memoryview(b"a longer body"), b""]
    whole = b"".join(frames)
    outcomes = {b"".join(Flip(str(seed))(frames)) for seed in range(200)}
    assert b"".join(frames) == whole
    assert len(outcomes) > 50
    for spoilt in outcomes:
        assert sum((a ^ b).bit_count() for a, b in zip(whole, spoilt, strict=True)) == 1
    assert Flip("7")(frames) == Flip("7")(frames)

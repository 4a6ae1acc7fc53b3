"""What a process sends, bent by a plan, up to the door of its sockets."""

from __future__ import annotations

from typing import Any

import pytest

from gossipdistill.drivers.zeromq import faulty
from gossipdistill.drivers.zeromq.faulty import Copy, FaultySender, Flip
from gossipdistill.faults import FaultPlan, LinkFaults
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Confirm, Envelope, Transmit
from gossipdistill.presence import Address

from .harness import Node, exchange_works, free_address, wait_until

HOME = Address("127.0.0.1", 7402)


def transmit(number: int, to: str = "bo") -> Transmit:
    return Transmit(HOME, Envelope(PeerName("ada"), Boot(1), PeerName(to), Boot(2), Confirm("x", "", number)))


def seen(copies: list[Copy]) -> list[tuple[float, bool, bool]]:
    """Of each copy its delay, whether the protocol is not told, and whether a bit is flipped."""
    return [(copy.delay_s, copy.late, copy.flip is not None) for copy in copies]


def sender(*faults: dict[str, Any], at_s: float = 1.0) -> FaultySender:
    plan = FaultPlan.model_validate({"fault": list(faults)})
    return FaultySender(LinkFaults(plan, ["ada", "bo"]), lambda: at_s, {HOME: "bo"})


def test_what_no_fault_hits_passes_at_once() -> None:
    drop = {"kind": "drop", "peer": "bo", "probability": 1, "from_s": 2}
    assert seen(sender(drop, at_s=-1.0).copies(transmit(1))) == [(0, False, False)]
    assert seen(sender(drop).copies(transmit(2))) == [(0, False, False)]


def test_a_greeting_to_an_address_is_a_message_to_who_listens_there() -> None:
    cut = sender({"kind": "one_way", "link": ["ada", "bo"]})
    assert cut.copies(transmit(1, to="")) == []
    assert cut.links.fired == {"one_way": 1}


def test_a_second_copy_is_never_told_to_the_protocol() -> None:
    twice = sender({"kind": "duplicate", "peer": "bo", "probability": 1, "seconds": 0})
    assert seen(twice.copies(transmit(1))) == [(0, False, False), (0, True, False)]


def test_what_is_late_or_corrupt_is_said_so() -> None:
    assert seen(sender({"kind": "delay", "peer": "bo", "seconds": 0.02}).copies(transmit(1))) == [(0.02, True, False)]
    corrupt = sender({"kind": "corrupt", "peer": "bo", "probability": 1}).copies(transmit(2))
    assert seen(corrupt) == [(0, False, True)]


def test_what_is_under_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    held = sender({"kind": "delay", "peer": "bo", "seconds": 60})
    copies = [held.copies(transmit(number)) for number in range(faulty.HELD_MESSAGES_MAX + 3)]
    assert held.overflowed == 3
    assert copies[-3:] == [[], [], []]
    held.release(copies[0][0])
    assert held.copies(transmit(0))
    assert held.overflowed == 3, "there is room again"
    monkeypatch.setattr(faulty, "HELD_BYTES_MAX", 1000)
    small = sender({"kind": "delay", "peer": "bo", "seconds": 60})
    assert len([copy for number in range(10) for copy in small.copies(transmit(number))]) == 8
    assert small.overflowed == 2


def test_a_driver_hands_out_what_is_late_when_its_time_has_come(nodes: list[Node]) -> None:
    slow = sender(
        {"kind": "delay", "peer": "bo", "seconds": 0.02}, {"kind": "duplicate", "peer": "bo", "probability": 1}
    )
    roster = {"ada": free_address(), "bo": free_address()}
    ada, bo = made = [Node("ada", roster, faults=slow), Node("bo", roster)]
    nodes += made
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)
    assert slow.links.fired["delay"] > 0
    assert slow.overflowed == 0


def test_flip_changes_one_bit_of_a_copy() -> None:
    frames: list[bytes | memoryview] = [b"head", memoryview(b"a longer body"), b""]
    whole = b"".join(frames)
    outcomes = {b"".join(Flip(str(seed)).flipped(frames)) for seed in range(200)}
    assert b"".join(frames) == whole
    assert len(outcomes) > 50
    for spoilt in outcomes:
        assert sum((a ^ b).bit_count() for a, b in zip(whole, spoilt, strict=True)) == 1
    assert Flip("7").flipped(frames) == Flip("7").flipped(frames)

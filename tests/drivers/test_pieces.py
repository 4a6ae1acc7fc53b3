"""Large bodies over real sockets: whole at the other end, fair to others, bounded in memory beside a slow reader."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.readable_sockets import ReadableSocket
from gossipdistill.ids import PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    ArrayLayout,
    Arrival,
    Content,
    DeliveryClass,
    Mode,
    Parcel,
    Payload,
    Received,
    Settlement,
)

from .harness import LIMITS, Node, free_address, pair, wait_until

MIB = 1 << 20


def body_of(size: int, seed: int) -> bytes:
    """Bytes of which no two pieces are alike."""
    return random.Random(seed).randbytes(size)


def parcel(to: str, size: int, seed: int, delivery: DeliveryClass, topic: str = "x", **more: Any) -> Parcel:
    payload = Payload((ArrayLayout("x", (size,), "raw", size),), body_of(size, seed))
    return Parcel((PeerName(to),), Content(topic, payload, seed, seed, delivery=delivery), **more)


def arrivals(node: Node) -> list[Received]:
    for one in node.mailbox.take():
        node.got.append(one)
        if one.delivery is not DeliveryClass.STATE and isinstance(one, Arrival):
            node.mailbox.settle([Settlement(one.sender, one.topic, one.version, absorbed=True)])
    return node.got


def data_inlets(node: Node) -> list[ReadableSocket]:
    return [readable for readable in list(node.driver.readable.by_socket.values()) if readable.channel is Channel.DATA]


@pytest.mark.parametrize("mode", list(Mode))
def test_large_states_come_whole(mode: Mode, nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    size = 3 * LIMITS.piece_bytes_max + 8
    for seed in range(1, 4):
        ada.mailbox.post(parcel("bo", size, seed, DeliveryClass.STATE, mode=mode))
        wait_until(lambda s=seed: [one.step for one in arrivals(bo)] == list(range(1, s + 1)))
    assert [bytes(one.payload.body) == body_of(size, one.step) for one in bo.got] == [True] * 3
    ada.stop()
    bo.stop()
    assert ada.driver.traffic["bo"].messages_sent == bo.driver.traffic["ada"].messages_received == 3
    assert bo.driver.traffic["ada"].bytes_received > 3 * size


def test_all_classes_flow_at_once_and_both_ways(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    size = 4 * LIMITS.piece_bytes_max
    for one, other in (ada, "bo"), (bo, "ada"):
        for topic, delivery in ("s", DeliveryClass.STATE), ("m", DeliveryClass.MASS), ("r", DeliveryClass.STREAM):
            assert one.mailbox.post(parcel(other, size, 1, delivery, topic))
        assert one.mailbox.post(parcel(other, size, 2, DeliveryClass.STREAM, "r"))
    for node in ada, bo:
        wait_until(lambda n=node: len(arrivals(n)) == 4)
        assert sorted((one.topic, one.step) for one in node.got) == [("m", 1), ("r", 1), ("r", 2), ("s", 1)]
        assert all(one.payload.body == body_of(size, one.step) for one in node.got)
    for node in ada, bo:
        for topic, delivery in ("m", DeliveryClass.MASS), ("r", DeliveryClass.STREAM):
            wait_until(lambda n=node, t=topic, d=delivery: not n.mailbox.room.busy(t, d))


def test_a_slow_reader_costs_a_bounded_number_of_bytes_and_others_keep_their_pace(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bo` reads nothing from its data sockets any more, neither from those who dialled it nor from whom it dialled.
    What leaves `ada` for it is bounded, since `bo` pauses the connection, what it keeps is the one body in transfer,
    and `cy` gets everything."""
    monkeypatch.setattr("gossipdistill.drivers.zeromq.knocks._LOOKING_SHARE", 1.0)
    size = 10 * MIB
    # Made before anything is sent: that holds Python's lock for half a second, in which no loop here has a turn.
    for_bo = [parcel("bo", 12 * size, 0, *what) for what in ((DeliveryClass.STATE, "s"), (DeliveryClass.MASS, "m"))]
    for_cy = [parcel("cy", size, seed, DeliveryClass.STATE, "s", mode=Mode.PULL) for seed in range(1, 6)]
    limits = Limits(
        probe_interval_s=0.25,
        probe_timeout_s=0.1,
        blocked_after_s=30,
        greet_interval_s=0.02,
        greet_interval_max_s=0.1,
        confirm_timeout_s=0.5,
        flush_s=0.05,
        data_buffer_bytes=256 * 1024,
        piece_bytes_max=MIB,
        unread_bytes_max=8 * MIB,
        guard_interval_s=0.005,
        paused_s_max=30,
    )
    roster = {name: free_address() for name in ("ada", "bo", "cy")}
    # `cy` reads: where its loop has few turns it has no reason to pause a connection either.
    patient = replace(limits, unread_bytes_max=Limits().unread_bytes_max)
    ada, bo, cy = made = [Node(name, roster, limits=patient if name == "cy" else limits) for name in roster]
    nodes += made
    wait_until(lambda: ada.sees("bo", "cy") and bo.sees("ada") and cy.sees("ada"))
    values, link = itertools.count(1), ada.driver.links.by_place[roster["bo"], ""]
    # Until its own link is up, the first body would go the way back, and stay on it.
    wait_until(lambda: ada.post(next(values), "bo") or link.took_s[Channel.DATA] > float("-inf"))
    inlets = data_inlets(bo)
    for readable in inlets:
        bo.network.call(bo.driver.readable.leave, [readable.socket])
    wait_until(lambda: not data_inlets(bo))
    before_bytes = ada.driver.traffic["bo"].bytes_sent
    for large in for_bo:
        ada.mailbox.post(large)
    for seed, large in enumerate(for_cy, start=1):
        ada.mailbox.post(large)
        wait_until(lambda s=seed: [one.step for one in arrivals(cy)] == list(range(1, s + 1)))
        ada.mailbox.post(parcel("bo", 24, seed, DeliveryClass.STATE, "s"))
    in_transfer = ada.driver.egress.scheduler.lanes["bo"]
    assert 1 <= len(in_transfer.transfers) <= 2
    assert not in_transfer.waiting
    queues = 2 * (limits.data_messages_queued_max + 2) * limits.piece_bytes_max
    between_looks = 24 * MIB
    assert 0 < ada.driver.traffic["bo"].bytes_sent - before_bytes < queues + limits.unread_bytes_max + between_looks
    assert ada.sees("bo"), "a slow reader is alive all the same"
    for readable in inlets:
        bo.network.call(bo.driver.readable.listen_to, readable)
    wait_until(lambda: ("s", 5) in {(one.topic, one.step) for one in arrivals(bo)})
    # What its sockets did not take at all was returned meanwhile; what they took the first piece of arrives.
    wait_until(lambda: [one.topic for one in (*arrivals(bo), *arrivals(ada)) if one.topic == "m"] == ["m"])

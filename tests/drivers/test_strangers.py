"""What strangers may send and claim on real sockets: it is counted and said, and the others are served."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import msgpack
import pytest
import zmq

from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import Envelope
from gossipdistill.presence import NOWHERE, Address, Greeting, Ping
from gossipdistill.wire.codec import WIRE_VERSION, encode

from .harness import (
    LIMITS,
    Node,
    Stranger,
    exchange_works,
    free_address,
    pair,
    wait_until,
)


@pytest.mark.parametrize("data", [False, True], ids=["control", "data"])
def test_rubbish_is_counted_said_once_and_hurts_nobody(data: bool, nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    good = encode(Envelope(PeerName("mallory"), Boot(7), "ada", 0, Ping(0, 1, False)))[0]
    with Stranger(ada.roster["ada"], "mallory/7", data) as mallory:
        mallory.say(good)
        for _ in range(20):
            mallory.say(b"\x00\x01 rubbish")
            mallory.say(good[:-1])
            mallory.say(good, good, good)
            mallory.say(b"")
            mallory.say(msgpack.packb([WIRE_VERSION, 99, "mallory", 7, "ada", 0]))
            mallory.say(b"\x98\x03" + b"\x91" * 1020 + b"\xc0\xa3ada\x01\xa0\x00\x01\xc2")
        wait_until(lambda: sum(ada.driver.peer.unreadable.counts.values()) == 120)
    exchange_works(ada, bo, 1)
    assert ada.kinds("mallory").count(EventKind.MALFORMED) == len(ada.driver.peer.unreadable.counts)
    assert "mallory" not in ada.driver.traffic


def test_a_name_that_the_connection_does_not_have_is_not_believed(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    leave = encode(Envelope(PeerName("bo"), Boot(1), "ada", 1, Ping(0, 99, True)))
    for name, boot in ("mallory", 1), ("bo", 2):
        # Until `ada` sees the first connection end, it drops what comes on another of the same identity.
        with Stranger(ada.roster["ada"], f"whatever/{name}") as mallory:
            before = ada.driver.peer.unreadable.counts.get("sender", 0)
            mallory.say(*encode(Envelope(PeerName(name), Boot(boot), "ada", 1, Ping(0, 99, False))))
            mallory.say(*leave)
            wait_until(lambda b=before: ada.driver.peer.unreadable.counts.get("sender", 0) > b)
    assert "bo" not in ada.mailbox.neighbourhood().done
    exchange_works(ada, bo, 1)


def speaks(name: str, version: int) -> str:
    return f"{name} speaks wire version {version} and ada {WIRE_VERSION}: install the same gossipdistill on both"


@pytest.mark.parametrize("version", [WIRE_VERSION - 1, WIRE_VERSION + 1])
def test_another_wire_version_is_refused_with_an_event_and_told_in_its_own(version: int, nodes: list[Node]) -> None:
    roster = {"ada": free_address(), "bo": free_address()}
    ada = Node("ada", roster)
    nodes.append(ada)
    context = zmq.Context()
    with context, context.socket(zmq.ROUTER) as theirs:
        theirs.setsockopt(zmq.LINGER, 0)
        theirs.bind(f"tcp://{roster['bo']}")
        with Stranger(roster["ada"], "bo/5") as bo:
            for _ in range(3):
                bo.say(msgpack.packb([version, 1, "bo", 5, "ada", 0, "fields of another version"]))
            wait_until(lambda: ada.driver.peer.unreadable.counts.get("version") == 3)
            wait_until(lambda: ada.kinds("bo"))  # counted a little before it is told
            assert [(event.kind, event.reason) for event in ada.events() if event.peer == "bo"] == [
                (EventKind.REFUSED, speaks("bo", version))
            ]
            heads: list[Any] = []

            def told() -> bool:  # the first refusal may have found no connection yet
                bo.say(msgpack.packb([version, 1, "bo", 5, "ada", 0]))
                if theirs.poll(20):
                    heads.append(msgpack.unpackb(theirs.recv_multipart()[1]))
                return any(head[1] == 3 for head in heads)

            wait_until(told)
            assert ada.kinds("bo") == [EventKind.REFUSED]
    refusal = ["wire_version", speaks("bo", version), "", WIRE_VERSION]
    assert heads[-1] == [version, 3, "ada", 1, "bo", 5, *refusal]


@pytest.mark.parametrize("name", ["cy", "zed"])
def test_another_wire_version_of_one_that_nobody_can_dial_is_answered_where_it_called(
    name: str, nodes: list[Node]
) -> None:
    """`cy` is of the roster and listens nowhere; of `zed` nothing is known."""
    ada = Node("ada", {"ada": free_address(), "cy": NOWHERE})
    nodes.append(ada)
    with Stranger(ada.roster["ada"], "whatever") as caller:
        caller.say(msgpack.packb([2, 1, name, 5, "ada", 0, "fields of version 2"]))
        assert caller.socket.poll(8000)
        assert msgpack.unpackb(caller.socket.recv()) == [
            2,
            3,
            "ada",
            1,
            name,
            5,
            "wire_version",
            speaks(name, 2),
            "",
            WIRE_VERSION,
        ]
    wait_until(lambda: ada.kinds(name) == [EventKind.REFUSED])


def test_a_frame_beyond_the_limit_is_refused_by_the_socket(nodes: list[Node]) -> None:
    limits = Limits(piece_bytes_max=1 << 20, control_bytes_max=4096, flush_s=0.05)
    ada, bo = pair(nodes, limits=limits)
    for data, size in (False, 5000), (True, (1 << 20) + 257):
        with Stranger(ada.roster["ada"], "mallory/7", data) as mallory:
            monitor = mallory.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            mallory.say(b"x" * size)
            assert monitor.poll(5000), "the connection is cut"
            mallory.socket.disable_monitor()
    exchange_works(ada, bo, 1)
    assert ada.driver.peer.unreadable.counts == {}


@pytest.mark.parametrize(
    "host",
    ["a..b", "x" * 100 + ".example", "::1%nosuch", "fe80::1%lo", "300.1.1.1", ":::::", "%", "0.0.0.0", "224.0.0.1"],
)
def test_a_peer_may_claim_any_address(host: str, nodes: list[Node]) -> None:
    """What it claims goes to a resolver and a socket; whatever they think of it, the others are served."""
    roster = {"ada": free_address(), "bo": free_address(), "eve": free_address()}
    ada, bo = Node("ada", roster), Node("bo", roster)
    nodes += [ada, bo]
    greeting = Greeting(Address(host, 65534), 2, {"run": "test"}, (), True)
    with Stranger(roster["ada"], "eve/5") as eve:
        eve.say(*encode(Envelope(PeerName("eve"), Boot(5), "ada", 0, greeting)))
        wait_until(lambda: ada.sees("bo", "eve") and bo.sees("ada"))
        exchange_works(ada, bo, 1)


def test_links_to_strangers_and_to_former_addresses_are_few(nodes: list[Node]) -> None:
    roster = {"ada": free_address(), "bo": free_address(), "eve": free_address()}
    ada, bo = Node("ada", roster), Node("bo", roster)
    nodes += [ada, bo]
    with Stranger(roster["ada"], "eve/5") as eve, Stranger(roster["ada"], "zed/5") as zed:
        for number in range(50):  # of a member 64 greetings at once are heard
            for who, socket_ in ("eve", eve), ("zed", zed):
                greeting = Greeting(Address("127.0.0.1", 1 + number), 2, {"run": "test"}, (), True)
                socket_.say(*encode(Envelope(PeerName(who), Boot(5), "ada", 0, greeting)))
        wait_until(lambda: ada.driver.peer.table.address_of("eve") == Address("127.0.0.1", 50))
        wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
        exchange_works(ada, bo, 1)
    assert len(ada.driver.links.by_place) <= 2 + LIMITS.stranger_links_max
    assert ada.kinds("zed") == [EventKind.REFUSED]
    assert "zed" not in ada.driver.traffic


@pytest.mark.parametrize(
    "greeting", [b"\x01\x00", b"\xff" + bytes(8) + b"\x7f\x00\x05", b"\xff" + bytes(8) + b"\x7f\x01\x05"]
)
def test_who_speaks_an_early_zmtp_is_not_listened_to(greeting: bytes, nodes: list[Node]) -> None:
    """libzmq says of such a message not on which connection it came, and can be ended by such a greeting."""
    ada, bo = pair(nodes)
    for data in False, True:
        at = ada.roster["ada"]
        with socket.create_connection((at.host, at.port + data), 5) as eve:
            with contextlib.suppress(OSError):
                eve.sendall(greeting + b"\x00\x00" + b"\x05\x00what" * 3)  # nobody's name, and three messages
                while eve.recv(64):
                    pass
            exchange_works(ada, bo, 1 + data)
    assert not ada.driver.peer.unreadable.counts

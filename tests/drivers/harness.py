"""Peers and strangers on real sockets of the loopback, and waiting for a condition."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from gossipdistill.drivers.network_thread import NetworkThread, new_event_loop
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.errors import AddressError
from gossipdistill.events import Event, EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import ArrayLayout, Content, Mode, Parcel, Payload, Received
from gossipdistill.presence import NOWHERE, Address, Contact
from gossipdistill.protocol.enrolment import Book
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer

LIMITS = Limits(
    probe_interval_s=0.25,
    probe_timeout_s=0.1,
    greet_interval_s=0.02,
    greet_interval_max_s=0.1,
    confirm_timeout_s=0.5,
    flush_s=0.05,
)
DEADLINE_S = 60.0
"""A test that passes waits a small part of it, also where other processes take most of the processor."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
_given_out: set[int] = set()


def free_address(host: str = "127.0.0.1") -> Address:
    """Two neighbouring ports that nobody listens on."""
    while True:
        with socket.socket() as control, socket.socket() as data:
            control.bind(("127.0.0.1", 0))
            port = control.getsockname()[1]
            if port in _given_out or port > 65533:
                continue
            try:
                data.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
        _given_out.update((port, port + 1))
        return Address(host, port)


def wait_until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """What `condition` returns once it is true."""
    pause, end_s = threading.Event(), time.monotonic() + deadline_s
    while not (answer := condition()):
        assert time.monotonic() < end_s, "it did not come to pass in time"
        pause.wait(0.005)
    return answer


class Node:
    """One peer on real sockets, as a worker process holds it."""

    def __init__(
        self,
        name: str,
        roster: dict[str, Address],
        boot: int = 1,
        loop: LoopFactory = new_event_loop,
        limits: Limits = LIMITS,
        listen: Address | None = None,
        fingerprint: dict[str, str] | None = None,
        book: Book | None = None,
        **options: Any,
    ) -> None:
        self.name, self.roster = name, roster
        self.seen: list[Event] = []
        self.got: list[Received] = []
        contacts = [Contact(PeerName(n), address, place) for place, (n, address) in enumerate(roster.items())]
        me = Identity(
            PeerName(name), Boot(boot), roster[name], list(roster).index(name), fingerprint or {"run": "test"}
        )
        peer = Peer(me, len(roster), contacts, now=time.monotonic(), limits=limits)
        peer.key_distribution.book = book
        self.network = NetworkThread(loop)
        self.mailbox = self.network.mailbox
        bound = listen if listen is not None else roster[name]
        self.driver = Driver(peer, self.mailbox, bound, limits, time.monotonic, **options)
        try:
            self.driver.bind()
        except AddressError:
            self.network.stop("never started")
            raise
        self.network.start(self.driver)

    def post(self, value: int, to: str, mode: Mode = Mode.PUSH, size: int = 8) -> None:
        body = value.to_bytes(4, "big") * (size // 4)
        content = Payload((ArrayLayout("x", (size // 4,), "raw", len(body)),), body)
        self.mailbox.post(Parcel((PeerName(to),), Content("x", content, value, value), mode))

    def events(self) -> list[Event]:
        self.seen += self.mailbox.drain_events()
        return self.seen

    def kinds(self, about: str) -> list[EventKind]:
        return [event.kind for event in self.events() if event.peer == about]

    def values(self, sender: str) -> list[int]:
        self.got += self.mailbox.take()
        return [int.from_bytes(bytes(one.payload.body[:4]), "big") for one in self.got if one.peer == sender]

    def sees(self, *others: str) -> bool:
        return set(others) <= self.mailbox.neighbourhood().alive

    def stop(self, reason: str = "finished") -> None:
        self.network.stop(reason)


def uv_loop() -> asyncio.AbstractEventLoop:
    return pytest.importorskip("uvloop").new_event_loop()  # type: ignore[no-any-return]


def trio(nodes: list[Node], **options: Any) -> tuple[Node, Node, Node]:
    """Two that listen, and `cy`, whom nobody can reach."""
    roster = {"ada": free_address(), "bo": free_address(), "cy": NOWHERE}
    ada, bo, cy = made = [Node(name, roster, **options) for name in roster]
    nodes += made
    wait_until(lambda: ada.sees("bo", "cy") and bo.sees("ada", "cy") and cy.sees("ada", "bo"))
    return ada, bo, cy


def pair(nodes: list[Node], **options: Any) -> tuple[Node, Node]:
    roster = {"ada": free_address(), "bo": free_address()}
    ada, bo = Node("ada", roster, **options), Node("bo", roster, **options)
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    return ada, bo


class Stranger:
    """A raw ZeroMQ socket that says what it likes."""

    def __init__(self, address: Address, identity: str, data: bool = False) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, identity.encode())
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDTIMEO, 2000)
        self.socket.connect(f"tcp://{address._replace(port=address.port + data)}")

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def say(self, *frames: Any) -> None:
        self.socket.send_multipart(frames)


def exchange_works(one: Node, other: Node, value: int) -> None:
    one.post(value, other.name)
    other.post(value, one.name, Mode.PULL)
    wait_until(lambda: other.values(one.name)[-1:] == [value] and one.values(other.name)[-1:] == [value])

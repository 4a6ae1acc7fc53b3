"""A connection that breaks inside a large body: the body is begun again at once, not when its time is over."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

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
    Returned,
    arrivals_of,
)
from gossipdistill.presence import NOWHERE, Address
from gossipdistill.protocol.members import Status

from .harness import Node, free_address, wait_until

PIECE_BYTES = 256 * 1024
BODY_BYTES = 30 * PIECE_BYTES
LIMITS = Limits(
    probe_interval_s=0.25,
    probe_timeout_s=0.1,
    greet_interval_s=0.02,
    greet_interval_max_s=0.1,
    flush_s=0.05,
    piece_bytes_max=PIECE_BYTES,
    data_buffer_bytes=128 * 1024,
    confirm_bytes_per_s=1e5,
)
"""Patience with a body of this size: 78 s, ten times as long as the test waits."""
BODY = bytes(range(256)) * (BODY_BYTES // 256)


class Relay:
    """Passes on the bytes of every connection made to `at`, to `to`; and once, when `cut_after` bytes have gone that
    way on one connection, it swallows the rest up to `swallowed` more, and breaks that connection."""

    def __init__(self, at: Address, to: Address, backwards: bool = False) -> None:
        self.to, self.backwards = to, backwards
        self.cut_after: int | None = None
        self.swallowed = 0
        self.passed = 0
        self.cuts = 0
        self._listener = socket.create_server((at.host, at.port))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            _break(end)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = self._listener.accept()
                self._open.append(theirs)
                try:
                    mine = socket.create_connection((self.to.host, self.to.port))
                except OSError:  # nobody is there yet
                    _break(theirs)
                    continue
                self._open.append(mine)
                for source, sink, watched in (theirs, mine, not self.backwards), (mine, theirs, self.backwards):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink, watched), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, watched: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                passed += len(block)
                if watched and self.cut_after is not None and passed > self.cut_after:
                    if passed <= self.cut_after + self.swallowed:
                        continue
                    self.cut_after, self.cuts = None, self.cuts + 1
                    break
                sink.sendall(block)
                self.passed += len(block) if watched else 0
        _break(source)
        _break(sink)


def _break(end: socket.socket) -> None:
    """Reset, as when a machine on the way has forgotten the connection."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def through_relays(at: Address, to: Address, backwards: bool = False) -> list[Relay]:
    """Control and data, each through a relay of its own."""
    return [Relay(at._replace(port=at.port + n), to._replace(port=to.port + n), backwards) for n in (0, 1)]


@pytest.fixture
def relays() -> Iterator[list[Relay]]:
    made: list[Relay] = []
    yield made
    for relay in made:
        relay.close()


def send(node: Node, to: str, number: int, delivery: DeliveryClass, mode: Mode) -> None:
    payload = Payload((ArrayLayout("x", (BODY_BYTES,), "raw", BODY_BYTES),), BODY)
    content = Content("x", payload, number, number, "", delivery, weight=1.0)
    assert node.mailbox.post(Parcel((PeerName(to),), content, mode))


def received(sender: Node, reader: Node, delivery: DeliveryClass, mode: Mode) -> list[Arrival]:
    """What has come. Mass may be returned instead, if the way was broken for longer than it is offered: once more."""
    if any(isinstance(one, Returned) for one in sender.mailbox.take()):
        send(sender, reader.name, 1, delivery, mode)
    return arrivals_of(reader.mailbox.take())


def until_it_flows(sender: Node, reader: Node, relay: Relay) -> None:
    """Small states until one has come through this relay: before, a link may not be connected, and another way taken.
    Handshakes have some 200 bytes."""
    numbers = itertools.count(1)
    while relay.passed < 4096:
        number = next(numbers)
        sender.post(number, reader.name, size=4096)
        wait_until(lambda n=number: reader.values(sender.name)[-1:] == [n])


KINDS = pytest.mark.parametrize(
    ("delivery", "mode"),
    [
        (DeliveryClass.STATE, Mode.PUSH),
        (DeliveryClass.STATE, Mode.PULL),
        (DeliveryClass.MASS, Mode.PUSH),
        (DeliveryClass.STREAM, Mode.PUSH),
    ],
)


@KINDS
@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_body_is_begun_again_when_its_connection_breaks(
    where: str, delivery: DeliveryClass, mode: Mode, nodes: list[Node], relays: list[Relay]
) -> None:
    """In the middle, or when the writer had handed over the last piece, which is then lost in queues."""
    roster = {"ada": free_address(), "bo": free_address()}
    inside = free_address()
    relays += through_relays(roster["bo"], inside)
    ada, bo = Node("ada", roster, limits=LIMITS), Node("bo", roster, limits=LIMITS, listen=inside)
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    data = relays[1]
    until_it_flows(ada, bo, data)
    data.cut_after = BODY_BYTES // 2
    data.swallowed = 0 if where == "middle" else BODY_BYTES // 2
    send(ada, "bo", 1, delivery, mode)
    (arrival,) = wait_until(lambda: received(ada, bo, delivery, mode))
    assert arrival.payload.body == BODY
    assert data.cuts == 1
    assert ada.driver.peer.view.status_of(PeerName("bo")) is Status.ALIVE


@KINDS
def test_a_body_on_the_way_back_is_begun_again_when_its_connection_breaks(
    delivery: DeliveryClass, mode: Mode, nodes: list[Node], relays: list[Relay]
) -> None:
    """`cy` listens nowhere and is answered through the connection that it opened."""
    inside, outside = free_address(), free_address()
    relays += through_relays(outside, inside, backwards=True)
    roster = {"bo": outside, "cy": NOWHERE}
    bo, cy = Node("bo", roster, limits=LIMITS, listen=inside), Node("cy", roster, limits=LIMITS)
    nodes += [bo, cy]
    wait_until(lambda: bo.sees("cy") and cy.sees("bo"))
    data = relays[1]
    until_it_flows(bo, cy, data)
    data.cut_after = BODY_BYTES // 2
    send(bo, "cy", 1, delivery, mode)
    (arrival,) = wait_until(lambda: received(bo, cy, delivery, mode))
    assert arrival.payload.body == BODY
    assert data.cuts == 1

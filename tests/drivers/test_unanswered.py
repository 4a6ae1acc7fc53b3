"""Of an address that is dialled in vain it is said what is wrong there, by name and since when."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import zmq

from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.zeromq import Driver, unanswered
from gossipdistill.drivers.zeromq.unanswered import why
from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName
from gossipdistill.presence import Address
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer

from .harness import LIMITS, Node, free_address, wait_until


@contextmanager
def serving(greeting: bytes) -> Iterator[Address]:
    """A program that greets each caller with these bytes and then hangs up, as a server of another protocol may."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(greeting)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield Address("127.0.0.1", server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
    thread.join(1.0)


@contextmanager
def listening(*ports: int) -> Iterator[None]:
    """ZeroMQ's ROUTERs at these ports of the loopback."""
    with zmq.Context() as context, ExitStack() as sockets:
        for port in ports:
            sockets.enter_context(context.socket(zmq.ROUTER)).bind(f"tcp://127.0.0.1:{port}")
        yield


def test_newcomer_13_a_closed_port_a_name_without_address_and_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing listens at this port (connection refused)" in asyncio.run(why(free_address()))
    for greeting in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        with serving(greeting) as address:
            assert "something listens there, but it is no gossipdistill" in asyncio.run(why(address))

    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("gossipdistill.drivers.zeromq.names.sockets.getaddrinfo", unknown)
    words = asyncio.run(why(Address("bo.lba", 7400)))
    assert words.startswith("the name bo.lba is not found (Name or service not known)")


def test_newcomer_13_a_program_that_waits_to_be_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unanswered, "_DIAL_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # as a web server does, it says nothing by itself
        assert "it is no gossipdistill" in asyncio.run(why(Address("127.0.0.1", server.getsockname()[1])))


def test_newcomer_13_the_data_port_instead_of_the_control_port() -> None:
    address = free_address()
    with listening(address.port, address.data_port):
        words = asyncio.run(why(address._replace(port=address.data_port)))
        assert f"the data port of the peer at {address}; give that address instead" in words
        assert "speaks ZeroMQ listens there, and does not greet" in asyncio.run(why(address))


def events_of(network: NetworkThread) -> list[str]:
    return [event.reason for event in network.mailbox.drain_events() if event.kind is EventKind.VIEW]


def test_newcomer_13_each_address_that_was_dialled_is_named_with_its_reason() -> None:
    limits = dataclasses.replace(LIMITS, view_after_s=0.2)
    here, nowhere = free_address(), free_address()
    with serving(b"SSH-2.0-OpenSSH\r\n") as other:
        me = Identity(PeerName("ada"), Boot(1), here, 0, {"run": "test"})
        peer = Peer(me, 3, seeds=[nowhere, other], closed=False, now=time.monotonic(), limits=limits)
        network = NetworkThread()
        driver = Driver(peer, network.mailbox, here, limits, time.monotonic)
        driver.bind()
        network.start(driver)
        said: list[str] = []
        try:
            wait_until(lambda: said.extend(events_of(network)) or sum("answered" in line for line in said) >= 2)
        finally:
            network.stop("finished")
    assert {line.split(": ")[0] for line in driver.unanswered()} == {
        f"nobody has answered at {address}" for address in (nowhere, other)
    }
    by_address = {line.split(" at ")[1].split(" for ")[0]: line for line in said if "answered" in line}
    assert by_address[str(nowhere)].startswith(
        f"nobody has answered at {nowhere} for 0 s: nothing listens at this port"
    )
    assert "it is no gossipdistill" in by_address[str(other)]


def test_who_has_answered_is_not_named_and_one_of_a_roster_is_named_by_name() -> None:
    limits = dataclasses.replace(LIMITS, view_after_s=0.4)
    roster = {name: free_address() for name in ("ada", "bo", "cy")}
    ada, bo = (Node(name, roster, limits=limits) for name in ("ada", "bo"))
    try:
        wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
        wait_until(lambda: any("not answered" in event.reason for event in ada.events()))
        said = [event.reason for event in ada.seen if "answered" in event.reason]
        assert [line.split(" for ")[0] for line in said] == [f"cy has not answered at {roster['cy']}"]
    finally:
        ada.stop()
        bo.stop()

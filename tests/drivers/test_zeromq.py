"""The driver on real sockets of the loopback: what a simulator cannot show. Each wait is for a condition."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from gossipdistill.errors import AddressError
from gossipdistill.events import EventKind
from gossipdistill.limits import Limits
from gossipdistill.messages import Mode
from gossipdistill.presence import Address

from .harness import (
    LIMITS,
    LoopFactory,
    Node,
    Stranger,
    exchange_works,
    free_address,
    pair,
    uv_loop,
    wait_until,
)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uv_loop], ids=["asyncio", "uvloop"])
def test_states_are_pushed_and_pulled_both_ways(loop: LoopFactory, nodes: list[Node]) -> None:
    ada, bo = pair(nodes, loop=loop)
    for value in range(1, 21):
        ada.post(value, "bo", Mode.PUSH)
        bo.post(value, "ada", Mode.PULL, size=300_000)
        wait_until(lambda v=value: bo.values("ada")[-1:] == [v] and ada.values("bo")[-1:] == [v])
    assert bo.values("ada") == list(range(1, 21))
    assert ada.got[-1].payload.nbytes == 300_000
    assert ada.driver.traffic["bo"].messages_received == bo.driver.traffic["ada"].messages_sent >= 20


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uv_loop], ids=["asyncio", "uvloop"])
def test_a_burst_of_more_than_a_turn_is_read_to_its_end(loop: LoopFactory, nodes: list[Node]) -> None:
    """The descriptor fires once for many messages: those after the first turn must not wait for the next one."""
    quiet = Limits(
        probe_interval_s=60,
        probe_timeout_s=30,
        greet_interval_s=60,
        greet_interval_max_s=60,
        view_after_s=200,
        flush_s=0.05,
        turn_messages_max=4,
    )
    address = free_address()
    ada = Node("ada", {"ada": address, "bo": free_address()}, loop=loop, limits=quiet)
    nodes.append(ada)
    with Stranger(address, "bo/5") as bo:
        for _ in range(200):
            bo.say(b"rubbish")
        wait_until(lambda: ada.driver.peer.unreadable.counts.get("not_msgpack", 0) == 200)


def test_bytes_are_counted_as_the_lengths_of_the_frames(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    for value in range(1, 6):
        ada.post(value, "bo", size=40_000)
        wait_until(lambda v=value: bo.values("ada")[-1:] == [v])
    ada.stop()
    bo.stop()
    sent, received = ada.driver.traffic["bo"], bo.driver.traffic["ada"]
    assert sent.messages_sent == received.messages_received == 5
    assert 5 * 40_000 < received.bytes_received <= sent.bytes_sent < 5 * 40_000 + 40_000
    assert sent.bytes_sent - received.bytes_received < 400  # the first greetings, before I was known, the last word


def test_an_address_in_use_is_an_error_that_names_it_and_leaves_nothing_open() -> None:
    for offset, what in (0, "control"), (1, "data"):
        address = free_address()
        with socket.socket() as other:
            other.bind((address.host, address.port + offset))
            other.listen()
            taken = f"{address.host}:{address.port + offset}"
            with pytest.raises(AddressError, match=f"cannot listen at {taken} for {what}.*in use"):
                Node("ada", {"ada": address})
        Node("ada", {"ada": address}).stop()  # both ports are free again


@pytest.mark.parametrize("port", [0, 65535])
def test_a_port_that_leaves_none_for_data_is_an_error(port: int) -> None:
    with pytest.raises(AddressError, match="the port must be from 1 to 65534"):
        Node("ada", {"ada": Address("127.0.0.1", port)})


def test_a_restarted_driver_is_taken_back_and_listened_to(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    ada.post(1, "bo")
    wait_until(lambda: bo.values("ada") == [1])
    bo.network.call(bo.driver.fail, SystemError("as kill -9: no last word"))  # type: ignore[arg-type]
    wait_until(lambda: bo.network.failure() is not None)
    nodes.remove(bo)
    again = Node("bo", bo.roster, boot=2)
    nodes.append(again)
    wait_until(lambda: again.values("ada") == [1])
    again.post(5, "ada", Mode.PULL)
    wait_until(lambda: ada.values("bo") == [5])
    assert ada.kinds("bo")[-1] is EventKind.RETURNED
    assert ada.got[-1].version == (2, 1)


def test_one_who_leaves_says_so(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    bo.stop("interrupted")
    wait_until(lambda: EventKind.LEFT in ada.kinds("bo"))
    assert ada.events()[-1].reason == "interrupted"


def test_stopping_is_quick_leaves_no_thread_and_may_be_done_twice() -> None:
    threads = set(threading.enumerate())
    node = Node("ada", {"ada": free_address(), "bo": free_address()})
    began_s = time.monotonic()
    node.stop()
    node.stop()
    assert time.monotonic() - began_s < 1.5
    assert set(threading.enumerate()) <= threads
    node.post(1, "bo")  # harmless, and heard by nobody


def test_a_fault_of_ours_ends_the_thread_and_is_kept() -> None:
    node = Node("ada", {"ada": free_address(), "bo": free_address()})

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    node.driver.peer.publish = broken  # type: ignore[method-assign]
    node.post(1, "bo")
    failure = wait_until(node.network.failure)
    assert isinstance(failure, ZeroDivisionError)
    node.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "network"]


# --- names ----------------------------------------------------------------------------------------------------------


def know_names(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], asked: list[str]) -> None:
    """A resolver that knows these names only: a list of hosts, an exception, or None for no answer at all."""

    async def look_up(address: Address) -> list[Any]:
        asked.append(address.host)
        answer = answers[address.host]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, address.port)) for one in answer]

    monkeypatch.setattr("gossipdistill.drivers.zeromq.links.look_up", look_up)


@pytest.mark.parametrize("answer", [None, OSError(-2, "Name or service not known"), UnicodeError("label empty")])
def test_a_name_that_cannot_be_resolved_delays_nobody_and_is_said_once(
    answer: Any, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = replace(LIMITS, reopen_interval_s=0.02)
    asked: list[str] = []
    know_names(monkeypatch, {"eve.lab": answer}, asked)
    roster = {"ada": free_address(), "bo": free_address(), "eve": free_address("eve.lab")}
    ada, bo = (Node(name, roster, limits=limits) for name in ("ada", "bo"))
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"), 2.0)
    exchange_works(ada, bo, 1)

    def said() -> list[str]:
        return [event.reason for event in ada.events() if event.kind is EventKind.WARNING]

    wait_until(lambda: said() if answer else asked)
    before = len(asked)
    wait_until(lambda: len(asked) > before + 8 if answer else True)
    assert len(said()) == (1 if answer else 0)
    assert all("cannot resolve the name eve.lab" in text for text in said())


def test_a_name_with_several_addresses_is_tried_until_one_answers(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is often ::1 first; and a container that was replaced has another address than before."""
    limits = replace(LIMITS, reopen_interval_s=0.1)
    know_names(monkeypatch, {"bo.lab": ["127.0.0.9", "127.0.0.1"]}, [])
    roster = {"ada": free_address(), "bo": free_address("bo.lab")}
    ada = Node("ada", roster, limits=limits)
    bo = Node("bo", roster, limits=limits, listen=Address("127.0.0.1", roster["bo"].port))
    nodes += [ada, bo]
    wait_until(lambda: ada.sees("bo") and bo.sees("ada"))
    exchange_works(ada, bo, 1)


def test_one_who_crashes_and_still_can_says_so(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    bo.network.stop("ZeroDivisionError: a fault of its learner", crashed=True)
    wait_until(lambda: EventKind.DEAD in ada.kinds("bo"))
    assert ada.events()[-1].reason == "crashed: ZeroDivisionError: a fault of its learner"

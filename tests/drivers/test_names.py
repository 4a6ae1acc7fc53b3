"""Names are looked up on threads that hold up neither the loop nor the end of the process."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from gossipdistill.drivers.network_thread import new_event_loop
from gossipdistill.drivers.zeromq.names import look_up
from gossipdistill.presence import Address


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop() if request.param == "asyncio" else new_event_loop()


def test_this_machine_is_found(loop: asyncio.AbstractEventLoop) -> None:
    try:
        found = loop.run_until_complete(look_up(Address("localhost", 7400)))
    finally:
        loop.close()
    assert {entry[4][0] for entry in found} <= {"127.0.0.1", "::1"}
    assert {entry[4][1] for entry in found} == {7400}


def test_an_error_is_an_oserror(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    try:
        with pytest.raises(OSError, match="not known"):
            loop.run_until_complete(look_up(Address("nowhere", 1)))
    finally:
        loop.close()


def test_a_loop_may_end_before_the_answer_comes(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, threads = threading.Event(), []

    def hang(*_: object, **__: object) -> list[object]:
        threads.append(threading.current_thread())
        go.wait(10)
        return []

    async def cancelled() -> None:
        task = asyncio.ensure_future(look_up(Address("slow", 1)))
        while not threads:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    loop.run_until_complete(cancelled())
    loop.close()
    go.set()
    threads[0].join(5)
    assert threads[0].daemon
    assert not threads[0].is_alive()

"""The network says each second that it goes on, as long as libzmq's I/O threads do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import IO

import pytest
import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq import pulse as pulse_module
from gossipdistill.drivers.zeromq.loop import DriverLoop
from gossipdistill.drivers.zeromq.pulse import Pulse, StandstillError
from gossipdistill.drivers.zeromq.sockets import Sockets, drain

from .harness import LIMITS, Node, free_address, pair, wait_until


def test_each_io_thread_is_heard_again_and_again(nodes: list[Node]) -> None:
    ada, _ = pair(nodes)
    pulse = ada.driver.pulse
    heard = dict.fromkeys(Channel, 0)

    def twice() -> bool:
        for channel, beats in pulse.silent.items():
            heard[channel] += beats == 0
        return min(heard.values()) > 2

    wait_until(twice)


def test_an_io_thread_that_waits_for_a_reader_is_silent_and_the_other_is_not() -> None:
    """What once stopped it for good: a monitor with a bounded queue that nobody reads."""
    sockets, address = Sockets(LIMITS), free_address()
    try:
        router = sockets.bind(address, Channel.DATA)
        unread = router.get_monitor_socket(zmq.EVENT_ACCEPTED)
        monitors = {channel: sockets.pulse(channel) for channel in Channel}
        with contextlib.suppress(TimeoutError):  # at last it answers no more
            for _ in range(2500):
                with socket.create_connection((address.host, address.data_port), 2.0) as one:
                    assert one.recv(1)

        def silent_for_four_beats_of_the_other() -> bool:
            drain(monitors[Channel.DATA], 64)
            for _ in range(4):
                wait_until(lambda: drain(monitors[Channel.CONTROL], 64))
            return not drain(monitors[Channel.DATA], 64)

        wait_until(silent_for_four_beats_of_the_other, 20.0)
        while drain(unread, 64):
            pass
        wait_until(lambda: drain(unread, 64) == 0 and drain(monitors[Channel.DATA], 64))
        router.disable_monitor()
    finally:
        sockets.close_all()


def test_one_that_stays_silent_ends_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "BEAT_S", 0.0)
    monkeypatch.setattr(pulse_module, "drain", lambda monitor, _: monitor is Channel.CONTROL)

    class Monitors(Sockets):
        def pulse(self, channel: Channel) -> Channel:  # type: ignore[override]
            return channel

    async def until_it_fails(heartbeat: IO[bytes]) -> Exception | None:
        loop, sockets = DriverLoop(lambda: None), Monitors(LIMITS)
        loop.begin()
        pulse = Pulse(sockets, loop)
        pulse.begin(heartbeat)
        await loop.ended.wait()
        pulse.end()
        sockets.close_all()
        return loop.failure

    read, write = os.pipe()
    with open(read, "rb") as beats:
        with open(write, "wb") as heartbeat:
            error = asyncio.run(until_it_fails(heartbeat))
        assert beats.read() == b"." * pulse_module.SILENT_BEATS_MAX
    assert isinstance(error, StandstillError)
    assert "I/O thread for data" in str(error)

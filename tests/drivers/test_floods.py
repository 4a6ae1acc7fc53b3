"""Thousands of connections by strangers: every word of libzmq about them is read, and those who are there go on."""

from __future__ import annotations

import asyncio
import socket

from gossipdistill.drivers.zeromq.sockets import Sockets, drain, may_read
from gossipdistill.presence import Address

from .harness import LIMITS, Node, exchange_works, free_address, pair, wait_until

_AT_ONCE = 50


def dial(address: Address, times: int) -> None:
    """So many connections, each closed once it is answered; 50 at a time, or the kernel's own queue would be full and
    every third wave wait a second."""
    for _ in range(times // _AT_ONCE):
        wave = [socket.create_connection(tuple(address), 5) for _ in range(_AT_ONCE)]
        for one in wave:
            with one:
                assert one.recv(1), "the I/O thread is at work"


def test_ten_thousand_connections_to_either_port_hold_nothing_up(nodes: list[Node]) -> None:
    ada, bo = pair(nodes)
    knocks = ada.driver.knocks
    for value, port in enumerate((ada.roster["ada"].port, ada.roster["ada"].data_port), 1):
        dial(Address("127.0.0.1", port), 10_000)
        wait_until(lambda: knocks.count >= value * 10_000)  # noqa: B023
        exchange_works(ada, bo, value)
    wait_until(lambda: not any(map(may_read, ada.driver.sockets.monitors.values())))


def test_no_signal_is_needed_for_knocks_to_be_read(nodes: list[Node]) -> None:
    """libzmq's descriptors fire at edges: whoever waits for one that was missed waits for ever."""
    ada, bo = pair(nodes)
    knocks = ada.driver.knocks
    ada.network.call(lambda: [asyncio.get_running_loop().remove_reader(int(one.fd)) for one in knocks.monitors])
    before = knocks.count
    dial(ada.roster["ada"], 3000)
    wait_until(lambda: knocks.count - before >= 3000)
    exchange_works(ada, bo, 1)


def test_a_monitor_that_nobody_reads_stops_no_connection() -> None:
    """The loop may stand still for seconds; more than twice libzmq's default queue of 1,000 has room meanwhile."""
    sockets, address = Sockets(LIMITS), free_address()
    try:
        router = sockets.bind(address, 0)  # type: ignore[arg-type]
        monitor = sockets.monitor(router, 0xFFFF)
        dial(address, 3000)
        assert drain(monitor, 3000) == 3000
    finally:
        sockets.close_all()

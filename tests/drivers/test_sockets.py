"""What every socket is made with."""

from __future__ import annotations

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.sockets import Sockets
from gossipdistill.limits import DEFAULT_LIMITS

from .harness import free_address


def test_the_kernel_looks_after_idle_connections_and_no_zmtp_ping_is_ever_sent() -> None:
    # A ping behind a full queue on a broken connection makes libzmq abort the process that has received it.
    sockets = Sockets(DEFAULT_LIMITS)
    try:
        address = free_address()
        made = [*(sockets.bind(address, channel) for channel in Channel), *sockets.connect(address, "bo")]
        for one in made:
            assert one.getsockopt(zmq.HEARTBEAT_IVL) == 0
            assert one.getsockopt(zmq.TCP_KEEPALIVE) == 1
            silent_s = one.getsockopt(zmq.TCP_KEEPALIVE_IDLE) + one.getsockopt(zmq.TCP_KEEPALIVE_CNT)
            assert silent_s == DEFAULT_LIMITS.blocked_after_s
    finally:
        sockets.close_all()

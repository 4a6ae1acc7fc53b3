"""Peers in a ring, a process each: 100 MB from each to the next at the same time, by raw sockets and by the driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection

from benchmarks.transfer.movers import BODY_BYTES, FRAME_BYTES, Attended, Node, cpu_s
from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.drivers.zeromq.sockets import Sockets
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import DeliveryClass
from gossipdistill.presence import Address

Keys = Mapping[str, tuple[bytes, bytes]]
_HOST = "127.0.0.1"


class Seat(Attended):
    """One place in the ring, as the parent sees it."""

    timeout_s = 900.0

    def __init__(self, name: str, ports: Mapping[str, int], raw_ports: Mapping[str, int], keys: Keys) -> None:
        super().__init__(_sit, name, dict(ports), dict(raw_ports), dict(keys))


class _Sitter:
    """What a place in the ring does; each answer is (when it began, when all was here, CPU seconds)."""

    def __init__(self, name: str, ports: dict[str, int], raw_ports: dict[str, int], keys: Keys) -> None:
        names = list(ports)
        following = names[(names.index(name) + 1) % len(names)]
        public = {whose: pair[0] for whose, pair in keys.items()}
        limits = replace(DEFAULT_LIMITS, piece_bytes_max=FRAME_BYTES)
        self.sockets = Sockets(limits, curve=Curve(*keys[name], public))
        self.inward = self.sockets.bind(Address(_HOST, raw_ports[name] - 1), Channel.DATA)
        door = self.sockets.zap_handler
        assert door is not None
        self._door = threading.Thread(target=self._keep_the_door, daemon=True)
        self._open = True
        self._door.start()
        self.outward = self.sockets.connect(Address(_HOST, raw_ports[following] - 1), following)[Channel.DATA]
        self.node = Node(name, following, ports, Curve(*keys[name], public))
        self.body = memoryview(bytearray(BODY_BYTES))
        self.number = 0

    def _keep_the_door(self) -> None:
        door = self.sockets.zap_handler
        assert door is not None
        assert door.socket is not None
        while self._open:
            if door.socket.poll(50):
                door.answer()

    def meet(self) -> tuple[float, float, float]:
        """Wait for the next peer, over the driver and over raw sockets."""
        self.node.meet()
        return self.raw()

    def raw(self) -> tuple[float, float, float]:
        """Over raw sockets: frames of 4 MB, thrown away as they come."""
        before, began_s = cpu_s(), time.monotonic()
        reading = threading.Thread(target=self._read)
        reading.start()
        for offset in range(0, BODY_BYTES, FRAME_BYTES):
            self.outward.send_multipart([b"head", self.body[offset : offset + FRAME_BYTES]], copy=False)
        reading.join()
        return began_s, self._read_s, cpu_s() - before

    def _read(self) -> None:
        for _ in range(0, BODY_BYTES, FRAME_BYTES):
            frame = self.inward.recv_multipart(copy=False)[-1].buffer
            assert len(frame) == FRAME_BYTES
        self._read_s = time.monotonic()

    def state(self) -> tuple[float, float, float]:
        """As a state, announced and pulled, until it lies in the mailbox in one block."""
        self.number += 1
        before, began_s = cpu_s(), time.monotonic()
        self.node.post(self.body, self.number, "x", DeliveryClass.STATE)
        ended_s = self.node.read()
        spent_s = cpu_s() - before
        self.node.take()
        return began_s, ended_s, spent_s

    def close(self) -> None:
        """End."""
        self._open = False
        self._door.join(5)
        self.node.network.stop("finished")
        self.sockets.close_all()


def _sit(pipe: Connection, name: str, ports: dict[str, int], raw_ports: dict[str, int], keys: Keys) -> None:
    sitter = _Sitter(name, ports, raw_ports, keys)
    pipe.send("here")
    while (told := pipe.recv())[0] != "end":
        what, args = told
        pipe.send(getattr(sitter, what)(*args))
    sitter.close()

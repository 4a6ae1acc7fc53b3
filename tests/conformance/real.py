"""Peers on real sockets: tcp over loopback or inproc, with either event loop, in real time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import zmq
from drivers.harness import LoopFactory, Node, free_address

from gossipdistill.errors import AddressError
from gossipdistill.presence import NOWHERE

from .cluster import LIMITS, NAMES, WITHIN_S, Cluster, Learner


class RealCluster(Cluster):
    """One driver and network thread per peer. With inproc they share a context."""

    def __init__(self, transport: str, loop: LoopFactory) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._context = zmq.Context(io_threads=2)
        self._roster = {name: free_address() for name in NAMES}
        self._nodes: dict[str, Node] = {}

    def start(self, name: str, boot: int = 1, run: str = "scene", reachable: bool = True) -> Learner:
        roster = self._roster if reachable else self._roster | {name: NOWHERE}
        shared = {"context": self._context} if self._transport == "inproc" else {}

        def bound() -> bool:  # inproc: the name of a socket that was closed is free a moment later
            with contextlib.suppress(AddressError):
                self._nodes[name] = Node(
                    name,
                    roster,
                    boot,
                    self._loop,
                    LIMITS,
                    fingerprint={"run": run},
                    transport=self._transport,
                    **shared,
                )
            return name in self._nodes

        self.until(bound)
        self.learners[name] = Learner(self._nodes[name].mailbox)
        return self.learners[name]

    def kill(self, name: str) -> None:
        node = self._nodes.pop(name)
        node.network.call(node.driver.fail, SystemError("as kill -9"))
        self.until(node.network.failure)

    def leave(self, name: str, reason: str, crashed: bool = False) -> None:
        self._nodes.pop(name).network.stop(reason, crashed=crashed)

    def say(self, identity: str, to: str, frames: list[bytes]) -> None:
        stranger = self._context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.LINGER, 1000)
        stranger.connect(f"{self._transport}://{self._roster[to]}")
        stranger.send_multipart(frames)
        stranger.close()

    def until(self, holds: Callable[[], Any]) -> None:
        pause, end_s = threading.Event(), time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < end_s, "it did not come to pass"
            pause.wait(0.003)

    def close(self) -> None:
        for node in self._nodes.values():
            node.stop()
        self._context.destroy(linger=0)
        failures = [node.network.failure() for node in self._nodes.values()]
        assert failures == [None] * len(failures)

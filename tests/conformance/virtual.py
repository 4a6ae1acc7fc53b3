"""Peers in memory and virtual time: the protocol, the mailbox and the wire format, and no sockets."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from gossipdistill.ids import Boot, PeerName
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Envelope, Transmit
from gossipdistill.presence import NOWHERE, Address, Contact
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer
from gossipdistill.protocol.turn import turn
from gossipdistill.wire.codec import WIRE_VERSION, decode, encode
from gossipdistill.wire.errors import WireError
from gossipdistill.wire.pieces import Assembly, split

from .cluster import LIMITS, NAMES, WITHIN_S, Cluster, Learner

_DELAY_S = 0.001


class _Process:
    def __init__(self, name: str, boot: int, run: str, address: Address, roster: dict[str, Address], now: float):
        contacts = [Contact(PeerName(n), at, place) for place, (n, at) in enumerate(roster.items())]
        me = Identity(PeerName(name), Boot(boot), address, list(roster).index(name), {"run": run})
        self.peer = Peer(me, len(roster), contacts, now=now, limits=LIMITS)
        self.mailbox = Mailbox(limits=LIMITS)
        self.assembly = Assembly(LIMITS)

    def receive(self, identity: str, frames: list[bytes | memoryview], now: float) -> None:
        claimed = identity.partition("/")[0]
        try:
            envelope = decode(frames, LIMITS)
        except WireError as error:
            if error.version is None:
                raise
            self.peer.unreadable.other_version(claimed, error.boot, error.version, WIRE_VERSION, now)
            return
        whole = self.assembly.feed(envelope)
        if whole is not None:
            self.peer.receive(whole, now)

    def turn(self, now: float) -> list[Transmit]:
        """What one turn has to send."""
        transmits: list[Transmit] = []
        turn(self.peer, self.mailbox, now, transmits.append)
        return transmits


class VirtualCluster(Cluster):
    """A network without loss, on which every message takes a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 100.0
        self._roster = {name: Address("10.0.0.1", 7400 + 2 * place) for place, name in enumerate(NAMES)}
        self._processes: dict[str, _Process] = {}
        self._flying: list[tuple[float, int, str, str, list[bytes | memoryview]]] = []
        self._sent = 0

    def start(self, name: str, boot: int = 1, run: str = "scene", reachable: bool = True) -> Learner:
        address = self._roster[name] if reachable else NOWHERE
        roster = self._roster | {name: address}
        self._processes[name] = _Process(name, boot, run, address, roster, self._now)
        self.learners[name] = Learner(self._processes[name].mailbox)
        return self.learners[name]

    def kill(self, name: str) -> None:
        del self._processes[name]

    def leave(self, name: str, reason: str, crashed: bool = False) -> None:
        self._processes[name].peer.membership.leave(reason, crashed)
        self._turn(name)
        self.kill(name)

    def say(self, identity: str, to: str, frames: list[bytes]) -> None:
        self._fly(identity, to, list(frames))

    def until(self, holds: Callable[[], Any]) -> None:
        end_s = self._now + WITHIN_S
        while not holds():
            assert self._now < end_s, "it did not come to pass"
            for name in list(self._processes):  # learners may have done something
                self._turn(name)
            due_s = [self._flying[0][0]] if self._flying else []
            due_s += [process.peer.next_timeout() for process in self._processes.values()]
            self._now = min([end_s, *(max(at_s, self._now) for at_s in due_s)])
            while self._flying and self._flying[0][0] <= self._now:
                _, _, identity, to, frames = heapq.heappop(self._flying)
                if to in self._processes:
                    self._processes[to].receive(identity, frames, self._now)

    def close(self) -> None:
        self._processes.clear()

    def _turn(self, name: str) -> None:
        for transmit in self._processes[name].turn(self._now):
            at = {address: other for other, address in self._roster.items()}
            to = transmit.envelope.to if transmit.address == NOWHERE else at[transmit.address]
            for part in split(transmit.envelope, LIMITS):
                self._fly(_identity(part), to, encode(part))

    def _fly(self, identity: str, to: str, frames: list[bytes | memoryview]) -> None:
        self._sent += 1
        heapq.heappush(self._flying, (self._now + _DELAY_S, self._sent, identity, to, frames))


def _identity(envelope: Envelope) -> str:
    return f"{envelope.sender}/{envelope.boot}"

"""A peer that trains and exchanges beside rogues, in a process of its own: steps of 20 ms, a megabyte every fifth."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.transfer.movers import cpu_s, until
from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.overload.resources import Resources
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import ArrayLayout, Content, Mode, Parcel, Payload, arrivals_of
from gossipdistill.presence import NOWHERE, Address, Contact
from gossipdistill.protocol.enrolment import Book
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer

STEP_S = 0.02
EXCHANGE_EVERY_STEPS = 5
BODY_BYTES = 1_000_000
RUN = "rogues"
Keys = Mapping[str, tuple[bytes, bytes]]


class Trainer:
    """Steps, and what came and went. The `ports` are of those who are there; the keys name others besides. Without keys
    the run is open; with a `join` secret whoever has it may take part."""

    def __init__(self, name: str, ports: Mapping[str, int], keys: Keys, join: bytes | None = None) -> None:
        self.name, self.others = name, [PeerName(other) for other in ports if other != name]
        places = {other: Address("127.0.0.1", port) for other, port in ports.items()}
        places |= {other: NOWHERE for other in keys if other not in ports}
        contacts = [Contact(PeerName(other), at, place) for place, (other, at) in enumerate(places.items())]
        me = Identity(PeerName(name), Boot(1), places[name], list(places).index(name), {"run": RUN})
        self.peer = Peer(me, len(places), contacts, now=time.monotonic())
        public = {other: pair[0] for other, pair in keys.items()}
        curve = Curve(*keys[name], public) if keys else None
        if join is not None:
            texts = {other: key.decode() for other, key in public.items()}
            self.peer.key_distribution.book = Book(RUN, PeerName(name), {name: texts[name]}, texts, join)
            self.peer.key_distribution.book.enrol_myself(texts[name], 1)
        self.network = NetworkThread()
        self.mailbox = self.network.mailbox
        self.driver = Driver(self.peer, self.mailbox, places[name], DEFAULT_LIMITS, time.monotonic, curve=curve)
        self.driver.bind()
        self.network.start(self.driver)
        self.steps, self.exchanges, self.foreign = 0, 0, 0
        self.resident_max, self.files_max = 0, 0
        self.events: Counter[str] = Counter()
        self._resources = Resources()
        self._weights = np.ones((192, 192), dtype=np.float32)
        self._mark = f"{name:<16}".encode()

    def step(self) -> None:
        """One step, padded: a few matrix products, what came, and what is to go."""
        began_s = time.monotonic()
        for _ in range(4):
            self._weights = np.tanh(self._weights @ self._weights)
        for arrival in arrivals_of(self.mailbox.take()):
            mark = bytes(arrival.payload.body[:16]).decode("ascii", "replace").strip()
            genuine = mark == arrival.sender and arrival.sender in self.others
            self.exchanges += genuine
            self.foreign += 0 if genuine else arrival.payload.nbytes
        self.steps += 1
        if self.steps % EXCHANGE_EVERY_STEPS == 0:
            body = self._mark + bytes(BODY_BYTES - len(self._mark))
            content = Payload((ArrayLayout("x", (BODY_BYTES // 4,), "raw", BODY_BYTES),), body)
            self.mailbox.post(Parcel(tuple(self.others), Content("x", content, self.steps, self.steps), Mode.PULL))
        self.events.update(event.kind.value for event in self.mailbox.drain_events())
        self.resident_max = max(self.resident_max, self._resources.resident_bytes() or 0)
        if self.steps % 10 == 0:
            self.files_max = max(self.files_max, self._resources.open_files() or 0)
        time.sleep(max(0.0, STEP_S - (time.monotonic() - began_s)))

    def hold(self, seconds: float) -> None:
        """Keep the network thread from all else for so long."""
        self.network.call(time.sleep, seconds)

    def figures(self) -> dict[str, Any]:
        """All counts so far; the largest memory and number of files since the last call."""
        traffic = {name: one.bytes_received for name, one in self.driver.traffic.items()}
        door = self.driver.sockets.zap_handler
        found = {
            "at_s": time.monotonic(),
            "steps": self.steps,
            "cpu_s": cpu_s(),
            "exchanges": self.exchanges,
            "foreign": self.foreign,
            "traffic": traffic,
            "malformed": dict(self.peer.unreadable.counts),
            "turned_away": dict(self.peer.scores.turned_away_in_words),
            "events": dict(self.events),
            "door": dict(door.turned_away) if door is not None else {},
            "resident_max": self.resident_max,
            "files_max": self.files_max,
        }
        self.resident_max, self.files_max = self._resources.resident_bytes() or 0, self._resources.open_files() or 0
        return found


class Watched:
    """The process of one peer, as its parent sees it."""

    def __init__(self, name: str, ports: Mapping[str, int], keys: Keys, join: bytes | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_train, args=(theirs, name, dict(ports), dict(keys), join))
        self._process.start()
        self.name = name

    def ready(self) -> None:
        """Wait until it sees the others."""
        assert self._pipe.poll(900), f"{self.name} does not see the others"
        self._pipe.recv()

    def do(self, what: str, *args: Any) -> Any:
        """Give a command between two steps and wait for its answer."""
        self._pipe.send((what, args))
        assert self._pipe.poll(60), f"no answer from {self.name}"
        return self._pipe.recv()

    def exit_code(self) -> int | None:
        """None while it lives."""
        return self._process.exitcode

    def end(self) -> None:
        """Let it end, at once if it does not obey."""
        with contextlib.suppress(OSError):
            self._pipe.send(("end", ()))
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


def _train(pipe: Connection, name: str, ports: dict[str, int], keys: Keys, join: bytes | None) -> None:
    trainer = Trainer(name, ports, keys, join)
    until(lambda: set(trainer.others) <= set(trainer.mailbox.neighbourhood().alive), 900.0)
    pipe.send("here")
    while True:
        if pipe.poll():
            what, args = pipe.recv()
            if what == "end":
                break
            if what == "trust":
                trainer.network.trust(*args)
                pipe.send(None)
            elif what == "hold":
                trainer.hold(*args)
                pipe.send(None)
            else:
                pipe.send(trainer.figures())
        trainer.step()
    trainer.network.stop("finished")

"""Two processes that move the same bytes to and fro: over raw sockets, and through driver, protocol and mailbox.

Each process obeys one command at a time and answers it: what a measurement needs is a clock that both share (the
monotonic one of the machine) and the CPU seconds of a process with all its threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar

import zmq

from gossipdistill.drivers.channels import Channel
from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.drivers.zeromq.security import Curve
from gossipdistill.drivers.zeromq.sockets import Sockets
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.messages import (
    ArrayLayout,
    Content,
    DeliveryClass,
    Envelope,
    Mode,
    Parcel,
    Payload,
    Receipt,
    Received,
    Settlement,
    StatusQuery,
    Transmit,
    arrivals_of,
)
from gossipdistill.presence import Address, Contact
from gossipdistill.protocol.members import Identity
from gossipdistill.protocol.peer import Peer

FRAME_BYTES, FRAMES = 4_000_000, 25
BODY_BYTES = FRAME_BYTES * FRAMES
_PATIENCE_S = 60.0
_HOST = "127.0.0.1"
Keys = dict[str, tuple[bytes, bytes]]


def cpu_s() -> float:
    """CPU seconds of this process, all threads, in user and kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Raw:
    """The same sockets with the same options and nothing around them: DEALER to ROUTER."""

    sockets: Sockets
    socket: zmq.Socket[bytes]

    @staticmethod
    def open(name: str, port: int, curve: Curve | None) -> Raw:
        """A reader binds, a writer connects."""
        limits = replace(DEFAULT_LIMITS, piece_bytes_max=FRAME_BYTES)
        sockets, at = Sockets(limits, curve=curve), Address(_HOST, port)
        reader = name == "reader"
        return Raw(sockets, sockets.bind(at, Channel.DATA) if reader else sockets.connect(at, "reader")[Channel.DATA])

    def read(self, block: memoryview | None) -> None:
        """Take in all frames; none is kept, but their bytes are copied to `block` if there is one."""
        door = self.sockets.zap_handler
        while door is not None and not self.socket.poll(5):
            door.answer()  # before the first frame
        for offset in range(0, BODY_BYTES, FRAME_BYTES):
            frame = self.socket.recv_multipart(copy=False)[-1].buffer
            assert len(frame) == FRAME_BYTES
            if block is not None:
                block[offset : offset + FRAME_BYTES] = frame

    def write(self, body: memoryview) -> None:
        """Hand out all frames, without a copy."""
        for offset in range(0, BODY_BYTES, FRAME_BYTES):
            self.socket.send_multipart([b"head", body[offset : offset + FRAME_BYTES]], copy=False)


@dataclass
class Node:
    """One peer on its driver and network thread, and an event for each arrival in its mailbox."""

    name: str
    other: str
    ports: dict[str, int]
    curve: Curve | None
    news: threading.Condition = field(default_factory=threading.Condition)
    came: int = 0
    round_trips_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        contacts = [
            Contact(PeerName(name), Address(_HOST, port), place)
            for place, (name, port) in enumerate(self.ports.items())
        ]
        here = Address(_HOST, self.ports[self.name])
        me = Identity(PeerName(self.name), Boot(1), here, list(self.ports).index(self.name), {"run": "throughput"})
        self.peer = Peer(me, len(contacts), contacts, now=time.monotonic())
        self.network = NetworkThread()
        self.mailbox = self.network.mailbox
        self.driver = Driver(self.peer, self.mailbox, here, DEFAULT_LIMITS, time.monotonic, curve=self.curve)
        self._deliver, self.mailbox.deliver = self.mailbox.deliver, self._noticed  # type: ignore[method-assign]
        self._receive, self.peer.receive = self.peer.receive, self._overheard  # type: ignore[method-assign]
        self._asked_s: float | None = None
        self.driver.bind()
        self.network.start(self.driver)

    def meet(self) -> None:
        """Wait until the other is there."""
        until(lambda: PeerName(self.other) in self.mailbox.neighbourhood().alive)

    def post(self, body: memoryview | bytes, number: int, topic: str, delivery: DeliveryClass) -> None:
        """A parcel for the other: a state to be pulled, or mass."""
        payload = Payload((ArrayLayout("x", (len(body),), "raw", len(body)),), body)
        content = Content(topic, payload, number, number, "", delivery, weight=1.0)
        assert self.mailbox.post(Parcel((PeerName(self.other),), content, Mode.PULL))

    def read(self) -> float:
        """When the next parcel lay in the mailbox."""
        with self.news:
            assert self.news.wait_for(lambda: self.came, _PATIENCE_S), "nothing came"
            self.came -= 1
        return time.monotonic()

    def take(self) -> None:
        """Empty the mailbox, and settle what wants it."""
        arrivals = arrivals_of(self.mailbox.take())
        self.mailbox.settle(
            [
                Settlement(one.sender, one.topic, one.version, absorbed=True)
                for one in arrivals
                if one.delivery is not DeliveryClass.STATE
            ]
        )

    def ask(self, every_s: float, until_is: threading.Event) -> None:
        """Question and answer, one at a time, as the protocol gives it: what became of the first consignment of
        "probe"? Each at least `every_s` after the one before."""
        to = self.peer.table.address_of(self.other)
        assert to is not None
        question = Transmit(to, Envelope(PeerName(self.name), Boot(1), self.other, 1, StatusQuery("probe", 1)))

        def say() -> None:
            self._asked_s = time.monotonic()
            self.driver.egress.hand_out(question)
            self.driver._soon()

        while not until_is.wait(every_s):
            if self._asked_s is None:
                self.network.call(say)

    def _noticed(self, received: Received) -> bool:
        gave_way = self._deliver(received)
        with self.news:
            self.came += 1
            self.news.notify_all()
        return gave_way

    def _overheard(self, envelope: Envelope, now: float) -> None:
        message = envelope.message
        if self._asked_s is not None and isinstance(message, Receipt) and message.topic == "probe":
            self.round_trips_s.append(time.monotonic() - self._asked_s)
            self._asked_s = None
        self._receive(envelope, now)


def until(holds: Callable[[], Any], timeout_s: float = _PATIENCE_S) -> None:
    """Look every few milliseconds until it holds."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, "it did not come to pass"
        time.sleep(0.002)


class Attended:
    """A process of its own, as its parent sees it: `serve` is called there with the other end of a pipe, and `args`."""

    timeout_s: ClassVar[float] = 2 * _PATIENCE_S
    """With an answer."""

    def __init__(self, serve: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=serve, args=(theirs, *args))
        self._process.start()

    def begin(self, what: str, *args: Any) -> None:
        """Give a command."""
        self._pipe.send((what, args))

    def result(self) -> Any:
        """The answer to the last command."""
        assert self._pipe.poll(self.timeout_s), "no answer"
        return self._pipe.recv()

    def do(self, what: str, *args: Any) -> Any:
        """Give a command and wait for its answer."""
        self.begin(what, *args)
        return self.result()

    def end(self) -> None:
        """Let the process end, at once if it does not obey."""
        with contextlib.suppress(OSError):
            self.begin("end")
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


class Mover(Attended):
    """The process `name`: "writer" or "reader"."""

    def __init__(self, name: str, ports: dict[str, int], raw_port: int, keys: Keys | None) -> None:
        super().__init__(_serve, name, ports, raw_port, keys)


def _serve(pipe: Connection, name: str, ports: dict[str, int], raw_port: int, keys: Keys | None) -> None:
    curve = None
    if keys is not None:
        curve = Curve(*keys[name], {whose: public for whose, (public, _) in keys.items()})
    (other,) = set(ports) - {name}
    raw, node = Raw.open(name, raw_port, curve), Node(name, other, ports, curve)
    duties = _Duties(raw, node, memoryview(bytearray(b"0123456789abcdef" * (BODY_BYTES // 16))))
    pipe.send("here")
    while True:
        what, args = pipe.recv()
        if what == "end":
            break
        pipe.send(getattr(duties, what)(*args))
    node.network.stop("finished")
    raw.sockets.close_all()


@dataclass
class _Duties:
    """What a mover can be told; the answers go to the parent."""

    raw: Raw
    node: Node
    body: memoryview
    asking: threading.Event | None = None
    number: int = 0

    def meet(self) -> None:
        """Wait for the other peer."""
        self.node.meet()

    def cpu(self) -> float:
        """CPU seconds so far."""
        return cpu_s()

    def read_raw(self, joined: bool) -> float:
        """When all frames were here."""
        self.raw.read(self.body if joined else None)
        return time.monotonic()

    def write_raw(self) -> float:
        """When it began."""
        began_s = time.monotonic()
        self.raw.write(self.body)
        return began_s

    def read(self) -> float:
        """When a parcel was here."""
        return self.node.read()

    def take(self) -> None:
        """Take what was read."""
        self.node.take()

    def write(self, topic: str, delivery: str, size: int) -> float:
        """When it was posted."""
        self.number += 1
        sort = DeliveryClass(delivery)
        if sort is not DeliveryClass.STATE:
            until(lambda: PeerName(self.node.other) not in self.node.mailbox.room.busy(topic, sort))
        began_s = time.monotonic()
        self.node.post(self.body[:size], self.number, topic, sort)
        return began_s

    def ask(self, every_s: float) -> None:
        """Begin to ask, beside whatever else is done."""
        self.asking = threading.Event()
        threading.Thread(target=self.node.ask, args=(every_s, self.asking), daemon=True).start()

    def answers(self) -> list[float]:
        """Stop asking; how long each answer took."""
        assert self.asking is not None
        self.asking.set()
        found, self.node.round_trips_s = self.node.round_trips_s, []
        return found

"""The rogues: what strangers, and one allowed peer, do to a peer that listens. Each has a process of its own.

A rogue prepares while it is not watched (an honest connection to record, a key that is still trusted), then acts for
some seconds, and tells what it has done.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import zmq

from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import ArrayLayout, Content, Envelope, Payload, State
from gossipdistill.presence import Address, Ping
from gossipdistill.wire.codec import encode

Pair = tuple[bytes, bytes]
MIB = 1 << 20
CURVE_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
"""What a client says first, in ZMTP 3."""
_GIANT_COMMAND = b"\x06" + (1 << 62).to_bytes(8, "big")
"""A long command of 4 EiB."""
_PATIENCE_S = 0.2


@dataclass(frozen=True)
class Target:
    """Whom to attack: `name` listens at `host`, control on `port` and data on the next. `keys` are those of rogues."""

    name: str
    host: str
    port: int
    public: bytes
    """Empty in a run without keys."""
    keys: dict[str, Pair]
    scale: float = 1.0
    """Of what is sent: 1 in the benchmark, less in tests."""
    places: dict[str, tuple[int, Address]] = field(default_factory=dict)
    """Of rogues in the roster: place and address."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """What peers must have alike."""

    def ports(self) -> tuple[int, int]:
        """Control and data."""
        return self.port, self.port + 1


@dataclass
class Rogue(ABC):
    """One way to be a nuisance. `act` goes on until `until_s` (monotonic), and may end before."""

    target: Target
    done: dict[str, int] = field(default_factory=dict)

    def prepare(self) -> None:  # noqa: B027 - most need none
        """What is not an attack yet."""

    def idle(self) -> None:  # noqa: B027 - most do nothing
        """Called again and again between the two."""

    @abstractmethod
    def act(self, until_s: float) -> None:
        """The attack."""

    def count(self, what: str, amount: int = 1) -> None:
        """Note what was done."""
        self.done[what] = self.done.get(what, 0) + amount

    def dial(self, port: int) -> socket.socket:
        """A plain connection. Raises OSError."""
        made = socket.create_connection((self.target.host, port), _PATIENCE_S)
        made.settimeout(_PATIENCE_S)
        self.count("connections")
        return made

    @contextlib.contextmanager
    def dealer(self, port: int, whose: Pair | None) -> Iterator[zmq.Socket[bytes]]:
        """A ZeroMQ connection, with a key or without."""
        context = zmq.Context()
        made = context.socket(zmq.DEALER)
        for option, value in (zmq.LINGER, 0), (zmq.SNDTIMEO, int(1000 * _PATIENCE_S)), (zmq.SNDHWM, 4):
            made.setsockopt(option, value)
        if whose is not None:
            made.setsockopt(zmq.CURVE_SERVERKEY, self.target.public)
            made.setsockopt(zmq.CURVE_PUBLICKEY, whose[0])
            made.setsockopt(zmq.CURVE_SECRETKEY, whose[1])
        made.connect(f"tcp://{self.target.host}:{port}")
        try:
            yield made
        finally:
            context.destroy(linger=0)

    def word(self, sender: str, number: int = 1) -> list[bytes | memoryview]:
        """A state that would be learned from, in somebody's name."""
        content = Payload((ArrayLayout("x", (250_000,), "raw", 1_000_000),), bytes(1_000_000))
        said = State(number, Content("x", content, 1, 1))
        return encode(Envelope(PeerName(sender), Boot(1), self.target.name, 1, said))

    def say(self, to: zmq.Socket[bytes], frames: list[bytes | memoryview]) -> None:
        """Offer a message; one that is not taken in time is given up."""
        with contextlib.suppress(zmq.ZMQError):
            to.send_multipart(frames, copy=False)
            self.count("messages")
            self.count("bytes", sum(map(len, frames)))


class HalfHandshakes(Rogue):
    """A thousand connections that begin to shake hands and do not go on."""

    def act(self, until_s: float) -> None:
        held = []
        for number in range(int(1000 * self.target.scale)):
            with contextlib.suppress(OSError):
                one = self.dial(self.target.ports()[number % 2])
                one.sendall(CURVE_GREETING[:10])
                held.append(one)
        wait(until_s)
        for one in held:
            one.close()


class Garbage(Rogue):
    """A hundred megabytes of random bytes, over as many connections as it takes."""

    def act(self, until_s: float) -> None:
        block, sent = os.urandom(MIB), 0
        while sent < 100 * MIB * self.target.scale and time.monotonic() < until_s:
            with contextlib.suppress(OSError), self.dial(self.target.ports()[sent // MIB % 2]) as one:
                while sent < 100 * MIB * self.target.scale:
                    taken = one.send(block)
                    sent += taken
                    self.count("bytes", taken)


class GiantHeader(Rogue):
    """A command of 4 EiB before any key is shown; then, from an allowed peer, headers and frames beyond the limits."""

    def act(self, until_s: float) -> None:
        for _ in range(20):
            with contextlib.suppress(OSError), self.dial(self.target.port + 1) as one:
                one.sendall(CURVE_GREETING + _GIANT_COMMAND)
                while time.monotonic() < until_s:
                    self.count("bytes", one.send(bytes(MIB)))
        with self.dealer(self.target.port + 1, self.target.keys.get("eve")) as eve:
            for size in (300 * 1024, 4 * MIB, 5 * MIB):
                for _ in range(5):
                    self.say(eve, [b"\xdd\xff\xff\xff\xff" + bytes(size - 5)])
            wait(until_s)


class NeverEnding(Rogue):
    """A message of an allowed peer that has no last frame: a gigabyte of it at a time, and again when it is cut off."""

    def prepare(self) -> None:
        self._open = contextlib.ExitStack()
        self._eve = self._open.enter_context(self.dealer(self.target.port + 1, self.target.keys.get("eve")))
        self._eve.setsockopt(zmq.SNDTIMEO, 5000)
        self.say(self._eve, encode(Envelope(PeerName("eve"), Boot(1), self.target.name, 1, Ping(0, 1, False))))
        self.done.clear()

    def act(self, until_s: float) -> None:
        part, eve = bytes(4 * MIB), self._eve
        eve.setsockopt(zmq.SNDTIMEO, 1000)
        with self._open:
            monitor = eve.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            while time.monotonic() < until_s:
                self.say(eve, [part] * int(256 * self.target.scale))
                if monitor.poll(max(0, int(1000 * (until_s - time.monotonic())))):
                    monitor.recv_multipart()
                    self.count("cut off")
            eve.disable_monitor()


class SlowLoris(Rogue):
    """Fifty connections that say one byte now and then."""

    def act(self, until_s: float) -> None:
        held: list[tuple[socket.socket, int]] = []
        while time.monotonic() < until_s:
            while len(held) < 50:
                with contextlib.suppress(OSError):
                    held.append((self.dial(self.target.ports()[len(held) % 2]), 0))
            going = []
            for one, said in held:
                try:
                    one.send(CURVE_GREETING[said % 64 : said % 64 + 1])
                    self.count("bytes")
                    going.append((one, said + 1))
                except OSError:
                    one.close()
            held = going
            time.sleep(0.1)
        for one, _ in held:
            one.close()


class NoKey(Rogue):
    """Speaks ZeroMQ without a key, in the name of a peer."""

    key: Pair | None = None

    def act(self, until_s: float) -> None:
        with self.dealer(self.target.port, self.key) as control, self.dealer(self.target.port + 1, self.key) as data:
            while time.monotonic() < until_s:
                for to in control, data:
                    self.say(to, self.word("bo"))
                time.sleep(0.01)


class WrongKey(NoKey):
    """With a key that nobody trusts."""

    def prepare(self) -> None:
        self.key = zmq.curve_keypair()


class RevokedKey(Rogue):
    """With a key that was trusted when the connection was made, and is not any more."""

    def prepare(self) -> None:
        self._open = contextlib.ExitStack()
        pair = self.target.keys["mallory"]
        self.sockets = [self._open.enter_context(self.dealer(port, pair)) for port in self.target.ports()]
        for one in self.sockets:
            one.setsockopt(zmq.SNDTIMEO, 5000)
            self.say(one, encode(Envelope(PeerName("mallory"), Boot(1), self.target.name, 1, Ping(0, 1, False))))

    def act(self, until_s: float) -> None:
        with self._open:
            while time.monotonic() < until_s:
                for one in self.sockets:
                    self.say(one, self.word("mallory"))
                time.sleep(0.01)


class AnotherName(Rogue):
    """An allowed peer that speaks in the name of another."""

    def act(self, until_s: float) -> None:
        pair, number = self.target.keys.get("eve"), 0
        with self.dealer(self.target.port, pair) as control, self.dealer(self.target.port + 1, pair) as data:
            while time.monotonic() < until_s:
                number += 1
                self.say(control, encode(Envelope(PeerName("bo"), Boot(1), self.target.name, 1, Ping(0, 9, True))))
                self.say(data, self.word("bo", 1_000_000 + number))
                time.sleep(0.01)


class Replay(Rogue):
    """Records what an allowed peer says on its encrypted connection, and says it again on others."""

    said: bytes = b""

    def prepare(self) -> None:
        with socket.create_server((self.target.host, 0)) as middle:
            port = middle.getsockname()[1]
            thread = threading.Thread(target=self._record, args=(middle,), daemon=True)
            thread.start()
            with self.dealer(port, self.target.keys.get("eve")) as eve:
                eve.setsockopt(zmq.SNDTIMEO, 5000)
                self.say(eve, self.word("eve"))
                thread.join(5)
        self.done.clear()

    def _record(self, middle: socket.socket) -> None:
        middle.settimeout(5)
        with contextlib.suppress(OSError):
            theirs, _ = middle.accept()
            with theirs, socket.create_connection((self.target.host, self.target.port + 1)) as mine:
                back = threading.Thread(target=_pass_on, args=(mine, theirs, lambda block: None), daemon=True)
                back.start()
                theirs.settimeout(2)
                _pass_on(theirs, mine, self._note)
                mine.shutdown(socket.SHUT_RDWR)  # or the thread that reads it would keep it open
                back.join(5)

    def _note(self, block: bytes) -> None:
        self.said += block

    def act(self, until_s: float) -> None:
        assert len(self.said) > 1_000_000, "nothing was recorded"
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError), self.dial(self.target.port + 1) as one:
                one.sendall(self.said)
                self.count("bytes", len(self.said))
                while one.recv(4096):
                    pass
            time.sleep(0.02)


CAST: dict[str, type[Rogue]] = {
    "no key": NoKey,
    "wrong key": WrongKey,
    "revoked key on an open connection": RevokedKey,
    "half handshakes": HalfHandshakes,
    "garbage": Garbage,
    "a giant header": GiantHeader,
    "a message without end": NeverEnding,
    "slow-loris": SlowLoris,
    "a replayed capture": Replay,
    "another peer's name": AnotherName,
}


def wait(until_s: float) -> None:
    """Until then."""
    time.sleep(max(0.0, until_s - time.monotonic()))


def _pass_on(source: socket.socket, sink: socket.socket, note: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            note(block)
            sink.sendall(block)

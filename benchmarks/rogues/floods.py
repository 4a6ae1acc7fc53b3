"""Floods by strangers: connections by the thousand, keys that nobody knows, pings and resets."""

from __future__ import annotations

import contextlib
import ctypes
import random
import time
from functools import cache
from pathlib import Path

import zmq
from zmq.utils import z85

from benchmarks.rogue_reset import DELAYS_S, attempt
from benchmarks.rogues.cast import CURVE_GREETING, Rogue
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope
from gossipdistill.presence import Enrolment, Enrolments
from gossipdistill.wire.codec import encode

_HELD_MAX = 6000
"""Connections that a rogue holds itself."""


class FastConnections(Rogue):
    """Ten thousand connections, each closed at once."""

    def act(self, until_s: float) -> None:
        for number in range(int(10_000 * self.target.scale)):
            if time.monotonic() > until_s:
                break
            with contextlib.suppress(OSError):
                self.dial(self.target.ports()[number % 2]).close()


class SlowConnections(Rogue):
    """A hundred connections a second, all held."""

    def act(self, until_s: float) -> None:
        with contextlib.ExitStack() as held:
            while time.monotonic() < until_s:
                with contextlib.suppress(OSError):
                    held.enter_context(self.dial(self.target.ports()[self.done.get("connections", 0) % 2]))
                time.sleep(0.01)


class HalfCurve(Rogue):
    """Handshakes of CURVE that end after a genuine first word, by the thousand; in an open run after the greeting."""

    def act(self, until_s: float) -> None:
        word = CURVE_GREETING + (hello(self.target.public) if self.target.public else b"")
        with contextlib.ExitStack() as held:
            for number in range(int(_HELD_MAX * self.target.scale)):
                if time.monotonic() > until_s:
                    break
                with contextlib.suppress(OSError):
                    one = held.enter_context(self.dial(self.target.ports()[number % 2]))
                    one.sendall(word)
            time.sleep(max(0.0, until_s - time.monotonic()))


class UnknownKeys(Rogue):
    """As many keys that nobody knows as it can make, each with a proof that is wrong."""

    def act(self, until_s: float) -> None:
        context = zmq.Context()
        context.set(zmq.MAX_SOCKETS, 1000)
        held: list[zmq.Socket[bytes]] = []
        while time.monotonic() < until_s:
            public, secret = zmq.curve_keypair()
            one = context.socket(zmq.DEALER)
            one.setsockopt(zmq.LINGER, 0)
            if self.target.public:
                one.setsockopt(zmq.CURVE_SERVERKEY, self.target.public)
                one.setsockopt(zmq.CURVE_PUBLICKEY, public)
                one.setsockopt(zmq.CURVE_SECRETKEY, secret)
            one.connect(f"tcp://{self.target.host}:{self.target.port}")
            name = PeerName(f"x{len(self.done)}{random.randrange(10**9)}")
            record = Enrolment(name, public.decode(), 1, "0" * 64)
            self.say(one, encode(Envelope(name, Boot(1), "", 0, Enrolments("rogues", (record,)))))
            self.count("keys")
            held.append(one)
            if len(held) > 300:
                held.pop(0).close()
            time.sleep(0.002)
        context.destroy(linger=0)


class PingAndReset(Rogue):
    """A ping behind a full queue, then a reset: what ended a process in libzmq 4.3.5."""

    def act(self, until_s: float) -> None:
        flips = random.Random(1)
        while time.monotonic() < until_s:
            port = self.target.ports()[self.done.get("resets", 0) % 2]
            with contextlib.suppress(OSError):
                public, pair = self.target.public or None, self.target.keys.get("eve")
                attempt((self.target.host, port), public, pair, flips.choice(DELAYS_S), 40 if port % 2 else 700)
            self.count("resets")


FLOODS: dict[str, type[Rogue]] = {
    "10,000 connections at once": FastConnections,
    "100 connections a second, held": SlowConnections,
    "half handshakes of CURVE": HalfCurve,
    "keys that nobody knows": UnknownKeys,
    "a ping and a reset": PingAndReset,
}


@cache
def hello(public: bytes) -> bytes:
    """The first word of a client of CURVE (RFC 26) to the server of this key, made with the libsodium of pyzmq; empty
    where that is not to be found."""
    found = list((Path(zmq.__file__).parents[1] / "pyzmq.libs").glob("libsodium*"))
    if not found:
        return b""
    mine, secret = map(z85.decode, zmq.curve_keypair())
    number, box = (1).to_bytes(8, "big"), ctypes.create_string_buffer(80)
    nonce = b"CurveZMQHELLO---" + number
    library = ctypes.CDLL(str(found[0]))
    library.crypto_box_easy(box, bytes(64), ctypes.c_ulonglong(64), nonce, z85.decode(public), secret)
    return b"\x04\xc8\x05HELLO\x01\x00" + bytes(72) + mine + number + box.raw

"""Rogues who take part: each has a key of the run, or in a run without keys a name, greets, answers and then lies.

The others, who are strangers, are in rogue_cast.py. A lie is told to one peer, over real sockets.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import zmq

from benchmarks.rogues.cast import MIB, Rogue
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import (
    ArrayLayout,
    Confirm,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Payload,
    Piece,
    Receipt,
    ReliableMessage,
    State,
    StatusQuery,
    Verdict,
    Want,
)
from gossipdistill.presence import (
    NOWHERE,
    Ack,
    Address,
    Claim,
    ClaimKind,
    Greeting,
    Ping,
    PingRequest,
    Refusal,
    RefusalCode,
)
from gossipdistill.wire.codec import decode, encode
from gossipdistill.wire.errors import WireError

_READY_WITHIN_S = 20.0
_MODEL_WITHIN_S = 3.0
_TINY = Payload((ArrayLayout("x", (1,), "raw", 4),), bytes(4))
_FAR_BOOT = 2**63 - 1


@dataclass
class Insider(Rogue):
    """Takes part as `eve`: greets, answers pings, confirms what comes, and says what comes that it is absorbed."""

    strategy: ClassVar[str] = "gossip_averaging"
    """Of the run in which it acts."""
    boot: int = 0
    their_boot: int = 0
    given: State | ReliableMessage | None = None
    """The last model that it was given."""

    def prepare(self) -> None:
        self._open = contextlib.ExitStack()
        pair = self.target.keys.get("eve")
        self.sockets = [self._open.enter_context(self.dealer(port, pair)) for port in self.target.ports()]
        for one in self.sockets:
            one.setsockopt(zmq.SNDHWM, 1000)
        self.boot = self.boot or int(time.time() * 1000)
        end_s = time.monotonic() + _READY_WITHIN_S
        while not self.their_boot and time.monotonic() < end_s:
            self.tell(self.greeting(self.target.fingerprint))
            self.hear(0.2)
        assert self.their_boot, "nobody answered"
        self.serve(_MODEL_WITHIN_S)

    def greeting(self, fingerprint: dict[str, str]) -> Greeting:
        """Who I am."""
        place, address = self.target.places.get("eve", (2, NOWHERE))
        return Greeting(address, place, fingerprint, (), True)

    def tell(self, message: Message, boot: int | None = None, sender: str = "eve", to_boot: int | None = None) -> bool:
        """Say this, if the socket takes it."""
        envelope = Envelope(
            PeerName(sender),
            Boot(self.boot if boot is None else boot),
            self.target.name,
            self.their_boot if to_boot is None else to_boot,
            message,
        )
        is_data = isinstance(message, State | ReliableMessage | Piece)
        frames = encode(envelope)
        with contextlib.suppress(zmq.ZMQError):
            self.sockets[is_data].send_multipart(frames, zmq.NOBLOCK)
            self.count("messages")
            self.count("bytes", sum(map(len, frames)))
            return True
        return False

    def hear(self, wait_s: float = 0.0) -> None:
        """Take what has come, and answer."""
        poller = zmq.Poller()
        for one in self.sockets:
            poller.register(one, zmq.POLLIN)
        for one, _ in poller.poll(int(1000 * wait_s)):
            with contextlib.suppress(zmq.Again):
                for _ in range(64):
                    with contextlib.suppress(WireError):
                        envelope = decode(one.recv_multipart(zmq.NOBLOCK))
                        self.their_boot = envelope.boot
                        self.answer(envelope.message)

    def answer(self, message: Message) -> None:
        """As an honest peer does, more or less."""
        match message:
            case Greeting() if message.reply_wanted:
                self.tell(self.greeting(self.target.fingerprint))
            case Ping():
                self.tell(Ack(message.number, 10, False))
            case State():
                self.given = message if not message.topic.startswith("@") else self.given
                self.tell(Confirm(message.topic, message.key, message.number))
            case ReliableMessage():
                self.given = message
                self.tell(Receipt(message.topic, message.number, Verdict.ABSORBED))

    def serve(self, seconds: float) -> None:
        """Be honest for so long, or until a model was given."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and self.given is None:
            self.hear(0.05)

    def idle(self) -> None:
        self.hear(0.02)

    def paced(self, until_s: float, per_s: float) -> Iterator[int]:
        """Numbers from 1 at this rate, until then; in between what comes is answered."""
        began_s, number = time.monotonic(), 0
        while (now := time.monotonic()) < until_s:
            if number < per_s * (now - began_s):
                number += 1
                yield number
            else:
                self.hear(0.001)
        self._open.close()

    def act(self, until_s: float) -> None:
        for number in self.paced(until_s, self.per_s):
            self.lie(number)

    per_s: ClassVar[float] = 20.0

    def lie(self, number: int) -> None:
        """One word of the attack."""

    def model(self, value: float) -> Payload:
        """A body of the shape that it was given, full of this number."""
        if self.given is None:
            return _TINY
        layout = tuple(
            ArrayLayout(one.name, one.shape, "raw", 4 * int(np.prod(one.shape))) for one in self.given.payload.layout
        )
        size = sum(one.nbytes for one in layout)
        return Payload(layout, np.full(size // 4, value, dtype="<f4").tobytes())

    def state(self, content: Payload, number: int) -> State:
        """News of the slot of which it was given one."""
        given = self.given
        topic, key = (given.topic, given.key) if isinstance(given, State) else ("x", "")
        return State(number, Content(topic, content, number, number, key=key))


class Lazy(Insider):
    """Confirms nothing, asks for ever, announces what it never sends."""

    def answer(self, message: Message) -> None:
        if not isinstance(message, State | ReliableMessage):
            super().answer(message)

    def lie(self, number: int) -> None:
        if isinstance(self.given, State):
            self.tell(Want(self.given.topic, self.given.key, number))


class Superseded(Insider):
    """Says that another process has taken over."""

    def lie(self, number: int) -> None:
        self.tell(Refusal(RefusalCode.SUPERSEDED, "a lie"), to_boot=0)


class OtherFingerprint(Insider):
    """Refuses its peer for a setting that differs."""

    def lie(self, number: int) -> None:
        self.tell(Refusal(RefusalCode.FINGERPRINT, "task: digits here, other there"), to_boot=0)


class FarBoot(Insider):
    """Comes with the highest number of a start that there is."""

    def lie(self, number: int) -> None:
        self.tell(self.greeting(self.target.fingerprint), boot=_FAR_BOOT)
        self.tell(Ping(number, 1, False), boot=_FAR_BOOT)


class HugeState(Insider):
    """A model of 3e38 everywhere."""

    def lie(self, number: int) -> None:
        self.tell(self.state(self.model(3e38), number))


class NoiseState(Insider):
    """A model of noise, as large as an honest one."""

    def lie(self, number: int) -> None:
        content = self.model(0.0)
        noise = np.random.default_rng(number).normal(0.0, 0.05, len(content.body) // 4).astype("<f4")
        self.tell(self.state(Payload(content.layout, noise.tobytes()), number))


class HeavyMass(Insider):
    """A parcel of the weight 1e9."""

    strategy = "sgp"
    per_s = 5.0
    weight: ClassVar[float] = 1e9
    value: ClassVar[float] = 1e9

    def lie(self, number: int) -> None:
        topic = self.given.topic if self.given is not None else "mass"
        content = Content(topic, self.model(self.value), number, number, "", DeliveryClass.MASS, self.weight, 1)
        self.tell(ReliableMessage(number, content))


class HugeMass(HeavyMass):
    """A parcel of an honest weight whose numbers are 3e38."""

    weight = 0.1
    value = 3e38


class Absorber(Insider):
    """Takes all mass that it is given, and gives none."""

    strategy = "sgp"


class Churn(Insider):
    """Starts anew 1,500 times a second."""

    strategy = "sgp"
    per_s = 1500.0

    def lie(self, number: int) -> None:
        self.boot += 1
        self.tell(self.greeting(self.target.fingerprint))


class Topics(Insider):
    """Endless topics of four megabytes each."""

    per_s = 100.0

    def lie(self, number: int) -> None:
        content = Payload((ArrayLayout("x", (MIB,), "raw", 4 * MIB),), bytes(4 * MIB))
        self.tell(State(1, Content(f"t{number}", content, 1, 1)))


class Pieces(Insider):
    """Bodies of 64 megabytes in pieces, half of them never whole."""

    per_s = 10.0

    def lie(self, number: int) -> None:
        block, topic = bytes(4 * MIB), f"p{number % 250}"
        layout = (ArrayLayout("x", (16 * MIB,), "raw", 64 * MIB),)
        self.tell(State(number, Content(topic, Payload(layout, block), 1, 1)))
        for place in range(1, 16 if number % 2 else 8):
            self.tell(Piece(DeliveryClass.STATE, topic, "", number, place * 4 * MIB, block))


class Greetings(Insider):
    """Greets 1,500 times a second."""

    per_s = 1500.0

    def lie(self, number: int) -> None:
        self.tell(self.greeting({**self.target.fingerprint, "run": str(number)}))


class SmallMessages(Insider):
    """Twenty thousand small states a second."""

    per_s = 20_000.0

    def lie(self, number: int) -> None:
        self.tell(State(number, Content(f"s{number % 300}", _TINY, 1, 1)))


class Questions(Insider):
    """Asks 4,500 times a second for others, and for parcels that never were."""

    per_s = 4500.0

    def lie(self, number: int) -> None:
        self.tell(PingRequest(number, PeerName("bo")) if number % 2 else StatusQuery(f"z{number % 5}", 0))


class Claims(Insider):
    """Says that others are dead, and invents some."""

    per_s = 200.0

    def lie(self, number: int) -> None:
        flips = random.Random(number)
        dead = Claim(PeerName("bo"), _FAR_BOOT >> 12, flips.choice((0, 5, 15, 2**62)), ClaimKind.DEAD, PeerName("eve"))
        invented = tuple(
            Claim(
                PeerName(f"n{flips.randrange(10**9)}"),
                flips.randrange(2**62),
                0,
                ClaimKind.ALIVE,
                PeerName("eve"),
                Address("127.0.0.1", 9),
                0,
            )
            for _ in range(10)
        )
        self.tell(Ping(number, 2**62, True, (dead, *invented)))


class ManyFrames(Insider):
    """Messages of a hundred thousand empty frames."""

    per_s = 2.0

    def lie(self, number: int) -> None:
        with contextlib.suppress(zmq.ZMQError):
            frames = [b""] * int(100_000 * self.target.scale)
            self.sockets[number % 2].send_multipart(frames)
            self.count("frames", len(frames))


class TwoAtOnce(Insider):
    """Two processes with one key and one name, each newer than the other in turn."""

    def lie(self, number: int) -> None:
        self.boot += 1
        for _ in range(2):
            self.tell(self.greeting(self.target.fingerprint), boot=self.boot - number % 2)
            self.tell(self.state(self.model(0.0), number), boot=self.boot - number % 2)


INSIDERS: dict[str, type[Rogue]] = {
    "a member that gives nothing back": Lazy,
    '"superseded", as a lie': Superseded,
    '"another fingerprint", as a lie': OtherFingerprint,
    "the highest boot there is": FarBoot,
    "a model of 3e38": HugeState,
    "a model of noise": NoiseState,
    "mass of the weight 1e9": HeavyMass,
    "mass of 3e38": HugeMass,
    "a member that absorbs all mass": Absorber,
    "1,500 starts a second": Churn,
    "endless topics": Topics,
    "large bodies in pieces": Pieces,
    "1,500 greetings a second": Greetings,
    "20,000 small states a second": SmallMessages,
    "4,500 questions a second": Questions,
    "deaths and members that are invented": Claims,
    "messages of 100,000 frames": ManyFrames,
    "two processes of one name": TwoAtOnce,
}

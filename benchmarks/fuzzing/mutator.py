"""Frames that a misbehaving peer might send: valid ones of every kind, spoilt with knowledge of their structure.

All chance comes from one `random.Random`, so a seed, a hypothesis example or a coverage-guided fuzzer can drive it.
Half of what it says answers something that the target has said before (receipts, confirmations, wishes,
acknowledgements of real and of invented numbers), since blind rubbish never gets past the first comparison.
"""

from __future__ import annotations

import copy
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    Announce,
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
    Ack,
    Address,
    Claim,
    ClaimKind,
    Contact,
    Greeting,
    Leave,
    Nack,
    Ping,
    PingRequest,
    Refusal,
    RefusalCode,
)
from gossipdistill.wire.codec import encode
from gossipdistill.wire.encodings import ENCODINGS
from gossipdistill.wire.encodings.raw import CARRIERS
from gossipdistill.wire.pieces import split

Frames = list[bytes]
FINGERPRINT = {"run": "fuzz", "task": "digits"}
STRANGERS = ("mallory", "zed", "x" * 64, "0", "a.b-c_d")
TOPICS = ("weights", "mass", "stream", "outputs")
_BOOT_MAX = 2**50
_EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 65_535, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -1, -(2**63))
_WILD: tuple[Any, ...] = (
    None,
    True,
    False,
    0.0,
    -0.0,
    1.5,
    -1.0,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    "",
    "ada",
    "ADA",
    "state",
    "mass",
    "stream",
    "dead",
    "held",
    "absorbed",
    "\x1b[2J",
    "two\nlines",
    "x" * 1024,
    "x" * 1025,
    "\U0001f98a" * 300,
    [],
    [[]],
    [[[[]]]],
    {},
    {"a": "b"},
    {"a": {"b": []}},
    [None] * 9,
    [0] * 70,
    "../../etc",
    "127.0.0.1",
    "\u202eevil",
)


def place_address(place: int) -> Address:
    """Where the member at this place of the roster listens."""
    return Address("10.0.0.1", 7400 + 2 * place)


@dataclass(slots=True)
class Mutator:
    """Speaks to the process `my_boot` of `names[0]` in the names of all the others, and of strangers."""

    chance: random.Random
    names: Sequence[str]
    my_boot: int
    limits: Limits
    spared: frozenset[str] = frozenset()
    """Members in whose names it does not speak: a driver lets nobody claim the name of another."""
    boots: dict[str, int] = field(default_factory=dict)
    _heard: deque[Envelope] = field(default_factory=lambda: deque(maxlen=64))
    _said: deque[Frames] = field(default_factory=lambda: deque(maxlen=64))

    def overhear(self, envelope: Envelope) -> None:
        """What the target has sent, to answer it."""
        self._heard.append(envelope)

    def greet_anew(self, name: str) -> Frames:
        """A new process of a member introduces itself, in order."""
        # Far ahead, now and then: as far as a liar has claimed, and the name would be lost for the rest of the run.
        self.boots[name] = self.boots.get(name, 1000) + self.chance.choice((1, 1, 1, 2 * 10**9))
        place = self.names.index(name)
        greeting = Greeting(place_address(place), place, FINGERPRINT)
        said = Envelope(PeerName(name), Boot(self.boots[name]), self.names[0], self.my_boot, greeting)
        return [bytes(frame) for frame in encode(said)]

    def messages(self) -> list[Frames]:
        """What comes next: one message, or one and its pieces; as it should be, or spoilt."""
        if self._said and self._one_in(20):
            return [self.chance.choice(self._said)]  # again, in the words of before
        trains = [[bytes(frame) for frame in encode(part)] for part in split(self._envelope(), self.limits)]
        if self._one_in(8):
            self.chance.shuffle(trains)
        elif len(trains) > 1 and self._one_in(6):
            trains.insert(self.chance.randrange(len(trains)), self.chance.choice(trains))
        spoilt = [self._spoil(frames) if self.chance.random() < 0.45 else frames for frames in trains]
        self._said.append(spoilt[0])
        return spoilt

    # --- as it should be -----------------------------------------------------------------------------------------

    def _one_in(self, count: int) -> bool:
        return self.chance.randrange(count) == 0

    def number(self) -> int:
        return self.chance.choice((self.chance.randrange(12), self.chance.randrange(300), self.chance.randrange(2**62)))

    def name(self) -> PeerName:
        return PeerName(self.chance.choice(STRANGERS if self._one_in(12) else self.names))

    def _boot_of(self, name: str) -> int:
        boot = self.boots.setdefault(name, 1000)
        if name == self.names[0]:
            boot = self.my_boot
        return boot + self.chance.choice((1, -1, 10**9)) if self._one_in(25) else boot

    def _envelope(self) -> Envelope:
        answering = self._heard and self._one_in(2)
        if answering:
            heard = self.chance.choice(self._heard)
            message = self._answer(heard.message)
            sender = PeerName(heard.to) if heard.to and not self._one_in(8) else self.name()
        else:
            message, sender = self.chance.choice(_MAKERS)(self), self.name()
        if sender in self.spared:
            sender = PeerName(self.chance.choice(STRANGERS))
        to = self.names[0] if not self._one_in(15) else self.chance.choice(("", *self.names))
        to_boot = self.my_boot if not self._one_in(12) else self.chance.choice((0, 1, self.my_boot - 1, self.number()))
        return Envelope(sender, Boot(max(self._boot_of(sender), 0)), to, to_boot, message)

    def _answer(self, message: Message) -> Message:
        """To what the target said: honest mostly, about a neighbouring number else."""
        lie = self.chance.choice((0, 0, 0, 0, 1, -1, self.number()))
        number = max(getattr(message, "number", 0) + lie, 0)
        match message:
            case Ping() | PingRequest():
                about = message.target if isinstance(message, PingRequest) else ""
                if self._one_in(5):
                    return Nack(number, self._claims())
                told = (about, max(self._boot_of(about or "bo"), 0), self._refutation())
                return Ack(number, self.number(), self._one_in(9), self._claims(), *told)
            case ReliableMessage() | StatusQuery():
                verdict = self.chance.choice(list(Verdict))
                return Receipt(message.topic, number, verdict, self.chance.choice(("", "not finite")))
            case State():
                return Confirm(message.topic, message.key, number)
            case Announce():
                return Want(message.topic, message.key, number)
            case Want() | Confirm():
                return State(number, Content(message.topic, self._payload(), 1, 1, key=message.key))
            case Receipt():
                return StatusQuery(message.topic, number)
        return self.chance.choice(_MAKERS)(self)

    def _claims(self) -> tuple[Claim, ...]:
        """About members, strangers and the target itself, whose refutation and boot they may well exceed."""
        return tuple(self._claim() for _ in range(self.chance.choice((0, 0, 1, 2, 8))))

    def _refutation(self) -> int:
        return self.chance.choice((0, 0, 0, 1, 2, 16, 17, self.number()))

    def _claim(self) -> Claim:
        name = PeerName(self.names[0]) if self._one_in(4) else self.name()
        incarnation = self._refutation()
        where = self._address() if self._one_in(3) else None
        kind = self.chance.choice(list(ClaimKind))
        return Claim(name, max(self._boot_of(name), 0), incarnation, kind, self.name(), where, self.chance.randrange(9))

    def _address(self) -> Address:
        known = place_address(self.chance.randrange(len(self.names)))
        return self.chance.choice((known, known, Address("", 0), Address("h" * 255, 65_534), Address("::1", 1)))

    def _payload(self) -> Payload:
        layout = []
        for index in range(self.chance.choice((0, 1, 1, 1, 2, 3))):
            shape = tuple(self.chance.randrange(1, 9) for _ in range(self.chance.randrange(4)))
            nbytes = 4 * math.prod(shape)
            encoding = self.chance.choice([*ENCODINGS, "zip", "top_k:3"])
            layout.append(ArrayLayout(f"w{index}", shape, encoding, nbytes, self.chance.choice(sorted(CARRIERS))))
        return Payload(tuple(layout), self.chance.randbytes(sum(array.nbytes for array in layout)))

    def _topic(self) -> str:
        return self.chance.choice(TOPICS) if not self._one_in(10) else f"topic {self.chance.randrange(10**6)}"

    def _greeting(self) -> Greeting:
        place = self.chance.randrange(len(self.names) + 2)
        prints = FINGERPRINT if not self._one_in(6) else {"run": "another"}
        known = tuple(
            Contact(self.name(), self._address(), self.chance.randrange(9)) for _ in range(self.chance.randrange(3))
        )
        features = self.chance.choice(((), (), ("deltas",), ("f" * 32,) * 32))
        return Greeting(self._address(), place, prints, known, self._one_in(2), features)

    def _consignment(self) -> ReliableMessage:
        delivery = self.chance.choice((DeliveryClass.MASS, DeliveryClass.STREAM))
        weight = self.chance.choice((0.0, 0.25, 1.0, 1e9, 5e-324))
        topic = delivery.value if not self._one_in(4) else self._topic()
        number, payload, degree = self.number(), self._payload(), self.chance.randrange(9)
        return ReliableMessage(number, Content(topic, payload, 1, 1, "", delivery, weight, degree))

    def _state(self) -> State:
        confirms = tuple(Confirm(self._topic(), "", self.number()) for _ in range(self.chance.randrange(3)))
        key = self.chance.choice(("", "", "k"))
        return State(self.number(), Content(self._topic(), self._payload(), self.number(), 1, key=key), confirms)

    def _piece(self) -> Piece:
        size = self.limits.piece_bytes_max
        offset = self.chance.choice((0, size, 2 * size, size - 1, size + 1, 2**63 - 1 - size, self.number()))
        body = self.chance.randbytes(self.chance.choice((0, 1, size - 1, size)))
        return Piece(self.chance.choice(list(DeliveryClass)), self._topic(), "", self.number(), offset, body)

    # --- spoilt --------------------------------------------------------------------------------------------------

    def _spoil(self, frames: Frames) -> Frames:
        if self._one_in(8):
            return self._spoil_bytes(frames)
        head = msgpack.unpackb(frames[0])
        for _ in range(self.chance.choice((1, 1, 1, 2, 3))):
            self._spoil_list(head, first=6 if not self._one_in(10) else 0)
        if len(head) > 3 and isinstance(head[3], int) and head[3] > _BOOT_MAX and not self._one_in(500):
            head[3] = self.my_boot  # one greeting with the largest number there is ends a name for ever: seldom
        spoilt = [msgpack.packb(head), *frames[1:]]
        if len(spoilt) > 1 and self._one_in(3):
            spoilt[1] = self._cut_or_grown(spoilt[1])
        return spoilt

    def _spoil_list(self, entries: list[Any], first: int) -> None:
        """One change to a list of the head, or to a list within it."""
        if len(entries) <= first:
            entries.append(self._wild())
            return
        index = self.chance.randrange(first, len(entries))
        inner = entries[index]
        if isinstance(inner, list) and inner and not self._one_in(4):
            self._spoil_list(inner, 0)
            return
        match self.chance.randrange(8):
            case 7:
                entries.append(self._wild())  # as a later release may
            case 0:
                del entries[index]
            case 1:
                entries.insert(index, self._wild())
            case 2:
                entries.insert(index, inner)
            case 3:
                other = self.chance.randrange(first, len(entries))
                entries[index], entries[other] = entries[other], entries[index]
            case 4 if isinstance(inner, list):
                entries[index] = inner * self.chance.choice((2, 9, 300))
            case _ if isinstance(inner, int) and not isinstance(inner, bool) and not self._one_in(4):
                entries[index] = self._near(inner)
            case _:
                entries[index] = self._wild()

    def _near(self, number: int) -> int:
        near = self.chance.choice((number + 1, number - 1, 2 * number, number // 2, number + 16, -number))
        return min(max(self.chance.choice((near, near, self.chance.choice(_EDGES))), -(2**63)), 2**64 - 1)

    def _wild(self) -> Any:
        # A copy: what is spoilt further must not be spoilt for ever.
        return self.chance.choice((copy.deepcopy(self.chance.choice(_WILD)), self.chance.choice(_EDGES), self._near(7)))

    def _spoil_bytes(self, frames: Frames) -> Frames:
        index = self.chance.randrange(len(frames))
        data = frames[index]
        match self.chance.randrange(7):
            case 0:
                return frames + [data] * self.chance.randrange(1, 3)
            case 1:
                return frames[:index]
            case 2 if self._said:
                other = self.chance.choice(self._said)
                cut = self.chance.randrange(len(data) + 1)
                data = data[:cut] + (other[0][cut:] if other else b"")
            case 3:
                data = self._cut_or_grown(data)
            case 4:
                data = self.chance.choice((b"\x91", b"\x9f", b"\xdd\x7f\xff\xff\xff", b"\x81\xa1x")) * 400
            case _:
                data = self._bits_turned(data)
        return [*frames[:index], data, *frames[index + 1 :]]

    def _bits_turned(self, data: bytes) -> bytes:
        turned = bytearray(data)
        for _ in range(self.chance.choice((1, 1, 2, 8))):
            if turned:
                turned[self.chance.randrange(len(turned))] ^= 1 << self.chance.randrange(8)
        return bytes(turned)

    def _cut_or_grown(self, data: bytes) -> bytes:
        if self._one_in(2):
            return data[: self.chance.randrange(len(data) + 1)]
        return data + self.chance.randbytes(self.chance.choice((1, 4, self.limits.piece_bytes_max)))


_MAKERS: tuple[Callable[[Mutator], Message], ...] = (
    Mutator._greeting,
    lambda m: Refusal(m.chance.choice(list(RefusalCode)), "because", m.chance.choice(("", m.name()))),
    lambda m: Announce(m._topic(), "", m.number(), m.number()),
    lambda m: Want(m._topic(), "", m.number()),
    lambda m: Confirm(m._topic(), "", m.number()),
    lambda m: Leave("finished", m._one_in(2)) if m._one_in(5) else Ping(m.number(), 1, False),
    lambda m: Ping(m.number(), m.number(), m._one_in(2), m._claims(), m._refutation()),
    lambda m: PingRequest(m.number(), m.name(), m._claims()),
    lambda m: Ack(
        m.number(), m.number(), False, m._claims(), m.chance.choice(("", m.name())), m.number(), m._refutation()
    ),
    lambda m: Nack(m.number(), m._claims()),
    lambda m: Receipt(m._topic(), m.number(), m.chance.choice(list(Verdict)), "because"),
    lambda m: StatusQuery(m._topic(), m.number()),
    Mutator._consignment,
    Mutator._state,
    Mutator._state,
    Mutator._piece,
)

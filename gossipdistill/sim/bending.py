"""Every kind of message with every field mutated, one at a time, including the fields of nested records.

A number becomes the least and the greatest, one more and one less, negative; a text becomes empty, long, unprintable or
another's; a list empty, doubled and longer than allowed; a word each of the others; a body shorter, longer, or full of
non-finite numbers. The type of a field determines its mutations. An unknown type is an error, so that a new field of a
message is mutated as soon as it exists (tests/sim/test_bending.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_type_hints

from gossipdistill.ids import Boot, PeerName
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
    Enrolment,
    Enrolments,
    Greeting,
    Here,
    Leave,
    Nack,
    Ping,
    PingRequest,
    Refusal,
    RefusalCode,
)
from gossipdistill.wire.codec import WIRE_VERSION

_CONTENT = get_type_hints(Content)
_TRAVELLING: dict[type, tuple[str, ...]] = {
    State: ("topic", "key", "number", "step", "exchange", "payload", "confirms"),
    ReliableMessage: ("topic", "number", "step", "exchange", "delivery", "weight", "degree", "payload"),
}
_LONG = 300
"""A list with this many entries is longer than most may be."""
_NUMBERS = (-1, 0, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_WEIGHTS = (-1.0, 0.0, -0.0, 5e-324, 1e9, 1e308, math.inf, -math.inf, math.nan)
_TEXTS = ("", "x", "x" * 1024, "x" * 1025, "\x1b[2J", "two\nlines", "\u202eevil", "../../etc", "\U0001f98a" * 64)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts for a mutated message: its sender, the names and boots of others, and the existing topics."""

    me: PeerName
    address: Address
    place: int
    others: tuple[PeerName, ...]
    boots: tuple[int, ...]
    fingerprint: Mapping[str, str]
    state: str
    mass: str
    stream: str


def specimens(facts: Facts) -> dict[type, Message]:
    """A message of each kind as an honest member might send it, with a value in each field."""
    other, boot = facts.others[0], facts.boots[0]
    claims = (Claim(other, boot, 1, ClaimKind.ALIVE, facts.me, facts.address, facts.place),)
    body = bytes(12)
    payload = Payload((ArrayLayout("x", (3,), "raw", len(body)),), body)
    contacts, enrolment = (Contact(other, facts.address, facts.place),), Enrolment(facts.me, "k" * 40, boot, "0" * 64)
    confirms = (Confirm(facts.state, "", 1),)
    told: list[Message] = [
        Greeting(facts.address, facts.place, dict(facts.fingerprint), contacts, True, ("a",)),
        Refusal(RefusalCode.WRONG_NAME, "not here", other, WIRE_VERSION),
        Announce(facts.state, "", 1, len(body)),
        Want(facts.state, "", 1),
        Confirm(facts.state, "", 1),
        Leave("finished", True, ((facts.mass, 1),)),
        State(1, Content(facts.state, payload, 1, 1), confirms),
        Ping(1, 1, False, claims),
        PingRequest(1, other, claims),
        Ack(1, 1, False, claims, other, boot, 1),
        Nack(1, claims),
        Receipt(facts.mass, 1, Verdict.HELD, "why"),
        StatusQuery(facts.mass, 1),
        ReliableMessage(1, Content(facts.mass, payload, 1, 1, delivery=DeliveryClass.MASS, weight=0.25, degree=1)),
        Piece(DeliveryClass.STATE, facts.state, "", 1, 0, body),
        Here(),
        Enrolments("run", (enrolment,)),
    ]
    return {type(message): message for message in told}


def bends(record: Any, facts: Facts) -> Iterator[tuple[str, Any]]:
    """(field, the record with that field mutated), for a message or for a record in one. Fields are named as in
    "Ping.claims.Claim.boot"."""
    kind = type(record)
    for name, hint in _fields(kind).items():
        for path, value in _bent(getattr(record, name), hint, facts):
            yield f"{kind.__name__}.{name}{path}", _with(record, name, value)


def _with(record: Any, name: str, value: Any) -> Any:
    if isinstance(record, tuple):
        return record._replace(**{name: value})  # type: ignore[attr-defined]
    if isinstance(record, State | ReliableMessage) and name in _CONTENT:
        return record.with_content(**{name: value})
    return dataclasses.replace(record, **{name: value})


def bent_envelopes(envelope: Envelope, facts: Facts) -> Iterator[Envelope]:
    """The same for the envelope, except its sender: that is the one whose key its connection has proved."""
    yield from (dataclasses.replace(envelope, boot=Boot(boot)) for boot in _number(envelope.boot, facts))
    yield from (dataclasses.replace(envelope, to=to) for to in _text(envelope.to, facts))
    yield from (dataclasses.replace(envelope, to_boot=boot) for boot in _number(envelope.to_boot, facts))


def fields_of(kind: type) -> Iterator[str]:
    """The names of all fields, as `bends` gives them, from the types alone."""
    for name, hint in _fields(kind).items():
        if not _is_record(hint):
            yield f"{kind.__name__}.{name}"
        for inner in _records_in(hint):
            yield from (f"{kind.__name__}.{name}.{path}" for path in fields_of(inner))


def _fields(kind: type) -> dict[str, Any]:
    """The type of each field of a record; for a message with a content, all that is on the wire, in its order there."""
    hints = get_type_hints(kind)
    if kind in _TRAVELLING:
        hints |= _CONTENT
        return {name: hints[name] for name in _TRAVELLING[kind]}
    named: tuple[str, ...] = getattr(kind, "_fields", ()) or tuple(one.name for one in dataclasses.fields(kind))
    return {name: hints[name] for name in named}


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"))


def _records_in(hint: Any) -> Iterator[type]:
    if _is_record(hint):
        yield hint
    else:
        for inner in get_args(hint):
            yield from _records_in(inner)


def _bent(value: Any, hint: Any, facts: Facts) -> Iterator[tuple[str, Any]]:
    """(the path within the value, the mutated value)."""
    known = _OF_TYPE.get(hint)
    if known is not None:
        yield from (("", bent) for bent in known(value, facts))
    elif isinstance(hint, type) and issubclass(hint, StrEnum):
        yield from (("", word) for word in hint if word is not value)
    elif _is_record(hint):
        yield from ((f".{path}", bent) for path, bent in bends(value, facts))
    elif getattr(hint, "__origin__", None) is tuple:
        yield from _bent_tuple(value, get_args(hint), facts)
    elif NoneType in get_args(hint):
        (inner,) = (one for one in get_args(hint) if one is not NoneType)
        yield "", None
        yield from _bent(value, inner, facts) if value is not None else ()
    else:
        raise TypeError(f"no way is known to bend a field of type {hint}")


def _bent_tuple(value: tuple[Any, ...], of: tuple[Any, ...], facts: Facts) -> Iterator[tuple[str, Any]]:
    if of[-1] is not Ellipsis:
        for place, inner in enumerate(of):
            for path, bent in _bent(value[place], inner, facts):
                yield path, (*value[:place], bent, *value[place + 1 :])
        return
    yield "", ()
    if value:
        yield "", value + value
        yield "", value * _LONG
        for path, bent in _bent(value[0], of[0], facts):
            yield path, (bent, *value[1:])


def _number(value: int, facts: Facts) -> Iterator[int]:
    told = dict.fromkeys((*_NUMBERS, value - 1, value + 1, value + 1000, *facts.boots))
    yield from (number for number in told if number != value)


def _text(value: str, facts: Facts) -> Iterator[str]:
    told = dict.fromkeys((*_TEXTS, value + "x", facts.me, facts.state, facts.mass, facts.stream, *facts.others))
    yield from (text for text in told if text != value)


def _weight(value: float, facts: Facts) -> Iterator[float]:
    yield from (*_WEIGHTS, 1e6 * value)


def _body(value: Any, facts: Facts) -> Iterator[bytes]:
    body = bytes(value)
    yield from (b"", body[:-1], body + b"\0", b"\xff" * len(body), b"\x00\x00\x80\x7f" * (len(body) // 4))


def _table(value: Mapping[str, str], facts: Facts) -> Iterator[dict[str, str]]:
    yield {}
    yield {**value, "run": "another"}
    yield {**value, "one more": "entry"}
    yield {f"entry {number}": "x" * 1024 for number in range(_LONG)}


_OF_TYPE: dict[Any, Callable[[Any, Facts], Iterator[Any]]] = {
    int: _number,
    Boot: _number,
    bool: lambda value, facts: iter([not value]),
    float: _weight,
    str: _text,
    PeerName: _text,
    bytes | memoryview: _body,
    Mapping[str, str]: _table,
}
"""A plain value is mutated by the type of its field. Words of a closed set, lists and records are mutated by rule."""

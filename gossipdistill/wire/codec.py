"""Envelopes to frames and back.

The law of this file: `decode` either returns a well-formed envelope or raises `WireError` with a named code; nothing
else ever comes out of it, whatever the bytes are, and nothing is allocated on the say-so of a number in a frame.

A control message is one frame, a data message two:

    frame 1   msgpack [wire version, kind, sender, boot, to, field, field, ...]
    frame 2   the payload's body, arrays one after another as the layout in frame 1 says   (data only)

Kinds and fields are append-only: a field is added at the end of its list, a kind gets the next number. The first four
entries keep their place for ever, so that two versions can at least tell one another why they do not talk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgpack

from gossipdistill.ids import Boot, PeerName, is_peer_name
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Address,
    Announce,
    ArrayLayout,
    Confirm,
    Contact,
    Envelope,
    Greeting,
    Heartbeat,
    Leave,
    Message,
    Payload,
    Refusal,
    RefusalCode,
    State,
    Want,
)

WIRE_VERSION = 1

_KINDS: dict[type, int] = {Greeting: 1, Heartbeat: 2, Refusal: 3, Announce: 4, Want: 5, Confirm: 6, Leave: 7, State: 8}
_TEXT_CHARACTERS_MAX = 1024
_NUMBER_MAX = 2**63 - 1


class WireCode(StrEnum):
    """Why bytes were not understood. Append only."""

    PARTS = "parts"
    SIZE = "size"
    NOT_MSGPACK = "not_msgpack"
    HEADER = "header"
    VERSION = "version"
    KIND = "kind"
    SENDER = "sender"
    FIELD = "field"
    LAYOUT = "layout"
    BODY = "body"


class WireError(Exception):
    """Bytes that are no message of this protocol. `sender` and `version` are set when they could be read."""

    def __init__(self, code: WireCode, problem: str, sender: str = "", version: int | None = None) -> None:
        super().__init__(f"{code.value}: {problem}")
        self.code, self.problem, self.sender, self.version = code, problem, sender, version


def encode(envelope: Envelope) -> list[bytes | memoryview]:
    """The frames of an envelope: one for control, two for a state. The payload's body is not copied."""
    message = envelope.message
    head: list[Any] = [WIRE_VERSION, _KINDS[type(message)], envelope.sender, envelope.boot, envelope.to]
    match message:
        case Greeting(address, place, fingerprint, contacts, reply_wanted):
            known = [[c.name, c.address.host, c.address.port, c.place] for c in contacts]
            head += [address.host, address.port, place, dict(fingerprint), known, reply_wanted]
        case Heartbeat(step, done):
            head += [step, done]
        case Refusal(code, detail):
            head += [code.value, detail[:_TEXT_CHARACTERS_MAX]]
        case Announce(topic, key, number, payload_bytes):
            head += [topic, key, number, payload_bytes]
        case Want(topic, key):
            head += [topic, key]
        case Confirm(topic, key, number):
            head += [topic, key, number]
        case Leave(reason):
            head += [reason[:_TEXT_CHARACTERS_MAX]]
        case State(topic, key, number, step, exchange, payload):
            layout = [[a.name, list(a.shape), a.encoding, a.nbytes] for a in payload.layout]
            head += [topic, key, number, step, exchange, layout]
            return [msgpack.packb(head), payload.body]
    return [msgpack.packb(head)]


def decode(frames: Sequence[bytes | memoryview], limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope in these frames. The body stays a view of its frame (no copy).

    Raises:
        WireError: with the code of the first thing that is wrong.
    """
    if not 1 <= len(frames) <= 2:
        raise WireError(WireCode.PARTS, f"{len(frames)} frames, expected 1 or 2")
    head = _unpack(frames[0], limits)
    if len(head) < 5 or not _is_number(head[0]):
        raise WireError(WireCode.HEADER, "expected [version, kind, sender, boot, to, ...]")
    version, kind, sender, boot, to = head[:5]
    claimed = sender if isinstance(sender, str) and is_peer_name(sender) else ""
    if version != WIRE_VERSION:
        raise WireError(WireCode.VERSION, f"wire version {version}, mine is {WIRE_VERSION}", claimed, version)
    if not claimed:
        raise WireError(WireCode.SENDER, "sender is no peer name")
    try:
        if not _is_number(boot) or not isinstance(to, str) or (to and not is_peer_name(to)):
            raise WireError(WireCode.HEADER, "boot or recipient is malformed")
        message = _message(kind, head[5:], frames, limits)
    except WireError as error:
        error.sender = claimed
        raise
    return Envelope(PeerName(sender), Boot(boot), to, message)


def _unpack(frame: bytes | memoryview, limits: Limits) -> list[Any]:
    size = len(frame)
    if size > limits.header_bytes_max:
        raise WireError(WireCode.SIZE, f"header of {size} bytes, at most {limits.header_bytes_max}")
    try:
        # Each length in a frame is checked against the frame's own size, so nothing large is ever allocated.
        head = msgpack.unpackb(
            frame, raw=False, strict_map_key=True, max_str_len=size, max_bin_len=size, max_array_len=size,
            max_map_len=size, max_ext_len=0,
        )  # fmt: skip
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(WireCode.NOT_MSGPACK, type(error).__name__) from None
    if not isinstance(head, list):
        raise WireError(WireCode.HEADER, "not a list")
    return head


def _message(kind: Any, fields: list[Any], frames: Sequence[bytes | memoryview], limits: Limits) -> Message:
    if (kind == _KINDS[State]) != (len(frames) == 2):
        raise WireError(WireCode.PARTS, f"{len(frames)} frames do not fit kind {kind!r:.20}")
    match kind:
        case 1:
            host, port, place, fingerprint, contacts, reply_wanted = _take(fields, 6)
            return Greeting(
                Address(_text(host), _port(port)),
                _number(place),
                _fingerprint(fingerprint),
                tuple(_contact(entry) for entry in _sequence(contacts, limits.peers_max)),
                _flag(reply_wanted),
            )
        case 2:
            step, done = _take(fields, 2)
            return Heartbeat(_number(step), _flag(done))
        case 3:
            code, detail = _take(fields, 2)
            if code not in RefusalCode.__members__.values():
                raise WireError(WireCode.FIELD, "unknown refusal code")
            return Refusal(RefusalCode(code), _text(detail))
        case 4:
            topic, key, number, payload_bytes = _take(fields, 4)
            return Announce(_text(topic), _text(key), _number(number), _number(payload_bytes))
        case 5:
            topic, key = _take(fields, 2)
            return Want(_text(topic), _text(key))
        case 6:
            topic, key, number = _take(fields, 3)
            return Confirm(_text(topic), _text(key), _number(number))
        case 7:
            (reason,) = _take(fields, 1)
            return Leave(_text(reason))
        case 8:
            topic, key, number, step, exchange, layout = _take(fields, 6)
            payload = Payload(_layout(layout, len(frames[1]), limits), frames[1])
            return State(_text(topic), _text(key), _number(number), _number(step), _number(exchange), payload)
    raise WireError(WireCode.KIND, f"unknown kind {kind!r:.20}")


def _layout(entries: Any, body_bytes: int, limits: Limits) -> tuple[ArrayLayout, ...]:
    """The layout, checked to describe exactly the bytes that came."""
    if body_bytes > limits.payload_bytes_max:
        raise WireError(WireCode.SIZE, f"payload of {body_bytes} bytes, at most {limits.payload_bytes_max}")
    layout = []
    for entry in _sequence(entries, limits.arrays_max, WireCode.LAYOUT):
        if not isinstance(entry, list) or len(entry) != 4:
            raise WireError(WireCode.LAYOUT, "an entry is not [name, shape, encoding, nbytes]")
        name, shape, encoding, nbytes = entry
        sizes = tuple(_number(size) for size in _sequence(shape, limits.dimensions_max, WireCode.LAYOUT))
        if math.prod(sizes) > 8 * limits.payload_bytes_max:
            raise WireError(WireCode.LAYOUT, "an array has more entries than any payload can hold")
        layout.append(ArrayLayout(_text(name), sizes, _text(encoding), _number(nbytes)))
    described = sum(array.nbytes for array in layout)
    if described != body_bytes:
        raise WireError(WireCode.BODY, f"layout describes {described} bytes, body has {body_bytes}")
    return tuple(layout)


def _contact(entry: Any) -> Contact:
    if not isinstance(entry, list) or len(entry) != 4 or not isinstance(entry[0], str) or not is_peer_name(entry[0]):
        raise WireError(WireCode.FIELD, "a contact is malformed")
    return Contact(PeerName(entry[0]), Address(_text(entry[1]), _port(entry[2])), _number(entry[3]))


def _take(fields: list[Any], count: int) -> list[Any]:
    """The first `count` fields. More may follow: a later version may append some."""
    if len(fields) < count:
        raise WireError(WireCode.FIELD, f"{len(fields)} fields, expected {count}")
    return fields[:count]


def _fingerprint(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > 32:
        raise WireError(WireCode.FIELD, "fingerprint is malformed")
    return {_text(name): _text(entry) for name, entry in value.items()}


def _sequence(value: Any, count_max: int, code: WireCode = WireCode.FIELD) -> list[Any]:
    if not isinstance(value, list) or len(value) > count_max:
        raise WireError(code, f"expected a list of at most {count_max}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _NUMBER_MAX


def _number(value: Any) -> int:
    if not _is_number(value):
        raise WireError(WireCode.FIELD, "expected a whole number >= 0")
    return int(value)


def _port(value: Any) -> int:
    if not _is_number(value) or value > 65535:
        raise WireError(WireCode.FIELD, "expected a port")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_CHARACTERS_MAX:
        raise WireError(WireCode.FIELD, f"expected a text of at most {_TEXT_CHARACTERS_MAX} characters")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireError(WireCode.FIELD, "expected true or false")
    return value

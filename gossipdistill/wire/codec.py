"""Envelopes to frames and back.

The law of this file: `decode` either returns a well-formed envelope or raises `WireError` with a named code; nothing
else ever comes out of it, whatever the bytes are, and nothing is allocated on the say-so of a number in a frame.

A control message is one frame, a data message two:

    frame 1   msgpack [wire version, kind, sender, boot, to, to_boot, field, field, ...]
    frame 2   the payload's body, arrays one after another as the layout in frame 1 says   (data only)

Kinds and fields are append-only: a field is added at the end of its list, a kind gets the next number. The first four
entries keep their place for ever, so that two versions can at least tell one another why they do not talk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgpack

from gossipdistill.ids import Boot, PeerName, is_peer_name
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Ack,
    Address,
    Announce,
    ArrayLayout,
    Claim,
    ClaimKind,
    Confirm,
    Consignment,
    Contact,
    DeliveryClass,
    Enquiry,
    Envelope,
    Greeting,
    Leave,
    Message,
    Nack,
    Payload,
    Piece,
    Ping,
    PingRequest,
    Receipt,
    Refusal,
    RefusalCode,
    State,
    Verdict,
    Want,
)

WIRE_VERSION = 2

# Kind 2 is retired (the heartbeat of wire version 1) and is not given again.
_KINDS: dict[type, int] = {
    Greeting: 1, Refusal: 3, Announce: 4, Want: 5, Confirm: 6, Leave: 7, State: 8,
    Ping: 9, PingRequest: 10, Ack: 11, Nack: 12, Receipt: 13, Enquiry: 14, Consignment: 15, Piece: 16,
}  # fmt: skip
_WITH_BODY = frozenset(_KINDS[kind] for kind in (State, Consignment, Piece))
_HEAD_ENTRIES = 6
_TEXT_CHARACTERS_MAX = 1024
_NUMBER_MAX = 2**63 - 1
_WEIGHT_MAX = 1e9
_PORT_MAX = 65534
"""The control port; data uses the port after it."""
_Word = TypeVar("_Word", bound=StrEnum)
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")


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
    head: list[Any] = [
        WIRE_VERSION, _KINDS[type(message)], envelope.sender, envelope.boot, envelope.to, envelope.to_boot,
    ]  # fmt: skip
    match message:
        case Greeting(address, place, fingerprint, contacts, reply_wanted):
            known = [[c.name, c.address.host, c.address.port, c.place] for c in contacts]
            prints = {_plain(name): _plain(value) for name, value in fingerprint.items()}
            head += [address.host, address.port, place, prints, known, reply_wanted]
        case Refusal(code, detail, asked):
            head += [code.value, _plain(detail), asked]
        case Announce(topic, key, number, payload_bytes):
            head += [topic, key, number, payload_bytes]
        case Want(topic, key, number):
            head += [topic, key, number]
        case Confirm(topic, key, number):
            head += [topic, key, number]
        case Leave(reason, crashed):
            head += [_plain(reason), crashed]
        case Ping(number, step, done, claims):
            head += [number, step, done, _claims_out(claims)]
        case PingRequest(number, target, claims):
            head += [number, target, _claims_out(claims)]
        case Ack(number, step, done, claims, about, about_boot):
            head += [number, step, done, _claims_out(claims), about, about_boot]
        case Nack(number, claims):
            head += [number, _claims_out(claims)]
        case Receipt(topic, number, verdict, reason):
            head += [topic, number, verdict.value, _plain(reason)]
        case Enquiry(topic, number):
            head += [topic, number]
        case Consignment(topic, number, step, exchange, delivery, weight, degree, payload):
            head += [topic, number, step, exchange, delivery.value, weight, degree, _layout_out(payload)]
            return [msgpack.packb(head), payload.body]
        case Piece(delivery, topic, key, number, offset, body):
            head += [delivery.value, topic, key, number, offset, len(body)]
            return [msgpack.packb(head), body]
        case State(topic, key, number, step, exchange, payload, confirms):
            arrived = [[c.topic, c.key, c.number] for c in confirms]
            head += [topic, key, number, step, exchange, _layout_out(payload), arrived]
            return [msgpack.packb(head), payload.body]
    return [msgpack.packb(head)]


def _layout_out(payload: Payload) -> list[list[Any]]:
    return [[array.name, list(array.shape), array.encoding, array.nbytes] for array in payload.layout]


def _claims_out(claims: Sequence[Claim]) -> list[list[Any]]:
    return [
        [c.name, c.boot, c.refutation, c.kind.value, c.by, c.place] + ([*c.address] if c.address else [])
        for c in claims
    ]


def decode(frames: Sequence[bytes | memoryview], limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope in these frames. The body stays a view of its frame (no copy).

    Raises:
        WireError: with the code of the first thing that is wrong.
    """
    if not 1 <= len(frames) <= 2:
        raise WireError(WireCode.PARTS, f"{len(frames)} frames, expected 1 or 2")
    head = _unpack(frames[0], limits)
    if len(head) < 4 or not _is_number(head[0]):
        raise WireError(WireCode.HEADER, "expected [version, kind, sender, boot, ...]")
    version, kind, sender, boot = head[:4]
    claimed = sender if isinstance(sender, str) and is_peer_name(sender) else ""
    if version != WIRE_VERSION:
        raise WireError(WireCode.VERSION, f"wire version {version}, mine is {WIRE_VERSION}", claimed, version)
    if not claimed:
        raise WireError(WireCode.SENDER, "sender is no peer name")
    try:
        if len(head) < _HEAD_ENTRIES or not _is_number(boot) or not _is_number(head[5]):
            raise WireError(WireCode.HEADER, "a boot is missing or malformed")
        to, to_boot = _name_or_nothing(head[4]), head[5]
        message = _message(kind, head[_HEAD_ENTRIES:], frames, limits)
    except WireError as error:
        error.sender = claimed
        raise
    return Envelope(PeerName(sender), Boot(boot), to, to_boot, message)


def _unpack(frame: bytes | memoryview, limits: Limits) -> list[Any]:
    size = len(frame)
    if size > limits.header_bytes_max:
        raise WireError(WireCode.SIZE, f"header of {size} bytes, at most {limits.header_bytes_max}")
    try:
        # A list is allocated by its stated length before its entries are read, and lists nest: so the bound on a
        # length is the longest list that any message has, not the size of the frame.
        longest = max(limits.arrays_max, limits.contacts_per_greeting_max, 64)
        head = msgpack.unpackb(
            frame, raw=False, strict_map_key=True, max_str_len=4 * _TEXT_CHARACTERS_MAX, max_bin_len=0,
            max_array_len=longest, max_map_len=limits.fingerprint_entries_max, max_ext_len=0,
        )  # fmt: skip
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(WireCode.NOT_MSGPACK, type(error).__name__) from None
    if not isinstance(head, list):
        raise WireError(WireCode.HEADER, "not a list")
    return head


def _message(kind: Any, fields: list[Any], frames: Sequence[bytes | memoryview], limits: Limits) -> Message:
    if not _is_number(kind):  # and never shown: the text of a deeply nested list would overflow the stack
        raise WireError(WireCode.KIND, "kind is no number")
    if (kind in _WITH_BODY) != (len(frames) == 2):
        raise WireError(WireCode.PARTS, f"{len(frames)} frames do not fit kind {kind}")
    match kind:
        case 1:
            host, port, place, fingerprint, contacts, reply_wanted = _take(fields, 6)
            prints = _fingerprint(fingerprint, limits.fingerprint_entries_max)
            known = tuple(_contact(entry) for entry in _sequence(contacts, limits.contacts_per_greeting_max))
            return Greeting(_address(host, port), _number(place), prints, known, _flag(reply_wanted))
        case 3:
            code, detail, asked = _take(fields, 3)
            return Refusal(_word(RefusalCode, code), _text(detail), _name_or_nothing(asked))
        case 4:
            topic, key, number, payload_bytes = _take(fields, 4)
            return Announce(_text(topic), _text(key), _number(number), _number(payload_bytes))
        case 5:
            topic, key, number = _take(fields, 3)
            return Want(_text(topic), _text(key), _number(number))
        case 6:
            topic, key, number = _take(fields, 3)
            return Confirm(_text(topic), _text(key), _number(number))
        case 7:
            (reason,) = _take(fields, 1)
            return Leave(_text(reason), _flag(fields[1]) if len(fields) > 1 else False)
        case 8:
            topic, key, number, step, exchange, layout = _take(fields, 6)
            confirms = fields[6] if len(fields) > 6 else []
            payload = Payload(_layout(layout, len(frames[1]), limits), frames[1])
            arrived = tuple(_confirm(entry) for entry in _sequence(confirms, limits.slots_per_peer_max))
            numbers = (_number(number), _number(step), _number(exchange))
            return State(_text(topic), _text(key), *numbers, payload, arrived)
        case 9:
            number, step, done, claims = _take(fields, 4)
            return Ping(_number(number), _number(step), _flag(done), _claims(claims, limits))
        case 10:
            number, target, claims = _take(fields, 3)
            return PingRequest(_number(number), _name(target), _claims(claims, limits))
        case 11:
            number, step, done, claims, about, about_boot = _take(fields, 6)
            said = (_number(number), _number(step), _flag(done), _claims(claims, limits))
            return Ack(*said, _name_or_nothing(about), _number(about_boot))
        case 12:
            number, claims = _take(fields, 2)
            return Nack(_number(number), _claims(claims, limits))
        case 13:
            topic, number, verdict, reason = _take(fields, 4)
            return Receipt(_text(topic), _number(number), _word(Verdict, verdict), _text(reason))
        case 14:
            topic, number = _take(fields, 2)
            return Enquiry(_text(topic), _number(number))
        case 15:
            topic, number, step, exchange, delivery, weight, degree, layout = _take(fields, 8)
            if delivery == DeliveryClass.STATE:
                raise WireError(WireCode.FIELD, "a state is no consignment")
            numbers = (_number(number), _number(step), _number(exchange))
            sort = _word(DeliveryClass, delivery)
            payload = Payload(_layout(layout, len(frames[1]), limits), frames[1])
            return Consignment(_text(topic), *numbers, sort, _weight(weight), _number(degree), payload)
        case 16:
            delivery, topic, key, number, offset, size = _take(fields, 6)
            if size != len(frames[1]):
                raise WireError(WireCode.BODY, f"piece of {len(frames[1])} bytes, its head says another number")
            if len(frames[1]) > limits.piece_bytes_max:
                raise WireError(WireCode.SIZE, f"piece of {len(frames[1])} bytes, at most {limits.piece_bytes_max}")
            slot = (_word(DeliveryClass, delivery), _text(topic), _text(key))
            return Piece(*slot, _number(number), _number(offset), frames[1])
    raise WireError(WireCode.KIND, f"unknown kind {kind}")


def _claims(entries: Any, limits: Limits) -> tuple[Claim, ...]:
    return tuple(_claim(entry) for entry in _sequence(entries, limits.claims_per_message_max))


def _claim(entry: Any) -> Claim:
    if not isinstance(entry, list) or len(entry) not in (6, 8):
        raise WireError(WireCode.FIELD, "a claim is malformed")
    name, boot, refutation, kind, by, place = entry[:6]
    address = _address(entry[6], entry[7]) if len(entry) == 8 else None
    said = (_name(name), _number(boot), _number(refutation), _word(ClaimKind, kind), _name(by))
    return Claim(*said, address, _number(place))


def _confirm(entry: Any) -> Confirm:
    if not isinstance(entry, list) or len(entry) != 3:
        raise WireError(WireCode.FIELD, "a confirmation is malformed")
    return Confirm(_text(entry[0]), _text(entry[1]), _number(entry[2]))


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
    return Contact(PeerName(entry[0]), _address(entry[1], entry[2]), _number(entry[3]))


def _word(words: type[_Word], value: Any) -> _Word:
    try:
        return words(_text(value))
    except ValueError:
        raise WireError(WireCode.FIELD, f"unknown {words.__name__}") from None


def _weight(value: Any) -> float:
    if not isinstance(value, float) or not 0.0 <= value <= _WEIGHT_MAX:  # also refuses what is not a number
        raise WireError(WireCode.FIELD, "expected a weight >= 0")
    return value


def _name(value: Any) -> PeerName:
    if not isinstance(value, str) or not is_peer_name(value):
        raise WireError(WireCode.FIELD, "a name is malformed")
    return PeerName(value)


def _name_or_nothing(value: Any) -> str:
    if not isinstance(value, str) or (value and not is_peer_name(value)):
        raise WireError(WireCode.FIELD, "a name is malformed")
    return value


def _take(fields: list[Any], count: int) -> list[Any]:
    """The first `count` fields. More may follow: a later version may append some."""
    if len(fields) < count:
        raise WireError(WireCode.FIELD, f"{len(fields)} fields, expected {count}")
    return fields[:count]


def _fingerprint(value: Any, entries_max: int) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > entries_max:
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


def _address(host: Any, port: Any) -> Address:
    if host == "" and _is_number(port) and port == 0:
        return Address("", 0)  # a peer that nobody can reach
    # Strict, since this text goes to a resolver and to a socket.
    if not isinstance(host, str) or _HOST.fullmatch(host) is None:
        raise WireError(WireCode.FIELD, "expected a host")
    if not _is_number(port) or not 1 <= port <= _PORT_MAX:
        raise WireError(WireCode.FIELD, f"expected a port from 1 to {_PORT_MAX}")
    return Address(host, port)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _TEXT_CHARACTERS_MAX or not value.isprintable():
        # What a peer says may be shown on a terminal: no line breaks, no escape sequences.
        raise WireError(WireCode.FIELD, f"expected a printable text of at most {_TEXT_CHARACTERS_MAX} characters")
    return value


def _plain(text: str) -> str:
    """A text of ours as `_text` accepts it."""
    return "".join(character if character.isprintable() else " " for character in text[:_TEXT_CHARACTERS_MAX])


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WireError(WireCode.FIELD, "expected true or false")
    return value

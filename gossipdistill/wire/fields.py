"""The field checkers: the values that are allowed from the wire, and the conversion of ours for the wire.

Each takes what msgpack decoded and returns the checked value, or raises `WireError`. No error text shows the value:
formatting a deeply nested list would overflow the stack, and a peer could write on a terminal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from gossipdistill.ids import PeerName, is_peer_name
from gossipdistill.limits import Limits
from gossipdistill.messages import ArrayLayout, Confirm, Payload
from gossipdistill.presence import Address, Claim, ClaimKind, Contact, Enrolment
from gossipdistill.wire.encodings.raw import CARRIERS
from gossipdistill.wire.errors import WireCode, WireError

TEXT_CHARACTERS_MAX = 1024
_NUMBER_MAX = 2**63 - 1
_WEIGHT_MAX = 1e9
_PORT_MAX = 65534
"""The control port is at most this; data uses the port after it."""
_Word = TypeVar("_Word", bound=StrEnum)
_KEY = re.compile(r"[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")
_PROOF = re.compile(r"[0-9a-f]{64}")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,255}")

# --- single values ---------------------------------------------------------------------------------------------------


def is_number(value: Any) -> bool:
    """Whether it is a whole number from 0 to 2^63 - 1; true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _NUMBER_MAX


def number(value: Any) -> int:
    """A whole number from 0 to 2^63 - 1."""
    if not is_number(value):
        raise WireError(WireCode.FIELD, "expected a whole number >= 0")
    return int(value)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise WireError(WireCode.FIELD, "expected true or false")
    return value


def text(value: Any) -> str:
    """A printable text without line breaks and escape sequences: what a peer sends may be shown on a terminal."""
    if not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX or not value.isprintable():
        raise WireError(WireCode.FIELD, f"expected a printable text of at most {TEXT_CHARACTERS_MAX} characters")
    return value


def plain(words: str) -> str:
    """Our own text in a form that `text` accepts."""
    return "".join(character if character.isprintable() else " " for character in words[:TEXT_CHARACTERS_MAX])


def word(words: type[_Word], value: Any) -> _Word:
    """One of a closed set of words."""
    try:
        return words(text(value))
    except ValueError:
        raise WireError(WireCode.FIELD, f"unknown {words.__name__}") from None


def weight(value: Any) -> float:
    """A push-sum weight, from 0 to 1e9; NaN is refused by the comparison."""
    if not isinstance(value, float) or not 0.0 <= value <= _WEIGHT_MAX:
        raise WireError(WireCode.FIELD, "expected a weight >= 0")
    return value


def name(value: Any) -> PeerName:
    """The name of a peer."""
    if not isinstance(value, str) or not is_peer_name(value):
        raise WireError(WireCode.FIELD, "a name is malformed")
    return PeerName(value)


def name_or_nothing(value: Any) -> str:
    """The name of a peer, or an empty text."""
    return name(value) if value != "" else ""


def address(host: Any, port: Any) -> Address:
    """The address of a peer. Strict, since this text goes to a resolver and to a socket. ("", 0) means nowhere."""
    if host == "" and is_number(port) and port == 0:
        return Address("", 0)  # a peer that cannot be dialled
    if not isinstance(host, str) or _HOST.fullmatch(host) is None:
        raise WireError(WireCode.FIELD, "expected a host")
    if not is_number(port) or not 1 <= port <= _PORT_MAX:
        raise WireError(WireCode.FIELD, f"expected a port from 1 to {_PORT_MAX}")
    return Address(host, port)


# --- lists and what is in them ---------------------------------------------------------------------------------------


def take(fields: list[Any], count: int) -> list[Any]:
    """The first `count` fields. More may follow: a later release may append some."""
    if len(fields) < count:
        raise WireError(WireCode.FIELD, f"{len(fields)} fields, expected {count}")
    return fields[:count]


def parts(entry: Any, count: int, what: str, code: WireCode = WireCode.FIELD) -> list[Any]:
    """The same for one entry of a list."""
    if not isinstance(entry, list) or len(entry) < count:
        raise WireError(code, f"{what} is malformed: expected {count} parts")
    return entry[:count]


def sequence(value: Any, count_max: int, code: WireCode = WireCode.FIELD) -> list[Any]:
    """A list that is not too long."""
    if not isinstance(value, list) or len(value) > count_max:
        raise WireError(code, f"expected a list of at most {count_max}")
    return value


def fingerprint(value: Any, entries_max: int) -> Mapping[str, str]:
    """Texts by name."""
    if not isinstance(value, dict) or len(value) > entries_max:
        raise WireError(WireCode.FIELD, "fingerprint is malformed")
    return {text(key): text(entry) for key, entry in value.items()}


def features(entries: Any, count_max: int) -> tuple[str, ...]:
    """Names of features, known here or not."""
    for entry in sequence(entries, count_max):
        if not isinstance(entry, str) or _FEATURE.fullmatch(entry) is None:
            raise WireError(WireCode.FIELD, "expected a name of a feature")
    return tuple(entries)


def contact(entry: Any) -> Contact:
    """[name, host, port, place]."""
    who, host, port, place = parts(entry, 4, "a contact")
    return Contact(name(who), address(host, port), number(place))


def enrolment(entry: Any) -> Enrolment:
    """[name, key, boot, proof]."""
    who, key, boot, proof = parts(entry, 4, "an enrolment")
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise WireError(WireCode.FIELD, "expected a public key")
    if not isinstance(proof, str) or _PROOF.fullmatch(proof) is None:
        raise WireError(WireCode.FIELD, "expected a proof")
    return Enrolment(name(who), key, number(boot), proof)


def confirm(entry: Any) -> Confirm:
    """[topic, key, number]."""
    topic, key, version = parts(entry, 3, "a confirmation")
    return Confirm(text(topic), text(key), number(version))


def parcels(entries: Any, limits: Limits) -> tuple[tuple[str, int], ...]:
    """Parcels of [topic, number]."""
    checked = []
    for entry in sequence(entries, limits.slots_per_peer_max):
        topic, version = parts(entry, 2, "a parcel")
        checked.append((text(topic), number(version)))
    return tuple(checked)


def claims(entries: Any, limits: Limits) -> tuple[Claim, ...]:
    """Claims of [name, boot, refutation, kind, by, place, where]; where is [host, port], or [] if it is not given."""
    return tuple(_claim(entry) for entry in sequence(entries, limits.claims_per_message_max))


def _claim(entry: Any) -> Claim:
    who, boot, incarnation, kind, by, place, where = parts(entry, 7, "a claim")
    told = address(*parts(where, 2, "an address")) if where != [] else None
    return Claim(name(who), number(boot), number(incarnation), word(ClaimKind, kind), name(by), told, number(place))


def claims_out(told: Sequence[Claim]) -> list[list[Any]]:
    """The inverse, for sending."""
    return [
        [c.name, c.boot, c.incarnation, c.kind.value, c.by, c.place, [*c.address] if c.address else []] for c in told
    ]


# --- payloads --------------------------------------------------------------------------------------------------------


def payload(entries: Any, body: bytes | memoryview, limits: Limits) -> Payload:
    """A layout of [name, shape, encoding, nbytes, dtype], checked to describe exactly the bytes that arrived.

    It may describe more, up to `payload_bytes_max`, where the body is a first piece: one of exactly `piece_bytes_max`.
    """
    size, size_max = len(body), min(limits.piece_bytes_max, limits.payload_bytes_max)
    if size > size_max:
        raise WireError(WireCode.SIZE, f"body of {size} bytes in one message, at most {size_max}")
    layout = []
    for entry in sequence(entries, limits.arrays_max, WireCode.LAYOUT):
        called, shape, encoding, nbytes, dtype = parts(entry, 5, "a layout", WireCode.LAYOUT)
        sizes = tuple(number(length) for length in sequence(shape, limits.dimensions_max, WireCode.LAYOUT))
        if math.prod(sizes) > 8 * limits.payload_bytes_max:
            raise WireError(WireCode.LAYOUT, "an array has more entries than any payload can hold")
        if not isinstance(dtype, str) or dtype not in CARRIERS:
            raise WireError(WireCode.LAYOUT, "an array is of an unknown type")
        layout.append(ArrayLayout(text(called), sizes, text(encoding), number(nbytes), dtype))
    described = sum(array.nbytes for array in layout)
    if described > limits.payload_bytes_max:
        raise WireError(WireCode.SIZE, f"payload of {described} bytes, at most {limits.payload_bytes_max}")
    if described != size and not described > size == limits.piece_bytes_max:
        raise WireError(WireCode.BODY, f"layout describes {described} bytes, body has {size}")
    return Payload(tuple(layout), body)


def layout_out(carried: Payload) -> list[list[Any]]:
    """The inverse, for sending."""
    return [[array.name, list(array.shape), array.encoding, array.nbytes, array.dtype] for array in carried.layout]

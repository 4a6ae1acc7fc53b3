"""Envelopes to frames and back.

The law of this file: `decode` either returns a well-formed envelope or raises `WireError` with a named code, whatever
the bytes are; and no number in a frame causes an allocation by itself.

A control message is one frame, a data message two:

    frame 1   msgpack [wire version, kind, sender, boot, to, to_boot, field, field, ...]
    frame 2   the payload's body, arrays one after another as the layout in frame 1 says   (data only)

A body larger than `piece_bytes_max` goes on in `Piece` messages (pieces.py).

How the format grows
1. Fields are append-only: a new one is added at the end of its list, be that the head or a list within it, and readers
   ignore what follows the fields that they know. Appended fields keep to the limits of a head, and bytes travel only in
   a body. The absence of a field means what it meant before.
2. A new kind gets the next number, and is sent only to a peer whose greeting has named its feature
   (messages.FEATURE_OF). The same holds for a new word of a closed set, such as a dtype. An unknown kind or word is
   therefore an error of its sender.
3. The version rises only when an existing field changes its meaning or its place. Versions are not mixed in a run.
4. These never change, so that two versions can tell one another why they do not exchange: the first six entries of a
   head, and the kind and the first four fields of a `Refusal`. A refusal is written in the version of the refused peer,
   and its fourth field is the version of its writer (version 2 wrote none, and all in its own).
5. tests/golden keeps frames of each version, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from gossipdistill.ids import Boot, PeerName, is_peer_name
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Announce,
    Confirm,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Piece,
    Receipt,
    ReliableMessage,
    State,
    StatusQuery,
    Verdict,
    Want,
)
from gossipdistill.presence import Ack, Enrolments, Greeting, Here, Leave, Nack, Ping, PingRequest, Refusal, RefusalCode
from gossipdistill.wire import fields as check
from gossipdistill.wire.errors import WireCode, WireError

__all__ = ["WIRE_VERSION", "WireCode", "WireError", "decode", "encode", "holds_state_or_piece"]

WIRE_VERSION = 3
"""In version 2, claims had 6 or 8 entries, a `Leave` 1 to 3, and arrays no dtype."""

# Kind 2 is retired (the heartbeat of wire version 1) and is not given again.
_KINDS: dict[type, int] = {
    Greeting: 1,
    Refusal: 3,
    Announce: 4,
    Want: 5,
    Confirm: 6,
    Leave: 7,
    State: 8,
    Ping: 9,
    PingRequest: 10,
    Ack: 11,
    Nack: 12,
    Receipt: 13,
    StatusQuery: 14,
    ReliableMessage: 15,
    Piece: 16,
    Here: 17,
    Enrolments: 18,
}
_WITH_BODY = frozenset(_KINDS[kind] for kind in (State, ReliableMessage, Piece))
_UNREAD = frozenset(_KINDS[kind] for kind in (State, Piece))
_HEAD_ENTRIES = 6
_WRITERS_VERSION = _HEAD_ENTRIES + 3
"""The index of the writer's version in the head of a refusal."""


def encode(envelope: Envelope) -> list[bytes | memoryview]:
    """The frames of an envelope: one for control, two for data. The payload's body is not copied."""
    message = envelope.message
    head: list[Any] = [
        WIRE_VERSION,
        _KINDS[type(message)],
        envelope.sender,
        envelope.boot,
        envelope.to,
        envelope.to_boot,
    ]
    match message:
        case Greeting(address, place, fingerprint, contacts, reply_wanted, features):
            known = [[c.name, c.address.host, c.address.port, c.place] for c in contacts]
            prints = {check.plain(name): check.plain(value) for name, value in fingerprint.items()}
            head += [address.host, address.port, place, prints, known, reply_wanted, list(features)]
        case Refusal(code, detail, asked, wire_version, newer_boot, newer_at):
            head[0] = WIRE_VERSION if wire_version is None else wire_version
            head += [code.value, check.plain(detail), asked, WIRE_VERSION]
            head += [newer_boot, newer_at.host, newer_at.port] if code is RefusalCode.SUPERSEDED else []
        case Announce(topic, key, number, payload_bytes):
            head += [topic, key, number, payload_bytes]
        case Want(topic, key, number):
            head += [topic, key, number]
        case Confirm(topic, key, number):
            head += [topic, key, number]
        case Leave(reason, crashed, absorbed):
            told = [list(parcel) for parcel in absorbed] if absorbed is not None else None
            head += [check.plain(reason), crashed, told]
        case Ping(number, step, done, claims, incarnation):
            head += [number, step, done, check.claims_out(claims), incarnation]
        case PingRequest(number, target, claims):
            head += [number, target, check.claims_out(claims)]
        case Ack(number, step, done, claims, about, about_boot, incarnation):
            head += [number, step, done, check.claims_out(claims), about, about_boot, incarnation]
        case Nack(number, claims):
            head += [number, check.claims_out(claims)]
        case Receipt(topic, number, verdict, reason):
            head += [topic, number, verdict.value, check.plain(reason)]
        case StatusQuery(topic, number):
            head += [topic, number]
        case Here():
            pass
        case Enrolments(run, records):
            head += [check.plain(run), [[r.name, r.key, r.boot, r.proof] for r in records]]
        case ReliableMessage(number, what):
            head += [what.topic, number, what.step, what.exchange, what.delivery.value, what.weight, what.degree]
            head.append(check.layout_out(what.payload))
            return [msgpack.packb(head), what.payload.body]
        case Piece(delivery, topic, key, number, offset, body):
            head += [delivery.value, topic, key, number, offset, len(body)]
            return [msgpack.packb(head), body]
        case _:
            state: State = message  # for a kind that is missing above, this fails in the type checker
            what, arrived = state.content, [[c.topic, c.key, c.number] for c in state.confirms]
            head += [what.topic, what.key, state.number, what.step, what.exchange]
            head += [check.layout_out(what.payload), arrived]
            return [msgpack.packb(head), what.payload.body]
    return [msgpack.packb(head)]


def holds_state_or_piece(head: bytes | memoryview) -> bool:
    """Whether the first frame of a message is that of a `State` or a `Piece` as this release writes them, judged by its
    first bytes: the number of entries, the version and the kind. For frames written differently only `decode` knows."""
    start = bytes(head[:3])
    return len(start) == 3 and start[0] & 0xF0 == 0x90 and start[1] == WIRE_VERSION and start[2] in _UNREAD


def decode(frames: Sequence[bytes | memoryview], limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope in these frames. The body stays a read-only view of its frame: a transport within one process may
    hand the same memory to several readers.

    Raises:
        WireError: with the code of the first thing that is wrong.
    """
    if not 1 <= len(frames) <= 2:
        raise WireError(WireCode.PARTS, f"{len(frames)} frames, expected 1 or 2")
    head = _unpack(frames[0], limits)
    if len(head) < 4 or not check.is_number(head[0]):
        raise WireError(WireCode.HEADER, "expected [version, kind, sender, boot, ...]")
    version, kind, sender, boot = head[:4]
    claimed = sender if isinstance(sender, str) and is_peer_name(sender) else ""
    spoken = version if version == WIRE_VERSION else _spoken(head)
    if spoken != WIRE_VERSION:
        process = boot if check.is_number(boot) else 0
        raise WireError(WireCode.VERSION, f"wire version {spoken}, mine is {WIRE_VERSION}", claimed, spoken, process)
    if not claimed:
        raise WireError(WireCode.SENDER, "sender is no peer name")
    try:
        if len(head) < _HEAD_ENTRIES or not check.is_number(boot) or not check.is_number(head[5]):
            raise WireError(WireCode.HEADER, "a boot is missing or malformed")
        to, to_boot = check.name_or_nothing(head[4]), head[5]
        message = _message(kind, head[_HEAD_ENTRIES:], frames, limits)
    except WireError as error:
        error.sender = claimed
        raise
    return Envelope(PeerName(sender), Boot(boot), to, to_boot, message)


def _spoken(head: list[Any]) -> int:
    """The version of the writer of a well-formed head; for a refusal, not the version that it is written in."""
    names_it = len(head) > _WRITERS_VERSION and head[1] == _KINDS[Refusal] and check.is_number(head[_WRITERS_VERSION])
    return int(head[_WRITERS_VERSION if names_it else 0])


def _unpack(frame: bytes | memoryview, limits: Limits) -> list[Any]:
    size = len(frame)
    if size > limits.header_bytes_max:
        raise WireError(WireCode.SIZE, f"header of {size} bytes, at most {limits.header_bytes_max}")
    try:
        # A list is allocated by its stated length before its entries are read, and lists nest: so the bound on a
        # length is the longest list that any message has, not the size of the frame.
        longest = max(limits.arrays_max, limits.contacts_per_greeting_max, 64)
        head = msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            max_str_len=4 * check.TEXT_CHARACTERS_MAX,
            max_bin_len=0,
            max_array_len=longest,
            max_map_len=limits.fingerprint_entries_max,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(WireCode.NOT_MSGPACK, type(error).__name__) from None
    if not isinstance(head, list):
        raise WireError(WireCode.HEADER, "not a list")
    return head


def _message(kind: Any, fields: list[Any], frames: Sequence[bytes | memoryview], limits: Limits) -> Message:
    if not check.is_number(kind):  # never shown: formatting a deeply nested list would overflow the stack
        raise WireError(WireCode.KIND, "kind is no number")
    if (kind in _WITH_BODY) != (len(frames) == 2):
        raise WireError(WireCode.PARTS, f"{len(frames)} frames do not fit kind {kind}")
    if len(frames) == 2:
        return _data(kind, fields, memoryview(frames[1]).toreadonly(), limits)
    return _control(kind, fields, limits)


def _control(kind: int, fields: list[Any], limits: Limits) -> Message:
    match kind:
        case 1:
            host, port, place, prints, contacts, reply_wanted = check.take(fields, 6)
            known = tuple(check.contact(entry) for entry in check.sequence(contacts, limits.contacts_per_greeting_max))
            told = check.fingerprint(prints, limits.fingerprint_entries_max)
            named = check.features(fields[6], limits.features_per_greeting_max) if len(fields) > 6 else ()
            where = check.address(host, port)
            return Greeting(where, check.number(place), told, known, check.flag(reply_wanted), named)
        case 3:
            code, detail, asked = check.take(fields, 3)
            theirs = fields[3] if len(fields) > 3 and fields[3] != WIRE_VERSION and check.is_number(fields[3]) else None
            why = (check.word(RefusalCode, code), check.text(detail), check.name_or_nothing(asked), theirs)
            names_newer = code == RefusalCode.SUPERSEDED and len(fields) > 6  # older releases do not
            newer = (check.number(fields[4]), check.address(*fields[5:7])) if names_newer else ()
            return Refusal(*why, *newer)
        case 4:
            topic, key, number, payload_bytes = check.take(fields, 4)
            return Announce(check.text(topic), check.text(key), check.number(number), check.number(payload_bytes))
        case 5:
            topic, key, number = check.take(fields, 3)
            return Want(check.text(topic), check.text(key), check.number(number))
        case 6:
            topic, key, number = check.take(fields, 3)
            return Confirm(check.text(topic), check.text(key), check.number(number))
        case 7:
            reason, crashed, absorbed = check.take(fields, 3)
            parcels = check.parcels(absorbed, limits) if absorbed is not None else None
            return Leave(check.text(reason), check.flag(crashed), parcels)
        case 9:
            number, step, done, claims, incarnation = check.take(fields, 5)
            progress = (check.number(step), check.flag(done))
            return Ping(check.number(number), *progress, check.claims(claims, limits), check.number(incarnation))
        case 10:
            number, target, claims = check.take(fields, 3)
            return PingRequest(check.number(number), check.name(target), check.claims(claims, limits))
        case 11:
            number, step, done, claims, about, about_boot, incarnation = check.take(fields, 7)
            said = (check.number(number), check.number(step), check.flag(done), check.claims(claims, limits))
            return Ack(*said, check.name_or_nothing(about), check.number(about_boot), check.number(incarnation))
        case 12:
            number, claims = check.take(fields, 2)
            return Nack(check.number(number), check.claims(claims, limits))
        case 13:
            topic, number, verdict, reason = check.take(fields, 4)
            became = check.word(Verdict, verdict)
            return Receipt(check.text(topic), check.number(number), became, check.text(reason))
        case 14:
            topic, number = check.take(fields, 2)
            return StatusQuery(check.text(topic), check.number(number))
        case 17:
            return Here()
        case 18:
            run, records = check.take(fields, 2)
            entries = check.sequence(records, limits.enrolments_per_message_max)
            return Enrolments(check.text(run), tuple(check.enrolment(entry) for entry in entries))
    raise WireError(WireCode.KIND, f"unknown kind {kind}")


def _data(kind: int, fields: list[Any], body: memoryview, limits: Limits) -> Message:
    if kind == _KINDS[State]:
        topic, key, number, step, exchange, layout, confirms = check.take(fields, 7)
        arrived = tuple(check.confirm(entry) for entry in check.sequence(confirms, limits.slots_per_peer_max))
        payload = check.payload(layout, body, limits)
        what = Content(check.text(topic), payload, check.number(step), check.number(exchange), check.text(key))
        return State(check.number(number), what, arrived)
    if kind == _KINDS[ReliableMessage]:
        topic, number, step, exchange, delivery, weight, degree, layout = check.take(fields, 8)
        sort = check.word(DeliveryClass, delivery)
        if sort is DeliveryClass.STATE:
            raise WireError(WireCode.FIELD, "a state is no consignment")
        what = Content(
            check.text(topic),
            check.payload(layout, body, limits),
            check.number(step),
            check.number(exchange),
            delivery=sort,
            weight=check.weight(weight),
            degree=check.number(degree),
        )
        return ReliableMessage(check.number(number), what)
    delivery, topic, key, number, offset, size = check.take(fields, 6)
    if not check.is_number(size) or size != len(body):
        raise WireError(WireCode.BODY, f"piece of {len(body)} bytes, its head says another number")
    if len(body) > limits.piece_bytes_max:
        raise WireError(WireCode.SIZE, f"piece of {len(body)} bytes, at most {limits.piece_bytes_max}")
    slot = (check.word(DeliveryClass, delivery), check.text(topic), check.text(key))
    return Piece(*slot, check.number(number), check.number(offset), body)

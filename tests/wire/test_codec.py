"""The frame format: golden bytes, the way there and back, and that nothing but `WireError` comes out of rubbish."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    FEATURE_OF,
    FEATURES,
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
from gossipdistill.wire.codec import WIRE_VERSION, WireCode, WireError, decode, encode, holds_state_or_piece
from gossipdistill.wire.encodings import ENCODINGS, encoding_of
from gossipdistill.wire.encodings.raw import CARRIERS

KEY = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
PROOF = "0123456789abcdef" * 4

# --- what may be said -----------------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True).map(PeerName)
texts = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" "), max_size=60).filter(
    str.isprintable
)
hosts = st.one_of(
    st.sampled_from(["127.0.0.1", "::1", "fe80::1%eth0", "peer_1.lab", "xn--bcher-kva.example", "a" * 255]),
    st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True),
)
addresses = st.one_of(st.just(Address("", 0)), st.builds(Address, hosts, st.integers(1, 65534)))
contacts = st.builds(Contact, names, addresses, numbers)
layouts = st.lists(
    st.builds(
        ArrayLayout,
        texts,
        st.lists(st.integers(0, 9), max_size=8).map(tuple),
        texts,
        st.integers(0, 40),
        st.sampled_from(sorted(CARRIERS)),
    ),
    max_size=5,
).map(tuple)


@st.composite
def payloads(draw: st.DrawFn) -> Payload:
    layout = draw(layouts)
    size = sum(array.nbytes for array in layout)
    return Payload(layout, draw(st.binary(min_size=size, max_size=size)))


claims = st.lists(
    st.builds(
        Claim,
        names,
        numbers,
        numbers,
        st.sampled_from(list(ClaimKind)),
        names,
        st.one_of(st.none(), addresses),
        numbers,
    ),
    max_size=8,
).map(tuple)
confirmations = st.lists(st.builds(Confirm, texts, texts, numbers), max_size=3).map(tuple)

MESSAGES: dict[type, st.SearchStrategy[Message]] = {
    Greeting: st.builds(
        Greeting,
        addresses,
        numbers,
        st.dictionaries(texts, texts, max_size=32),
        st.lists(contacts, max_size=5).map(tuple),
        st.booleans(),
        st.lists(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True), max_size=32).map(tuple),
    ),
    Refusal: st.one_of(
        st.builds(Refusal, st.sampled_from(list(RefusalCode)), texts, st.one_of(st.just(""), names)),
        st.builds(Refusal, st.just(RefusalCode.SUPERSEDED), texts, newer_boot=numbers, newer_at=addresses),
    ),
    Announce: st.builds(Announce, texts, texts, numbers, numbers),
    Want: st.builds(Want, texts, texts, numbers),
    Confirm: st.builds(Confirm, texts, texts, numbers),
    Leave: st.builds(
        Leave, texts, st.booleans(), st.none() | st.lists(st.tuples(texts, numbers), max_size=3).map(tuple)
    ),
    Ping: st.builds(Ping, numbers, numbers, st.booleans(), claims, numbers),
    PingRequest: st.builds(PingRequest, numbers, names, claims),
    Ack: st.builds(Ack, numbers, numbers, st.booleans(), claims, st.one_of(st.just(""), names), numbers, numbers),
    Nack: st.builds(Nack, numbers, claims),
    Receipt: st.builds(Receipt, texts, numbers, st.sampled_from(list(Verdict)), texts),
    StatusQuery: st.builds(StatusQuery, texts, numbers),
    ReliableMessage: st.builds(
        ReliableMessage,
        numbers,
        st.builds(
            Content,
            texts,
            payloads(),
            numbers,
            numbers,
            delivery=st.sampled_from([DeliveryClass.MASS, DeliveryClass.STREAM]),
            weight=st.floats(0, 1e6),
            degree=numbers,
        ),
    ),
    Piece: st.builds(
        Piece, st.sampled_from(list(DeliveryClass)), texts, texts, numbers, numbers, st.binary(max_size=40)
    ),
    Here: st.just(Here()),
    Enrolments: st.builds(
        Enrolments,
        texts,
        st.lists(
            st.builds(
                Enrolment,
                names,
                st.from_regex(r"[0-9a-zA-Z.:@$%#]{40}", fullmatch=True),
                numbers,
                st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
            ),
            max_size=3,
        ).map(tuple),
    ),
    State: st.builds(State, numbers, st.builds(Content, texts, payloads(), numbers, numbers, texts), confirmations),
}


def envelopes(message: st.SearchStrategy[Message]) -> st.SearchStrategy[Envelope]:
    return st.builds(Envelope, names, numbers.map(Boot), st.one_of(st.just(""), names), numbers, message)


def understood(frames: list[Any], limits: Limits = DEFAULT_LIMITS) -> Envelope | WireError:
    """The envelope, or the `WireError`; any other exception is the caller's failure."""
    try:
        return decode(frames, limits)
    except WireError as error:
        return error


def refused(frames: list[Any], limits: Limits = DEFAULT_LIMITS) -> WireCode:
    with pytest.raises(WireError) as caught:
        decode(frames, limits)
    return caught.value.code


def head(
    kind: Any = 9, *fields: Any, version: Any = WIRE_VERSION, sender: Any = "ada", boot: Any = 7, to: Any = "bo"
) -> bytes:
    packed: bytes = msgpack.packb([version, kind, sender, boot, to, 9, *fields])
    return packed


# --- golden frames --------------------------------------------------------------------------------------------------

GOLDEN: dict[str, Message] = {
    "greeting": Greeting(
        Address("127.0.0.1", 7400), 0, {"task": "digits"}, (Contact(PeerName("cy"), Address("::1", 7404), 2),)
    ),
    "greeting with features": Greeting(
        Address("", 0), 1, {"task": "digits"}, reply_wanted=False, features=("deltas", "x-2.b_c")
    ),
    "refusal": Refusal(RefusalCode.FINGERPRINT, "task: a here, b there"),
    "announce": Announce("weights", "", 12, 814_568),
    "want": Want("weights", "", 12),
    "confirm": Confirm("weights", "k", 12),
    "leave": Leave("finished"),
    "leave, and what was absorbed": Leave("finished", False, (("push_sum", 17),)),
    "ping": Ping(5, 1200, True, (Claim(PeerName("cy"), 400, 2, ClaimKind.SUSPECT, PeerName("dee")),), 3),
    "ping request": PingRequest(6, PeerName("cy")),
    "ack": Ack(
        6,
        1200,
        False,
        (Claim(PeerName("eve"), 400, 0, ClaimKind.ALIVE, PeerName("eve"), Address("10.0.0.9", 7400), 4),),
        "cy",
        400,
        1,
    ),
    "nack": Nack(6),
    "receipt": Receipt("mass", 3, Verdict.REFUSED, "not finite"),
    "enquiry": StatusQuery("mass", 3),
    "consignment": ReliableMessage(
        3,
        Content(
            "mass", Payload((ArrayLayout("w", (1,), "raw", 4),), b"\0\0\x80?"), 60, 59, "", DeliveryClass.MASS, 0.25, 2
        ),
    ),
    "piece": Piece(DeliveryClass.STATE, "weights", "", 12, 4_194_304, b"rest"),
    "enrolments": Enrolments("first-light", (Enrolment(PeerName("cy"), KEY, 6, "0123456789abcdef" * 4),)),
    "here": Here(),
    "state": State(
        3,
        Content("outputs", Payload((ArrayLayout("logits", (1, 2), "half", 4),), b"\x00\x3c\x00\xbc"), 60, 2),
        (Confirm("outputs", "", 5),),
    ),
    "state of several types": State(
        3,
        Content(
            "weights",
            Payload(
                (ArrayLayout("w", (2,), "raw", 4, "bfloat16"), ArrayLayout("steps", (), "raw", 8, "int64")),
                b"\x80\x3f\x00\xc0" + (2**60 + 1).to_bytes(8, "little"),
            ),
            60,
            2,
        ),
    ),
}
"""Their frames lie in tests/golden, by version of the wire. Those of a version that is out never change."""

GOLDEN_ENCODINGS = ("raw", "half", "bfloat16", "int8", "top_k:2")
GOLDEN_ARRAY = np.array([[0.5, 0.125, 0.25]], dtype=np.float32)


def frames_of(version: int) -> dict[str, list[bytes]]:
    """The golden frames of this version, by name."""
    read = json.loads((Path(__file__).parents[1] / "golden" / f"frames-v{version}.json").read_text())
    return {name: [bytes.fromhex(frame) for frame in frames] for name, frames in read.items()}


FRAMES = frames_of(WIRE_VERSION)


def said(message: Message) -> Envelope:
    return Envelope(PeerName("ada"), Boot(0x1930000000A), "bo", 500, message)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_frames_stay_as_they_are_byte_for_byte(name: str) -> None:
    assert [bytes(frame) for frame in encode(said(GOLDEN[name]))] == FRAMES[name]
    assert decode(FRAMES[name]) == said(GOLDEN[name])


@pytest.mark.parametrize("label", GOLDEN_ENCODINGS)
def test_golden_states_of_every_encoding_stay_as_they_are_byte_for_byte(label: str) -> None:
    encoding, shape = encoding_of(label), GOLDEN_ARRAY.shape
    payload = Payload((ArrayLayout("w", shape, label, encoding.nbytes(shape)),), encoding.encode(GOLDEN_ARRAY))
    state = said(State(3, Content("weights", payload, 60, 2)))
    assert [bytes(frame) for frame in encode(state)] == FRAMES[f"state in {label}"]
    assert decode(FRAMES[f"state in {label}"]) == state


def test_every_version_has_its_golden_frames() -> None:
    folder = Path(__file__).parents[1] / "golden"
    versions = {int(file.stem.removeprefix("frames-v")) for file in folder.glob("frames-v*.json")}
    assert versions == set(range(2, WIRE_VERSION + 1))


def test_every_encoding_has_a_golden_state() -> None:
    assert {label.partition(":")[0] for label in GOLDEN_ENCODINGS} == set(ENCODINGS)
    assert set(FRAMES) == {*GOLDEN, *(f"state in {label}" for label in GOLDEN_ENCODINGS)}


def test_every_kind_of_message_has_a_golden_frame_and_a_round_trip() -> None:
    kinds = set(Message.__args__)  # type: ignore[attr-defined]
    assert {type(message) for message in GOLDEN.values()} == kinds == set(MESSAGES)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_is_said_is_what_is_heard(kind: type) -> None:
    @settings(max_examples=40, deadline=None)
    @given(envelopes(MESSAGES[kind]))
    def check(envelope: Envelope) -> None:
        frames = encode(envelope)
        assert len(frames) == (2 if kind in (State, ReliableMessage, Piece) else 1)
        assert decode(frames) == envelope
        assert decode([memoryview(frame) for frame in frames]) == envelope

    check()


def test_a_payload_is_not_copied_on_its_way() -> None:
    body = memoryview(bytearray(64))
    state = State(1, Content("x", Payload((ArrayLayout("w", (16,), "raw", 64),), body), 0, 0))
    frames = encode(said(state))
    assert frames[1] is body
    heard = decode(frames).message
    assert isinstance(heard, State)
    assert isinstance(heard.payload.body, memoryview)
    assert heard.payload.body.obj is body.obj
    assert heard.payload.body.readonly  # a transport within one process may give the same memory to several readers


# --- how it grows ---------------------------------------------------------------------------------------------------

ENTRIES = {
    Greeting: (10,),
    Leave: (8,),
    Ping: (9,),
    PingRequest: (8,),
    Ack: (9,),
    Nack: (7,),
    Enrolments: (7,),
    ReliableMessage: (13,),
    State: (11, 12),
}
"""Where in the head of each kind its lists of entries stand."""
CLAIM = 7
"""A claim has so many parts; the last is a list of its own."""
later_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
later = st.lists(later_values, min_size=1, max_size=3)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_a_later_release_appends_is_ignored(kind: type) -> None:
    @settings(max_examples=15, deadline=None)
    @given(envelopes(MESSAGES[kind]), st.data())
    def check(envelope: Envelope, data: st.DataObject) -> None:
        frames = encode(envelope)
        entries = msgpack.unpackb(frames[0])
        for place in ENTRIES.get(kind, ()):
            for entry in entries[place] or []:
                if len(entry) == CLAIM and entry[-1]:
                    entry[-1] += data.draw(later)
                entry += data.draw(later)
        entries += data.draw(later)
        assert decode([msgpack.packb(entries), *frames[1:]]) == envelope

    check()


def test_no_list_of_entries_is_forgotten_above() -> None:
    """Every list within the head of a golden frame is one of entries, but for the features, which are words."""
    found: dict[type, set[int]] = {}
    for name, message in GOLDEN.items():
        lists = {place for place, field in enumerate(msgpack.unpackb(FRAMES[name][0])) if isinstance(field, list)}
        found.setdefault(type(message), set()).update(lists)
    found[Greeting].remove(12)
    assert {kind: places for kind, places in found.items() if places} == {
        kind: set(places) for kind, places in ENTRIES.items()
    }


def test_a_greeting_that_names_no_features_has_none() -> None:
    heard = decode([head(1, "h", 1, 0, {}, [], True)]).message
    assert heard == Greeting(Address("h", 1), 0, {}, (), True, ())


def test_what_needs_a_feature_needs_one_that_greetings_name() -> None:
    assert set(FEATURE_OF.values()) <= set(FEATURES)
    greeting = Greeting(Address("h", 1), 0, {}, features=FEATURES)
    assert decode(encode(said(greeting))).message == greeting


@pytest.mark.parametrize("name", frames_of(2))
def test_a_frame_of_version_2_is_refused_as_such_and_says_whose_it_is(name: str) -> None:
    with pytest.raises(WireError) as caught:
        decode(frames_of(2)[name])
    error = caught.value
    assert (error.code, error.version, error.sender, error.boot) == (WireCode.VERSION, 2, "ada", 0x1930000000A)
    assert error.problem == "wire version 2, mine is 3"


def test_a_refusal_can_be_written_in_the_version_of_the_one_who_is_refused() -> None:
    detail = "task: a here, b there"
    (written,) = encode(said(Refusal(RefusalCode.FINGERPRINT, detail, wire_version=2)))
    (golden,) = frames_of(2)["refusal"]
    assert msgpack.unpackb(written) == [*msgpack.unpackb(golden), WIRE_VERSION]  # which a reader of version 2 ignores
    # One of version 3 knows by that field that it is meant for another process, and that the writer speaks its own.
    heard = decode([written])
    assert heard == said(Refusal(RefusalCode.FINGERPRINT, detail))
    assert isinstance(heard.message, Refusal)
    assert heard.message.wire_version is None


def test_a_refusal_of_a_later_version_is_understood_and_says_whose_version_is_which() -> None:
    refusal = ["wire_version", "ada speaks 4", "", 4, "something new"]
    heard = decode([head(3, *refusal)]).message
    assert isinstance(heard, Refusal)
    assert (heard.code, heard.detail, heard.wire_version) == (RefusalCode.WIRE_VERSION, "ada speaks 4", 4)
    for nothing in [], ["four"], [True], [WIRE_VERSION]:
        heard = decode([head(3, *refusal[:3], *nothing)]).message
        assert isinstance(heard, Refusal)
        assert heard.wire_version is None
    with pytest.raises(WireError) as caught:
        decode([head(3, *refusal, version=2)])  # to a predecessor of mine
    assert (caught.value.code, caught.value.version) == (WireCode.VERSION, 4)


# --- fit to travel --------------------------------------------------------------------------------------------------


def test_texts_of_ours_are_made_fit_to_travel() -> None:
    for message in Leave("a\nb\x1b[31m" + "x" * 5000), Refusal(RefusalCode.FINGERPRINT, "a\tb" + "y" * 5000):
        heard = decode(encode(said(message))).message
        text = heard.reason if isinstance(heard, Leave) else heard.detail  # type: ignore[union-attr]
        assert text.isprintable()
        assert len(text) == 1024
    greeting = Greeting(Address("h", 1), 0, {"run": "two\nlines \udc80"})
    assert decode(encode(said(greeting))).message == Greeting(Address("h", 1), 0, {"run": "two lines  "})


def test_the_largest_greeting_fits_the_control_socket() -> None:
    many = tuple(
        Contact(PeerName("a" * 64), Address("h" * 255, 65534), 2**63 - 1)
        for _ in range(DEFAULT_LIMITS.contacts_per_greeting_max)
    )
    greeting = Greeting(Address("h" * 255, 65534), 2**63 - 1, {f"entry {n}": "v" * 300 for n in range(16)}, many)
    greeting = replace(greeting, features=("f" * 32,) * DEFAULT_LIMITS.features_per_greeting_max)
    (frame,) = encode(said(greeting))
    assert len(frame) < DEFAULT_LIMITS.control_bytes_max
    assert decode([frame]) == said(greeting)


# --- rubbish --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_that_is_cut_anywhere_is_refused(name: str) -> None:
    frames = encode(said(GOLDEN[name]))
    for end in range(len(frames[0])):
        assert isinstance(understood([frames[0][:end], *frames[1:]]), WireError)
    for end in range(len(frames[1]) if len(frames) > 1 else 0):
        assert refused([frames[0], frames[1][:end]]) is WireCode.BODY


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_followed_by_rubbish_is_refused(name: str) -> None:
    frames = encode(said(GOLDEN[name]))
    for rubbish in b"\x00", b"\xc1", b"\x90", b"\xff" * 100:
        assert refused([bytes(frames[0]) + rubbish, *frames[1:]]) is WireCode.NOT_MSGPACK
    if len(frames) > 1:
        assert refused([frames[0], bytes(frames[1]) + b"\x00"]) is WireCode.BODY


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_with_any_bit_turned_is_understood_or_refused_and_nothing_else(name: str) -> None:
    frames = [bytes(frame) for frame in encode(said(GOLDEN[name]))]
    for place in range(8 * len(frames[0])):
        turned = bytearray(frames[0])
        turned[place // 8] ^= 1 << place % 8
        answer = understood([bytes(turned), *frames[1:]])
        if isinstance(answer, Envelope):
            assert understood(encode(answer)) == answer


@pytest.mark.parametrize("name", [n for n, m in GOLDEN.items() if isinstance(m, State | ReliableMessage | Piece)])
def test_a_body_with_any_bit_turned_is_carried_as_it_is(name: str) -> None:
    """What the bytes of a body mean is for their reader; the codec holds it to its length."""
    head, body = FRAMES[name]
    whole = decode([head, body])
    for place in range(8 * len(body)):
        turned = bytearray(body)
        turned[place // 8] ^= 1 << place % 8
        heard = decode([head, bytes(turned)])
        assert heard != whole
        assert [bytes(frame) for frame in encode(heard)] == [head, bytes(turned)]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=4))
def test_random_bytes_are_refused(frames: list[bytes]) -> None:
    assert isinstance(understood(list(frames)), WireError)


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.just(msgpack.Timestamp(1)),
        st.just(msgpack.ExtType(4, b"abcd")),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=7), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(anything)
def test_any_object_at_all_is_understood_or_refused(value: Any) -> None:
    understood([msgpack.packb(value)])
    understood([msgpack.packb(value), b"abcd"])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9), st.lists(anything, max_size=7), st.binary(max_size=8))
def test_any_fields_of_any_kind_are_understood_or_refused(kind: int, fields: list[Any], body: bytes) -> None:
    understood([head(kind, *fields)])
    understood([head(kind, *fields), body])


@settings(max_examples=120, deadline=None)
@given(anything, anything, anything, anything, anything)
def test_any_head_is_understood_or_refused(version: Any, kind: Any, sender: Any, boot: Any, to: Any) -> None:
    understood([head(kind, 1, False, version=version, sender=sender, boot=boot, to=to)])


def test_nesting_does_not_overflow_the_stack() -> None:
    """The text of 1,000 nested lists overflows Python's stack, so nothing that came is ever shown in an error."""
    for depth in 10, 500, 1000, 1020, 1024, 5000, 60_000:
        nested = b"\x91" * depth + b"\xc0"
        assert isinstance(understood([b"\x98\x03" + nested + b"\xa3ada\x01\xa0\x00\x01\xc2"]), WireError)
        assert isinstance(understood([b"\x98\x03\x09\xa3ada\x01\xa0\x00" + nested + b"\xc2"]), WireError)
        assert isinstance(understood([nested]), WireError)
        assert isinstance(understood([b"\x81\xa1x" * depth]), WireError)


def test_nothing_is_allocated_on_the_say_so_of_a_length() -> None:
    for opening in b"\xdd\x7f\xff\xff\xff", b"\xdd\x00\x03\xff\xff", b"\xdc\x08\x00", b"\xdb\x7f\xff\xff\xff":
        frame = (opening * 60_000)[: DEFAULT_LIMITS.header_bytes_max - 1]
        tracemalloc.start()
        assert refused([frame]) is WireCode.NOT_MSGPACK
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24 << 20  # 1,024 nested lists of 2,048 entries


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([], WireCode.PARTS),
        ([head(9, 0, 1, False, [], 0), b"x"], WireCode.PARTS),
        ([head(8, "x", "", 1, 1, 1, [])], WireCode.PARTS),
        ([head(9, 0, 1, False, [], 0)] * 3, WireCode.PARTS),
        ([b""], WireCode.NOT_MSGPACK),
        ([b"\x00"], WireCode.HEADER),
        ([msgpack.packb([WIRE_VERSION, 9, "ada"])], WireCode.HEADER),
        ([msgpack.packb([WIRE_VERSION, 9, "ada", 4, "bo"])], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version="1")], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version=True)], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version=WIRE_VERSION + 1)], WireCode.VERSION),
        ([head(9, 0, 1, False, [], 0, version=WIRE_VERSION - 1)], WireCode.VERSION),
        ([head(9, 0, 1, False, [], 0, sender="Ada")], WireCode.SENDER),
        ([head(9, 0, 1, False, [], 0, sender="")], WireCode.SENDER),
        ([head(9, 0, 1, False, [], 0, sender=7)], WireCode.SENDER),
        ([head(9, 0, 1, False, [], 0, sender=b"ada")], WireCode.NOT_MSGPACK),
        ([head(9, 0, 1, False, [], 0, boot=-1)], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, boot=2**63)], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, boot=1.0)], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, to="../x")], WireCode.FIELD),
        ([head(0, 1, False)], WireCode.KIND),
        ([head(2, 1, False)], WireCode.KIND),  # retired
        ([head(99, 1, False)], WireCode.KIND),
        ([head(2.0, 1, False)], WireCode.KIND),
        ([head(True, 1, False)], WireCode.KIND),
        ([head("2", 1, False)], WireCode.KIND),
        ([head(9, 0, 1)], WireCode.FIELD),
        ([head(9, 0, 1, 0, [], 0)], WireCode.FIELD),
        ([head(9, 0, -1, False, [], 0)], WireCode.FIELD),
        ([head(9, 0, 2**64 - 1, False, [], 0)], WireCode.FIELD),
        ([head(3, "no such code", "", "")], WireCode.FIELD),
        ([head(3, ["fingerprint"], "", "")], WireCode.FIELD),
        ([head(7, "x" * 1025, False, None)], WireCode.FIELD),
        ([head(7, "x", False)], WireCode.FIELD),
        ([head(7, "x", 0, None)], WireCode.FIELD),
        ([head(7, "x", False, "push_sum")], WireCode.FIELD),
        ([head(7, "x", False, ["push_sum"])], WireCode.FIELD),
        ([head(7, "x", False, [["push_sum"]])], WireCode.FIELD),
        ([head(7, "x", False, [["push_sum", -1]])], WireCode.FIELD),
        ([head(7, "x", False, [["push_sum", 1]] * 257)], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "state", 0.5, 2, []), b""], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "mass", -0.5, 2, []), b""], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "mass", 1e10, 2, []), b""], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "mass", float("nan"), 2, []), b""], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "mass", 1, 2, []), b""], WireCode.FIELD),
        ([head(15, "m", 1, 1, 1, "mass", 0.5, 2, []), b"x"], WireCode.BODY),
        ([head(16, "state", "m", "", 1, 0, 3), b"four"], WireCode.BODY),
        ([head(16, "state", "m", "", 1, 0, 4.0), b"four"], WireCode.BODY),
        ([head(16, "state", "m", "", 1, -4, 4), b"four"], WireCode.FIELD),
        ([head(16, "rumour", "m", "", 1, 0, 4), b"four"], WireCode.FIELD),
        ([head(16, "state", "m", "", 1, 0, 4)], WireCode.PARTS),
        ([head(7, "x" * 5000, False, None)], WireCode.NOT_MSGPACK),
        ([head(7, "two\nlines", False, None)], WireCode.FIELD),
        ([head(12, 1, [["cy", 1, 0, "alive", "bo", 0]])], WireCode.FIELD),
        ([head(12, 1, [["cy", 1, 0, "alive", "bo", 0, None]])], WireCode.FIELD),
        ([head(12, 1, [["cy", 1, 0, "alive", "bo", 0, ["h"]]])], WireCode.FIELD),
        ([head(12, 1, [["cy", 1, 0, "alive", "bo", 0, ["h", 0]]])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, "deltas")], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, [7])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, [""])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, ["Deltas"])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, ["-x"])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, ["x\n"])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, ["x" * 33])], WireCode.FIELD),
        ([head(1, "h", 1, 0, {}, [], True, ["x"] * 33)], WireCode.FIELD),
        ([head(18, "lab")], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY, 6, PROOF]] * 33)], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY, 6]])], WireCode.FIELD),
        ([head(18, "lab", ["cy"])], WireCode.FIELD),
        ([head(18, "lab", [["Cy", KEY, 6, PROOF]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY[1:], 6, PROOF]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY[1:] + "ä", 6, PROOF]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", 7, 6, PROOF]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY, -6, PROOF]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY, 6, PROOF.upper()]])], WireCode.FIELD),
        ([head(18, "lab", [["cy", KEY, 6, 7]])], WireCode.FIELD),
        ([head(7, "\x1b[2J", False, None)], WireCode.FIELD),
        ([b"\x00" * (DEFAULT_LIMITS.header_bytes_max + 1)], WireCode.SIZE),
    ],
)
def test_what_is_wrong_is_named(frames: list[bytes], code: WireCode) -> None:
    assert refused(frames) is code


@pytest.mark.parametrize("host", ["", "a b", "a\x00b", "a\n", "ä", "h" * 256, "[::1]", "a/b", "tcp://x", 5, None])
def test_a_host_that_no_socket_should_see_is_refused(host: Any) -> None:
    assert refused([head(1, host, 7400, 0, {}, [], True)]) is WireCode.FIELD
    assert refused([head(1, "h", 7400, 0, {}, [["zed", host, 7400, 0]], True)]) is WireCode.FIELD


@pytest.mark.parametrize("port", [0, -1, 65535, 65536, 2**63, 7400.0, "7400", True, None])
def test_a_port_whose_successor_is_no_port_is_refused(port: Any) -> None:
    assert refused([head(1, "h", port, 0, {}, [], True)]) is WireCode.FIELD
    assert refused([head(1, "h", 1, 0, {}, [["zed", "h", port, 0]], True)]) is WireCode.FIELD


def test_sizes_and_counts_have_their_limits() -> None:
    limits = Limits(
        payload_bytes_max=100, arrays_max=2, dimensions_max=2, contacts_per_greeting_max=3, fingerprint_entries_max=2
    )

    def state(layout: Any, body: bytes) -> WireCode:
        return refused([head(8, "x", "", 1, 0, 0, layout, []), body], limits)

    assert state([["w", [101], "int8", 101, "float32"]], b"x" * 101) is WireCode.SIZE
    assert state([["w", [1], "int8", 1, "float32"]] * 3, b"xxx") is WireCode.LAYOUT
    assert state([["w", [1, 1, 1], "int8", 1, "float32"]], b"x") is WireCode.LAYOUT
    assert refused([head(1, "h", 1, 0, {}, [["zed", "h", 1, 0]] * 4, True)], limits) is WireCode.FIELD
    assert refused([head(1, "h", 1, 0, {}, [], True, ["f"] * 3)], replace(limits, features_per_greeting_max=2)) is (
        WireCode.FIELD
    )
    assert refused([head(1, "h", 1, 0, {"a": "", "b": "", "c": ""}, [], True)], limits) is WireCode.NOT_MSGPACK


@pytest.mark.parametrize(
    ("layout", "code"),
    [
        ([["w", [4], "int8", 3, "float32"]], WireCode.BODY),
        ([["w", [4], "int8", 5, "float32"]], WireCode.BODY),
        ([], WireCode.BODY),
        ([["w", [4], "int8", 2**62, "float32"], ["v", [4], "int8", 4, "float32"]], WireCode.SIZE),
        ([["w", [4], "int8", -4, "float32"], ["v", [4], "int8", 8, "float32"]], WireCode.FIELD),
        ([["w", [2**40, 2**40], "int8", 4, "float32"]], WireCode.LAYOUT),
        ([["w", [-4], "int8", 4, "float32"]], WireCode.FIELD),
        ([["w", [4.0], "int8", 4, "float32"]], WireCode.FIELD),
        ([["w", 4, "int8", 4, "float32"]], WireCode.LAYOUT),
        ([["w", [4], "int8"]], WireCode.LAYOUT),
        ([["w", [4], "int8", 4]], WireCode.LAYOUT),
        ([["w", [4], "int8", 4, "float31"]], WireCode.LAYOUT),
        ([["w", [4], "int8", 4, ""]], WireCode.LAYOUT),
        ([["w", [4], "int8", 4, 32]], WireCode.LAYOUT),
        ([["w", [4], "int8", 4, ["float32"]]], WireCode.LAYOUT),
        (["w"], WireCode.LAYOUT),
        ({"w": 4}, WireCode.LAYOUT),
        ([[7, [4], "int8", 4, "float32"]], WireCode.FIELD),
    ],
)
def test_a_layout_that_lies_is_refused(layout: Any, code: WireCode) -> None:
    assert refused([head(8, "x", "", 1, 0, 0, layout, []), b"abcd"]) is code


def test_another_version_says_who_and_which_although_nothing_else_can_be_read() -> None:
    with pytest.raises(WireError) as caught:
        decode([msgpack.packb([7, {"new": "kind"}, "ada", 12])])
    assert (caught.value.sender, caught.value.version, caught.value.boot) == ("ada", 7, 12)
    assert caught.value.problem == f"wire version 7, mine is {WIRE_VERSION}"


@pytest.mark.parametrize("boot", [-1, 2**63, True, "12", None, [12]])
def test_a_boot_of_another_version_that_is_none_is_read_as_none(boot: Any) -> None:
    with pytest.raises(WireError) as caught:
        decode([msgpack.packb([7, 1, "ada", boot])])
    assert (caught.value.code, caught.value.sender, caught.value.boot) == (WireCode.VERSION, "ada", 0)


def test_a_look_at_three_bytes_tells_states_and_pieces_as_i_write_them_from_the_rest() -> None:
    def envelope(message: Message) -> Envelope:
        return Envelope(PeerName("ada"), Boot(1 << 40), "bo", 1 << 40, message)

    content = Payload((ArrayLayout("x", (2,), "raw", 8),), bytes(8))
    state, piece = State(1, Content("x", content, 1, 1)), Piece(DeliveryClass.STATE, "x", "", 1, 0, bytes(8))
    mass = ReliableMessage(1, Content("x", content, 1, 1, delivery=DeliveryClass.MASS, weight=0.5, degree=1))
    found = [holds_state_or_piece(encode(envelope(message))[0]) for message in (state, piece, mass, Want("x", "", 1))]
    assert found == [True, True, False, False]
    for head in b"", b"\x9d", b"\x9d\x03", b"\x9d\x02\x08", b"\xdc\x00\x0d\x03\x08":
        assert not holds_state_or_piece(head)

"""The frame format: golden bytes, the way there and back, and that nothing but `WireError` comes out of rubbish."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, Limits
from gossipdistill.messages import (
    Announce,
    ArrayLayout,
    Confirm,
    Consignment,
    DeliveryClass,
    Enquiry,
    Envelope,
    Message,
    Payload,
    Piece,
    Receipt,
    State,
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
from gossipdistill.wire.codec import WireCode, WireError, decode, encode, holds_state_or_piece
from gossipdistill.wire.encodings import ENCODINGS, encoding_of

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
        ArrayLayout, texts, st.lists(st.integers(0, 9), max_size=8).map(tuple), texts, st.integers(0, 40)
    ),
    max_size=5,
).map(tuple)  # fmt: skip


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
    ),
    Refusal: st.builds(Refusal, st.sampled_from(list(RefusalCode)), texts, st.one_of(st.just(""), names)),
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
    Enquiry: st.builds(Enquiry, texts, numbers),
    Consignment: st.builds(
        Consignment,
        texts,
        numbers,
        numbers,
        numbers,
        st.sampled_from([DeliveryClass.MASS, DeliveryClass.STREAM]),
        st.floats(0, 1e6),
        numbers,
        payloads(),
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
    State: st.builds(State, texts, texts, numbers, numbers, numbers, payloads(), confirmations),
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


def head(kind: Any = 9, *fields: Any, version: Any = 2, sender: Any = "ada", boot: Any = 7, to: Any = "bo") -> bytes:
    packed: bytes = msgpack.packb([version, kind, sender, boot, to, 9, *fields])
    return packed


# --- golden frames --------------------------------------------------------------------------------------------------

GOLDEN: dict[str, tuple[Message, list[str]]] = {
    "greeting": (
        Greeting(
            Address("127.0.0.1", 7400), 0, {"task": "digits"}, (Contact(PeerName("cy"), Address("::1", 7404), 2),)
        ),
        [
            "9c0201a3616461cf000001930000000aa2626fcd01f4a93132372e302e302e31cd1ce80081a47461736ba664696769747391"
            "94a26379a33a3a31cd1cec02c3"
        ],
    ),
    "refusal": (
        Refusal(RefusalCode.FINGERPRINT, "task: a here, b there"),
        [
            "990203a3616461cf000001930000000aa2626fcd01f4ab66696e6765727072696e74b57461736b3a206120686572652c2062"
            "207468657265a0"
        ],
    ),
    "announce": (
        Announce("weights", "", 12, 814_568),
        ["9a0204a3616461cf000001930000000aa2626fcd01f4a777656967687473a00cce000c6de8"],
    ),
    "want": (Want("weights", "", 12), ["990205a3616461cf000001930000000aa2626fcd01f4a777656967687473a00c"]),
    "confirm": (Confirm("weights", "k", 12), ["990206a3616461cf000001930000000aa2626fcd01f4a777656967687473a16b0c"]),
    "leave": (Leave("finished"), ["980207a3616461cf000001930000000aa2626fcd01f4a866696e6973686564c2"]),
    "leave, and what was absorbed": (
        Leave("finished", False, (("push_sum", 17),)),
        ["990207a3616461cf000001930000000aa2626fcd01f4a866696e6973686564c29192a8707573685f73756d11"],
    ),
    "ping": (
        Ping(5, 1200, True, (Claim(PeerName("cy"), 400, 2, ClaimKind.SUSPECT, PeerName("dee")),), 3),
        ["9b0209a3616461cf000001930000000aa2626fcd01f405cd04b0c39196a26379cd019002a773757370656374a36465650003"],
    ),
    "ping request": (PingRequest(6, PeerName("cy")), ["99020aa3616461cf000001930000000aa2626fcd01f406a2637990"]),
    "ack": (
        Ack(
            6,
            1200,
            False,
            (Claim(PeerName("eve"), 400, 0, ClaimKind.ALIVE, PeerName("eve"), Address("10.0.0.9", 7400), 4),),
            "cy",
            400,
            1,
        ),
        [
            "9d020ba3616461cf000001930000000aa2626fcd01f406cd04b0c29198a3657665cd019000a5616c697665a365766504a831302e302e302e39cd1ce8a26379cd019001"
        ],
    ),
    "nack": (Nack(6), ["98020ca3616461cf000001930000000aa2626fcd01f40690"]),
    "receipt": (
        Receipt("mass", 3, Verdict.REFUSED, "not finite"),
        ["9a020da3616461cf000001930000000aa2626fcd01f4a46d61737303a772656675736564aa6e6f742066696e697465"],
    ),
    "enquiry": (Enquiry("mass", 3), ["98020ea3616461cf000001930000000aa2626fcd01f4a46d61737303"]),
    "consignment": (
        Consignment(
            "mass", 3, 60, 59, DeliveryClass.MASS, 0.25, 2, Payload((ArrayLayout("w", (1,), "raw", 4),), b"\0\0\x80?")
        ),
        [
            "9e020fa3616461cf000001930000000aa2626fcd01f4a46d617373033c3ba46d617373cb3fd0000000000000029194a1779101a372617704",
            "0000803f",
        ],
    ),
    "piece": (
        Piece(DeliveryClass.STATE, "weights", "", 12, 4_194_304, b"rest"),
        ["9c0210a3616461cf000001930000000aa2626fcd01f4a57374617465a777656967687473a00cce0040000004", "72657374"],
    ),
    "enrolments": (
        Enrolments("first-light", (Enrolment(PeerName("cy"), KEY, 6, "0123456789abcdef" * 4),)),
        [
            "980212a3616461cf000001930000000aa2626fcd01f4ab66697273742d6c696768749194a26379d928596e654024772d766f"
            "3c665676695d613c4e5936543165643a4d246643472a5b49614c567b68494406d94030313233343536373839616263646566"
            "303132333435363738396162636465663031323334353637383961626364656630313233343536373839616263646566"
        ],
    ),
    "here": (Here(), ["960211a3616461cf000001930000000aa2626fcd01f4"]),
    "state": (
        State(
            "outputs",
            "",
            3,
            60,
            2,
            Payload((ArrayLayout("logits", (1, 2), "half", 4),), b"\x00\x3c\x00\xbc"),
            (Confirm("outputs", "", 5),),
        ),
        [
            "9d0208a3616461cf000001930000000aa2626fcd01f4a76f757470757473a0033c029194a66c6f67697473920102a468616c6604"
            "9193a76f757470757473a005",
            "003c00bc",
        ],
    ),
}


GOLDEN_ARRAYS: dict[str, tuple[list[list[float]], str, str]] = {
    "raw": (
        [[0.5, 0.125, 0.25]],
        "9d0208a3616461cf000001930000000aa2626fcd01f4a777656967687473a0033c029194a177920103a37261770c90",
        "0000003f0000003e0000803e",
    ),
    "half": (
        [[0.5, 0.125, 0.25]],
        "9d0208a3616461cf000001930000000aa2626fcd01f4a777656967687473a0033c029194a177920103a468616c660690",
        "003800300034",
    ),
    "bfloat16": (
        [[0.5, 0.125, 0.25]],
        "9d0208a3616461cf000001930000000aa2626fcd01f4a777656967687473a0033c029194a177920103a862666c6f617431360690",
        "003f003e803e",
    ),
    "int8": (
        [[0.5, 0.125, 0.25]],
        "9d0208a3616461cf000001930000000aa2626fcd01f4a777656967687473a0033c029194a177920103a4696e74380790",
        "0402813b7f2040",
    ),
    "top_k:2": (
        [[0.5, 0.125, 0.25]],
        "9d0208a3616461cf000001930000000aa2626fcd01f4a777656967687473a0033c029194a177920103a7746f705f6b3a320a90",
        "00380034000002000030",
    ),
}


def said(message: Message) -> Envelope:
    return Envelope(PeerName("ada"), Boot(0x1930000000A), "bo", 500, message)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_frames_stay_as_they_are_byte_for_byte(name: str) -> None:
    message, frames = GOLDEN[name]
    assert [bytes(frame).hex() for frame in encode(said(message))] == frames
    assert decode([bytes.fromhex(frame) for frame in frames]) == said(message)


@pytest.mark.parametrize("label", GOLDEN_ARRAYS)
def test_golden_states_of_every_encoding_stay_as_they_are_byte_for_byte(label: str) -> None:
    array, head, body = GOLDEN_ARRAYS[label]
    encoding = encoding_of(label)
    values = np.array(array, dtype=np.float32)
    payload = Payload((ArrayLayout("w", values.shape, label, encoding.nbytes(values.shape)),), encoding.encode(values))
    state = said(State("weights", "", 3, 60, 2, payload))
    assert [bytes(frame).hex() for frame in encode(state)] == [head, body]
    assert decode([bytes.fromhex(head), bytes.fromhex(body)]) == state


def test_every_encoding_has_a_golden_state() -> None:
    assert {label.partition(":")[0] for label in GOLDEN_ARRAYS} == set(ENCODINGS)


def test_every_kind_of_message_has_a_golden_frame_and_a_round_trip() -> None:
    kinds = set(Message.__args__)  # type: ignore[attr-defined]
    assert {type(message) for message, _ in GOLDEN.values()} == kinds == set(MESSAGES)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_what_is_said_is_what_is_heard(kind: type) -> None:
    @settings(max_examples=40, deadline=None)
    @given(envelopes(MESSAGES[kind]))
    def check(envelope: Envelope) -> None:
        frames = encode(envelope)
        assert len(frames) == (2 if kind in (State, Consignment, Piece) else 1)
        assert decode(frames) == envelope
        assert decode([memoryview(frame) for frame in frames]) == envelope

    check()


def test_a_payload_is_not_copied_on_its_way() -> None:
    body = memoryview(bytearray(64))
    state = State("x", "", 1, 0, 0, Payload((ArrayLayout("w", (16,), "raw", 64),), body))
    frames = encode(said(state))
    assert frames[1] is body
    heard = decode(frames).message
    assert isinstance(heard, State)
    assert isinstance(heard.payload.body, memoryview)
    assert heard.payload.body.obj is body.obj
    assert heard.payload.body.readonly  # a transport within one process may give the same memory to several readers


def test_later_versions_may_append_fields() -> None:
    message = decode([head(9, 3, 5, True, [], 2, "something new", [1, 2])]).message
    assert message == Ping(3, 5, True, (), 2)


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
    (frame,) = encode(said(greeting))
    assert len(frame) < DEFAULT_LIMITS.control_bytes_max
    assert decode([frame]) == said(greeting)


# --- rubbish --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_that_is_cut_anywhere_is_refused(name: str) -> None:
    frames = encode(said(GOLDEN[name][0]))
    for end in range(len(frames[0])):
        assert isinstance(understood([frames[0][:end], *frames[1:]]), WireError)
    for end in range(len(frames[1]) if len(frames) > 1 else 0):
        assert refused([frames[0], frames[1][:end]]) is WireCode.BODY


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_followed_by_rubbish_is_refused(name: str) -> None:
    frames = encode(said(GOLDEN[name][0]))
    for rubbish in b"\x00", b"\xc1", b"\x90", b"\xff" * 100:
        assert refused([bytes(frames[0]) + rubbish, *frames[1:]]) is WireCode.NOT_MSGPACK
    if len(frames) > 1:
        assert refused([frames[0], bytes(frames[1]) + b"\x00"]) is WireCode.BODY


@pytest.mark.parametrize("name", GOLDEN)
def test_a_frame_with_any_bit_turned_is_understood_or_refused_and_nothing_else(name: str) -> None:
    frames = [bytes(frame) for frame in encode(said(GOLDEN[name][0]))]
    for place in range(8 * len(frames[0])):
        turned = bytearray(frames[0])
        turned[place // 8] ^= 1 << place % 8
        answer = understood([bytes(turned), *frames[1:]])
        if isinstance(answer, Envelope):
            assert understood(encode(answer)) == answer


@pytest.mark.parametrize("name", [name for name, (_, frames) in GOLDEN.items() if len(frames) > 1])
def test_a_body_with_any_bit_turned_is_carried_as_it_is(name: str) -> None:
    """What the bytes of a body mean is for their reader; the codec holds it to its length."""
    head, body = (bytes.fromhex(frame) for frame in GOLDEN[name][1])
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
        assert isinstance(understood([b"\x98\x02" + nested + b"\xa3ada\x01\xa0\x00\x01\xc2"]), WireError)
        assert isinstance(understood([b"\x98\x02\x09\xa3ada\x01\xa0\x00" + nested + b"\xc2"]), WireError)
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
        ([msgpack.packb([2, 9, "ada"])], WireCode.HEADER),
        ([msgpack.packb([2, 9, "ada", 4, "bo"])], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version="1")], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version=True)], WireCode.HEADER),
        ([head(9, 0, 1, False, [], 0, version=3)], WireCode.VERSION),
        ([head(9, 0, 1, False, [], 0, version=0)], WireCode.VERSION),
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
        ([head(7, "x" * 1025)], WireCode.FIELD),
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
        ([head(7, "x" * 5000)], WireCode.NOT_MSGPACK),
        ([head(7, "two\nlines")], WireCode.FIELD),
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
        ([head(7, "\x1b[2J")], WireCode.FIELD),
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
        return refused([head(8, "x", "", 1, 0, 0, layout), body], limits)

    assert state([["w", [101], "int8", 101]], b"x" * 101) is WireCode.SIZE
    assert state([["w", [1], "int8", 1]] * 3, b"xxx") is WireCode.LAYOUT
    assert state([["w", [1, 1, 1], "int8", 1]], b"x") is WireCode.LAYOUT
    assert refused([head(1, "h", 1, 0, {}, [["zed", "h", 1, 0]] * 4, True)], limits) is WireCode.FIELD
    assert refused([head(1, "h", 1, 0, {"a": "", "b": "", "c": ""}, [], True)], limits) is WireCode.NOT_MSGPACK


@pytest.mark.parametrize(
    ("layout", "code"),
    [
        ([["w", [4], "int8", 3]], WireCode.BODY),
        ([["w", [4], "int8", 5]], WireCode.BODY),
        ([], WireCode.BODY),
        ([["w", [4], "int8", 2**62], ["v", [4], "int8", 4]], WireCode.SIZE),
        ([["w", [4], "int8", -4], ["v", [4], "int8", 8]], WireCode.FIELD),
        ([["w", [2**40, 2**40], "int8", 4]], WireCode.LAYOUT),
        ([["w", [-4], "int8", 4]], WireCode.FIELD),
        ([["w", [4.0], "int8", 4]], WireCode.FIELD),
        ([["w", 4, "int8", 4]], WireCode.LAYOUT),
        ([["w", [4], "int8"]], WireCode.LAYOUT),
        (["w"], WireCode.LAYOUT),
        ({"w": 4}, WireCode.LAYOUT),
        ([[7, [4], "int8", 4]], WireCode.FIELD),
    ],
)
def test_a_layout_that_lies_is_refused(layout: Any, code: WireCode) -> None:
    assert refused([head(8, "x", "", 1, 0, 0, layout), b"abcd"]) is code


def test_another_version_says_who_and_which_although_nothing_else_can_be_read() -> None:
    with pytest.raises(WireError) as caught:
        decode([msgpack.packb([7, {"new": "kind"}, "ada", 12])])
    assert (caught.value.sender, caught.value.version) == ("ada", 7)
    assert caught.value.problem == "wire version 7, mine is 2"


def test_a_look_at_three_bytes_tells_states_and_pieces_as_i_write_them_from_the_rest() -> None:
    def envelope(message: Message) -> Envelope:
        return Envelope(PeerName("ada"), Boot(1 << 40), "bo", 1 << 40, message)

    content = Payload((ArrayLayout("x", (2,), "raw", 8),), bytes(8))
    state, piece = State("x", "", 1, 1, 1, content), Piece(DeliveryClass.STATE, "x", "", 1, 0, bytes(8))
    mass = Consignment("x", 1, 1, 1, DeliveryClass.MASS, 0.5, 1, content)
    found = [holds_state_or_piece(encode(envelope(message))[0]) for message in (state, piece, mass, Want("x", "", 1))]
    assert found == [True, True, False, False]
    for head in b"", b"\x9d", b"\x9d\x02", b"\x9d\x01\x08", b"\xdc\x00\x0d\x02\x08":
        assert not holds_state_or_piece(head)

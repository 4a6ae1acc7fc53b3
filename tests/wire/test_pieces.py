"""Large bodies in pieces: there and back in any order, refused by name, one copy, and bounded against liars."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import DEFAULT_LIMITS, MIB, Limits
from gossipdistill.messages import (
    ArrayLayout,
    Confirm,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Payload,
    Piece,
    ReliableMessage,
    State,
)
from gossipdistill.presence import Leave
from gossipdistill.wire.codec import WireCode, WireError, decode, encode
from gossipdistill.wire.crossing import cross
from gossipdistill.wire.pieces import Assembly, split

SMALL = Limits(piece_bytes_max=8, payload_bytes_max=100, assembly_bytes_max=300)
STATM = Path("/proc/self/statm")


def body_of(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def payload(size: int, seed: int = 0) -> Payload:
    return Payload((ArrayLayout("w", (size,), "int8", size),), body_of(size, seed))


def said(message: Message, sender: str = "ada", boot: int = 5) -> Envelope:
    return Envelope(PeerName(sender), Boot(boot), "bo", 9, message)


def state(size: int, number: int = 1, topic: str = "weights", sender: str = "ada", boot: int = 5) -> Envelope:
    content = Content(topic, payload(size, number), 60, 2, "k")
    return said(State(number, content, (Confirm("x", "", 4),)), sender, boot)


def mass(size: int, number: int = 1, sender: str = "ada") -> Envelope:
    content = Content("mass", payload(size, number), 60, 2, "", DeliveryClass.MASS, 0.25, 3)
    return said(ReliableMessage(number, content), sender)


def over_the_wire(envelope: Envelope, limits: Limits = SMALL) -> list[Envelope]:
    return [decode(encode(part), limits) for part in split(envelope, limits)]


def refused(assembly: Assembly, envelope: Envelope) -> WireCode:
    with pytest.raises(WireError) as caught:
        assembly.feed(envelope)
    assert caught.value.sender == envelope.sender
    return caught.value.code


def piece(offset: int, body: bytes, number: int = 1, topic: str = "weights", key: str = "k", boot: int = 5) -> Envelope:
    return said(Piece(DeliveryClass.STATE, topic, key, number, offset, body), boot=boot)


@pytest.mark.parametrize("size", [0, 1, 7, 8])
def test_a_body_of_at_most_one_piece_goes_as_it_is(size: int) -> None:
    for envelope in state(size), mass(size), said(Leave("finished")):
        assert list(split(envelope, SMALL)) == [envelope]
        assert Assembly(SMALL).feed(envelope) is envelope


def test_splitting_copies_nothing() -> None:
    body = memoryview(bytearray(30)).toreadonly()
    envelope = said(State(1, Content("w", Payload((ArrayLayout("w", (30,), "int8", 30),), body), 0, 0)))
    parts = list(split(envelope, SMALL))
    bodies = [m.body if isinstance(m, Piece) else m.payload.body for m in (part.message for part in parts)]  # type: ignore[union-attr]
    assert [len(b) for b in bodies] == [8, 8, 8, 6]
    assert all(isinstance(b, memoryview) and b.obj is body.obj for b in bodies)
    assert [part.message.offset for part in parts[1:]] == [8, 16, 24]  # type: ignore[union-attr]


@settings(max_examples=150, deadline=None)
@given(st.integers(9, 100), st.booleans(), st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_doubles_give_the_whole_once(
    size: int, is_mass: bool, chance: random.Random, data: st.DataObject
) -> None:
    envelope = mass(size) if is_mass else state(size)
    opening, *pieces = over_the_wire(envelope)
    assert len(pieces) == -(-size // 8) - 1
    chance.shuffle(pieces)
    doubles = data.draw(st.lists(st.sampled_from(pieces[:-1]), max_size=4)) if len(pieces) > 1 else []
    assembly = Assembly(SMALL)
    assert assembly.feed(opening) is None
    for early in pieces[:-1] + doubles:
        assert assembly.feed(early) is None
    assert assembly.announced_bytes == size
    whole = assembly.feed(pieces[-1])
    assert whole == envelope
    assert assembly.announced_bytes == 0
    assert refused(assembly, pieces[-1]) is WireCode.PIECE  # an echo of what is complete


@pytest.mark.parametrize("size", [0, 8, 9, 100])
def test_a_world_without_sockets_hears_what_was_said(size: int) -> None:
    for envelope in state(size), mass(size), said(Leave("finished")):
        frames = [frame for part in split(envelope, SMALL) for frame in encode(part)]
        assert cross(envelope, SMALL) == (envelope, sum(map(len, frames)))


def test_a_world_without_sockets_is_told_what_cannot_travel() -> None:
    too_large, cut = state(101), over_the_wire(state(20))[0]
    for envelope in too_large, cut:
        with pytest.raises(WireError):
            cross(envelope, SMALL)


def test_the_completed_body_belongs_to_its_reader_alone() -> None:
    parts = over_the_wire(state(20))
    assembly = Assembly(SMALL)
    whole = [assembly.feed(part) for part in parts][-1]
    assert whole is not None
    assert isinstance(whole.message, State)
    body = whole.message.payload.body
    assert isinstance(body, memoryview)
    assert not body.readonly
    body[:] = bytes(20)
    assert bytes(parts[1].message.body) == body_of(20, 1)[8:16]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "stray",
    [
        piece(8, b"x" * 8, number=2),
        piece(8, b"x" * 8, topic="other"),
        piece(8, b"x" * 8, key=""),
        piece(8, b"x" * 8, boot=6),
        piece(8, b"x" * 7),
        piece(7, b"x" * 8),
        piece(9, b"x" * 8),
        piece(16, b"x" * 3),
        piece(16, b"x" * 5),
        piece(16, b""),
        piece(24, b""),
        piece(24, b"x" * 8),
        piece(2**63 - 8, b"x" * 8),
    ],
    ids=str,
)
def test_a_piece_that_does_not_fit_is_refused_and_spoils_nothing(stray: Envelope) -> None:
    envelope = state(20)
    opening, *pieces = over_the_wire(envelope)
    assembly = Assembly(SMALL)
    assert refused(assembly, stray) is WireCode.PIECE
    assembly.feed(opening)
    assert refused(assembly, stray) is WireCode.PIECE
    assert [assembly.feed(part) for part in pieces][-1] == envelope


def test_one_body_per_sender_and_class_and_the_newest_wins() -> None:
    assembly = Assembly(SMALL)
    old, new, other = (over_the_wire(e) for e in (state(20, 1), state(30, 2), state(20, 1, topic="other")))
    assembly.feed(old[0])
    assembly.feed(new[0])
    assert assembly.announced_bytes == 30
    assert refused(assembly, old[1]) is WireCode.PIECE
    assert refused(assembly, old[0]) is WireCode.PIECE
    assert assembly.announced_bytes == 30
    assert assembly.feed(other[0]) is None  # another slot: its sender has turned to something else
    assert assembly.announced_bytes == 20
    again = over_the_wire(state(30, 1, boot=6))
    assert assembly.feed(again[0]) is None  # a later process counts from 1 again
    assert refused(assembly, over_the_wire(state(20, 9, topic="third"))[0]) is WireCode.PIECE
    assert [assembly.feed(part) for part in again[1:]][-1] == state(30, 1, boot=6)


def test_a_resent_body_begins_afresh() -> None:
    parts = over_the_wire(mass(24))
    assembly = Assembly(SMALL)
    assert [assembly.feed(part) for part in parts[:2]] == [None, None]
    assert [assembly.feed(part) for part in parts] == [None, None, mass(24)]


def test_a_whole_state_overtakes_an_older_one_in_pieces() -> None:
    assembly = Assembly(SMALL)
    assembly.feed(over_the_wire(state(20, 2))[0])
    for bystander in state(4, 1), state(4, 3, topic="other"), mass(4, 9):
        assert assembly.feed(bystander) is bystander
        assert assembly.announced_bytes == 20
    assembly.feed(state(4, 3))
    assert assembly.announced_bytes == 0


def test_the_next_of_a_stream_or_mass_replaces_nothing() -> None:
    """A small frame may pass a large one that is still on its way in pieces; both are wanted."""
    assembly = Assembly(SMALL)
    first, *others = over_the_wire(mass(20, 1))
    assert assembly.feed(first) is None
    assert assembly.feed(mass(4, 2)) is not None
    assert [assembly.feed(part) for part in others][-1] == mass(20, 1)


def test_classes_and_senders_do_not_disturb_one_another() -> None:
    envelopes = [state(30, sender="ada"), mass(30, sender="ada"), state(40, sender="cy"), mass(20, sender="dee")]
    trains = [over_the_wire(envelope) for envelope in envelopes]
    assembly, whole = Assembly(SMALL), []
    for turn in range(max(map(len, trains))):
        whole += [assembly.feed(train[turn]) for train in trains if turn < len(train)]
    came = [envelope for envelope in whole if envelope is not None]
    assert len(came) == len(envelopes)
    assert all(envelope in came for envelope in envelopes)


def test_all_bodies_of_one_sender_have_room_for_one_of_the_largest() -> None:
    assembly = Assembly(SMALL)
    assert assembly.feed(over_the_wire(state(60))[0]) is None
    assert refused(assembly, over_the_wire(mass(41))[0]) is WireCode.FULL
    assert assembly.feed(over_the_wire(mass(40))[0]) is None
    assert assembly.feed(over_the_wire(mass(100, sender="cy"))[0]) is None
    assert assembly.announced_bytes == 200


def test_what_its_sender_left_behind_is_forgotten() -> None:
    assembly = Assembly(SMALL)
    for envelope in state(30), mass(30), state(40, sender="cy"):
        assembly.feed(over_the_wire(envelope)[0])
    assert assembly.senders() == {"ada", "cy"}
    assembly.forget(PeerName("ada"))
    assembly.forget(PeerName("nobody"))
    assert assembly.senders() == {"cy"}
    assert assembly.announced_bytes == 40


def test_a_machine_without_memory_says_that_there_is_no_room() -> None:
    def none_left(size: int) -> memoryview:
        raise MemoryError(size)

    assembly = Assembly(SMALL, none_left)
    assert refused(assembly, over_the_wire(state(20))[0]) is WireCode.FULL
    assert assembly.announced_bytes == 0


def test_memory_that_was_used_before_shows_nothing_of_it() -> None:
    envelope, used = state(20), memoryview(bytearray(b"\xff" * 20))
    assembly = Assembly(SMALL, lambda size: used[:size])
    assert [assembly.feed(part) for part in over_the_wire(envelope)][-1] == envelope


def test_more_than_a_piece_in_one_message_is_refused() -> None:
    envelope = state(9)
    with pytest.raises(WireError, match="body of 9 bytes in one message, at most 8"):
        decode(encode(envelope), SMALL)
    large = said(Piece(DeliveryClass.STATE, "w", "", 1, 8, bytes(9)))
    with pytest.raises(WireError, match="piece of 9 bytes, at most 8"):
        decode(encode(large), SMALL)


def test_an_opening_must_be_a_full_piece_of_a_body_that_is_not_too_large() -> None:
    good = over_the_wire(state(20))[0]
    assert isinstance(good.message, State)
    carried = good.message.payload
    short = replace(good, message=good.message.with_content(payload=replace(carried, body=carried.body[:7])))
    longer = replace(carried, layout=(ArrayLayout("w", (101,), "int8", 101),))
    huge = replace(good, message=good.message.with_content(payload=longer))
    for bad in short, huge:
        with pytest.raises(WireError) as caught:
            decode(encode(bad), SMALL)
        assert caught.value.code in (WireCode.BODY, WireCode.SIZE)
        with pytest.raises(WireError, match="opens a body"):
            Assembly(SMALL).feed(bad)


def test_who_finds_no_room_is_refused_until_something_is_done_or_given_up() -> None:
    assembly = Assembly(SMALL)
    trains = {name: over_the_wire(state(100, sender=name)) for name in ("ada", "bo", "cy", "dee")}
    for name in "ada", "bo", "cy":
        assembly.feed(trains[name][0])
    assert refused(assembly, trains["dee"][0]) is WireCode.FULL
    for part in trains["bo"][1:]:
        assembly.feed(part)  # done
    assert assembly.feed(trains["dee"][0]) is None
    assert refused(assembly, trains["bo"][0]) is WireCode.FULL
    # Ada and Cy say no more; when 300 bytes have come since, the one that has been silent longest makes room.
    for _ in range(3):
        for part in trains["dee"][1:-1]:
            assembly.feed(part)
    assert assembly.feed(trains["bo"][0]) is None
    assert refused(assembly, trains["ada"][1]) is WireCode.PIECE
    assert assembly.feed(trains["cy"][1]) is None
    assert assembly.announced_bytes == 300


@pytest.mark.skipif(not STATM.exists(), reason="no /proc: resident memory cannot be read")
def test_announcing_much_and_sending_little_costs_what_was_sent() -> None:
    def resident_bytes() -> int:
        return int(STATM.read_text().split()[1]) * 4096

    limits = replace(DEFAULT_LIMITS, piece_bytes_max=MIB)
    assembly = Assembly(limits)
    layout = (ArrayLayout("w", (limits.payload_bytes_max,), "int8", limits.payload_bytes_max),)
    first = bytes(limits.piece_bytes_max)
    before = resident_bytes()
    for byzantine in range(8):
        assembly.feed(said(State(1, Content("w", Payload(layout, first), 0, 0)), f"liar-{byzantine}"))
    assert assembly.announced_bytes == limits.assembly_bytes_max
    # 8 MiB came, in pages of 4 KiB or 2 MiB, the first and the last of each body perhaps partly
    assert resident_bytes() - before < 8 * (1 + 2 * 2) * MIB
    assert refused(assembly, said(State(1, Content("w", Payload(layout, first), 0, 0)), "one-more")) is WireCode.FULL


def test_a_body_is_copied_once_on_its_way_in() -> None:
    limits = DEFAULT_LIMITS
    size = 6 * limits.piece_bytes_max + 12
    parts = over_the_wire(state(size), limits)
    assembly = Assembly(limits)
    tracemalloc.start()
    whole = [assembly.feed(part) for part in parts][-1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole is not None
    assert size <= peak < size + MIB


wild = st.one_of(
    st.builds(
        lambda sender, boot, number, size, topic: over_the_wire(state(size, number, topic, sender, boot))[0],
        st.sampled_from(["ada", "cy", "dee", "eve"]),
        st.integers(4, 6),
        st.integers(1, 3),
        st.integers(0, 100),
        st.sampled_from(["weights", "other"]),
    ),
    st.builds(
        lambda sender, boot, number, offset, body, topic, kind: said(
            Piece(kind, topic, "k", number, offset, body), sender, boot
        ),
        st.sampled_from(["ada", "cy", "dee", "eve"]),
        st.integers(4, 6),
        st.integers(1, 3),
        st.one_of(st.sampled_from([0, 8, 16, 24, 32, 40]), st.integers(0, 200)),
        st.one_of(st.just(b"x" * 8), st.binary(max_size=8)),
        st.sampled_from(["weights", "other"]),
        st.sampled_from(list(DeliveryClass)),
    ),
    st.builds(lambda sender, size: mass(size, sender=sender), st.sampled_from(["ada", "cy"]), st.integers(0, 100)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(wild, max_size=40))
def test_whatever_comes_nothing_but_a_wire_error_goes_out_and_the_bounds_hold(envelopes: list[Envelope]) -> None:
    assembly, codes = Assembly(SMALL), set()
    for envelope in envelopes:
        whole = None
        try:
            whole = assembly.feed(envelope)
        except WireError as error:
            codes.add(error.code)
        if whole is not None:
            assert isinstance(whole.message, State | ReliableMessage)
            carried = whole.message.payload
            assert carried.nbytes == sum(array.nbytes for array in carried.layout)
        assert assembly.announced_bytes <= SMALL.assembly_bytes_max
    assert codes <= {WireCode.PIECE, WireCode.FULL}

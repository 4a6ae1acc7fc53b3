"""Large bodies on their way out: whose turn it is, what waits, what is refused, and what counts as not sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gossipdistill.drivers.zeromq.faulty import Flip
from gossipdistill.drivers.zeromq.send_scheduler import SendScheduler
from gossipdistill.ids import Boot, PeerName
from gossipdistill.limits import Limits
from gossipdistill.messages import (
    ArrayLayout,
    Content,
    DeliveryClass,
    Envelope,
    Payload,
    Piece,
    ReliableMessage,
    State,
    Transmit,
)
from gossipdistill.presence import Address

LIMITS = Limits(piece_bytes_max=8, turn_messages_max=1_000)
MASS, STREAM = DeliveryClass.MASS, DeliveryClass.STREAM


class Wire:
    """Where messages are put: `room` more are taken for each recipient."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.log: list[tuple[str, str]] = []
        self.room: dict[str, int] = {}
        self.way = "link"
        self.ended: list[int] = []
        self.send_scheduler: SendScheduler[str] = SendScheduler(limits, self)

    def put(self, transmit: Transmit, way: str | None, flip: Flip | None = None) -> str | None:
        envelope = transmit.envelope
        if not self.room.get(envelope.to, 0) or (way is not None and way != self.way):
            return None
        self.room[envelope.to] -= 1
        message = envelope.message
        assert isinstance(message, State | ReliableMessage | Piece)
        part = f"+{message.offset}" if isinstance(message, Piece) else ""
        self.log.append((envelope.to, f"{message.number}{part}"))
        return self.way

    def sent(self, transmit: Transmit) -> None:
        message = transmit.envelope.message
        assert isinstance(message, State | ReliableMessage)
        self.ended.append(message.number)

    def said(self, to: str) -> list[str]:
        return [what for recipient, what in self.log if recipient == to]


def content(size: int) -> Payload:
    return Payload((ArrayLayout("x", (size,), "raw", size),), bytes(size))


def state(to: str, number: int, size: int = 24, to_boot: int = 1) -> Transmit:
    message = State(number, Content("x", content(size), 0, 0))
    return Transmit(Address("h", 1), Envelope(PeerName("ada"), Boot(1), to, to_boot, message))


def reliable(to: str, number: int, delivery: DeliveryClass = MASS, size: int = 24) -> Transmit:
    message = ReliableMessage(number, Content("m", content(size), 0, 0, delivery=delivery, weight=1.0, degree=0))
    return Transmit(Address("h", 1), Envelope(PeerName("ada"), Boot(1), to, 1, message))


def test_each_recipient_has_one_piece_per_turn() -> None:
    wire = Wire()
    wire.room = {"bo": 99, "cy": 99, "dee": 99}
    for place, name in enumerate(wire.room):
        assert wire.send_scheduler.add(state(name, 10 * place, 8 * (3 + place)))
    assert not wire.send_scheduler.pump()
    assert [name for name, _ in wire.log] == ["bo", "cy", "dee"] * 3 + ["cy", "dee", "dee"]
    assert wire.said("cy") == ["10", "10+8", "10+16", "10+24"]
    assert wire.ended == [0, 10, 20]
    assert wire.send_scheduler.lanes == {}


def test_one_that_takes_nothing_holds_up_nobody_and_goes_on_where_it_stopped() -> None:
    wire = Wire()
    wire.room = {"bo": 2, "cy": 99}
    assert wire.send_scheduler.add(state("bo", 1, 40))
    assert wire.send_scheduler.add(state("cy", 2, 40))
    assert not wire.send_scheduler.pump()
    assert wire.ended == [2]
    assert wire.said("bo") == ["1", "1+8"]
    wire.room["bo"] = 99
    wire.send_scheduler.pump()
    assert wire.said("bo") == ["1", "1+8", "1+16", "1+24", "1+32"]


def test_a_turn_is_bounded_and_who_was_served_last_comes_last_in_the_next() -> None:
    wire = Wire(replace(LIMITS, turn_messages_max=1))
    wire.room = {"bo": 99, "cy": 99}
    for number, name in enumerate(wire.room):
        assert wire.send_scheduler.add(state(name, number, 40))
    while wire.send_scheduler.pump():
        pass
    assert [name for name, _ in wire.log[2:]] == ["bo", "cy"] * 4


def test_classes_of_one_link_take_turns_and_small_messages_pass_in_between() -> None:
    wire = Wire()
    wire.room = {"bo": 4}
    assert wire.send_scheduler.add(state("bo", 1))
    assert wire.send_scheduler.add(reliable("bo", 7))
    wire.send_scheduler.pump()
    assert wire.said("bo") == ["1", "7", "1+8", "7+8"]
    wire.room["bo"] = 1
    assert wire.send_scheduler.add(state("bo", 2, size=8))
    assert wire.said("bo")[-1] == "2"
    assert wire.ended == [2]


def test_a_second_state_is_refused_while_one_flows_and_mass_and_streams_wait() -> None:
    wire = Wire()
    wire.room = {"bo": 2}
    assert wire.send_scheduler.add(state("bo", 1))
    assert not wire.send_scheduler.add(state("bo", 2))
    assert wire.send_scheduler.add(state("bo", 1)), "said again while it flows: nothing to do"
    assert wire.send_scheduler.add(reliable("bo", 1, STREAM))
    for _ in range(2):
        assert wire.send_scheduler.add(reliable("bo", 2, STREAM))
    wire.room["bo"] = 99
    wire.send_scheduler.pump()
    assert wire.said("bo") == ["1", "1", "1+8", "1+8", "1+16", "1+16", "2", "2+8", "2+16"]
    assert wire.send_scheduler.lanes == {}


def test_what_is_not_taken_at_all_is_not_sent() -> None:
    wire = Wire()
    assert not wire.send_scheduler.add(state("bo", 1))
    assert not wire.send_scheduler.add(state("bo", 1, size=8))
    assert wire.send_scheduler.lanes == {}
    assert wire.log == []


def test_what_is_dropped_is_returned_and_other_recipients_keep_theirs() -> None:
    wire = Wire()
    wire.room = {"bo": 2, "cy": 1}
    told = [state("bo", 1), reliable("bo", 1, STREAM), reliable("bo", 2, STREAM), state("cy", 2)]
    for transmit in told:
        assert wire.send_scheduler.add(transmit)
    assert wire.send_scheduler.drop("bo") == told[:3]
    assert wire.send_scheduler.drop("bo") == []
    assert list(wire.send_scheduler.lanes) == ["cy"]


def test_a_body_keeps_to_its_way_and_ends_with_it() -> None:
    wire = Wire()
    wire.room = {"bo": 1, "cy": 0}
    flowing = state("bo", 1)
    assert wire.send_scheduler.add(flowing)
    wire.way, wire.room = "another", {"bo": 99}
    assert not wire.send_scheduler.pump()
    assert wire.said("bo") == ["1"]
    assert wire.send_scheduler.drop_way("link") == [flowing]
    assert wire.send_scheduler.add(flowing)
    wire.send_scheduler.pump()
    assert wire.said("bo") == ["1", "1", "1+8", "1+16"]


@pytest.mark.parametrize("size", [8, 24])
def test_a_body_for_a_process_that_was_replaced_is_forgotten(size: int) -> None:
    wire = Wire()
    wire.room = {"bo": 1}
    assert wire.send_scheduler.add(state("bo", 1))
    wire.room = {"bo": 99}
    assert wire.send_scheduler.add(state("bo", 2, size, to_boot=2))
    wire.send_scheduler.pump()
    assert wire.said("bo")[:2] == ["1", "2"]
    assert wire.ended == [2]


def test_a_second_copy_never_waits_and_nobody_asks_for_it() -> None:
    wire = Wire()
    wire.room = {"bo": 1}
    assert wire.send_scheduler.add(reliable("bo", 1, STREAM), quiet=True)
    assert not wire.send_scheduler.add(reliable("bo", 2, STREAM), quiet=True)
    assert wire.send_scheduler.drop("bo") == []

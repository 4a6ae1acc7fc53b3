"""What doctors say to one another, in a world without sockets, where time is a number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gossipdistill.doctor.case import Meeting
from gossipdistill.doctor.meetings import LARGE_PIECES, LARGE_TRANSFERS_MAX, PIECE_BYTES, Meetings, Send
from gossipdistill.drivers.channels import Channel
from gossipdistill.ids import Boot, PeerName
from gossipdistill.messages import Envelope, Piece
from gossipdistill.presence import NOWHERE, Address, Greeting, Refusal, RefusalCode
from gossipdistill.wire import codec
from gossipdistill.wire.codec import decode, encode
from gossipdistill.wire.errors import WireCode, WireError

TICK_S = 0.05
FACTS = {"gossipdistill": "0.1.0", "wire": "3", "torch": "2.13.0"}
Passes = Callable[[str, str, Send], bool]


def everything(_sender: str, _to: str, _send: Send) -> bool:
    return True


class World:
    """Doctors who hear one another at once, as far as `passes(sender, recipient, send)`; with clocks of their own."""

    def __init__(self, names: list[str], passes: Passes = everything, nowhere: str = "", ahead_s: float = 0.0) -> None:
        self.passes, self.now, self.ahead_s, self.order = passes, 0.0, ahead_s, names
        self.doctors: dict[str, Meetings] = {}
        for place, name in enumerate(names):
            others = names[place + 1 :] + names[:place]
            address = NOWHERE if name == nowhere else Address(name, 7400)
            self.doctors[name] = Meetings(
                name,
                place + 1,
                address,
                place,
                FACTS,
                [o for o in others if o != nowhere],
                [o for o in others if o == nowhere],
                listens=name != nowhere,
            )

    def wall_s(self, name: str) -> float:
        return self.now + (self.ahead_s if name == self.order[-1] else 0.0)

    def deliver(self, sender: str, sends: list[Send]) -> None:
        for send in sends:
            to = send.to or send.route.decode()
            if to not in self.doctors or not self.passes(sender, to, send):
                continue
            self.doctors[sender].taken(send, self.now)
            origin: str | bytes = sender.encode() if send.to else sender
            envelope = decode(encode(send.envelope))  # as it would travel
            answer = self.doctors[to].heard(send.channel, origin, envelope, self.now, self.wall_s(to))
            self.deliver(to, answer)

    def run(self, seconds: float) -> float:
        """Until nobody awaits anybody, at most so long; returns how long it took."""
        began_s = self.now
        while self.now < began_s + seconds and any(one.missing(self.now) for one in self.doctors.values()):
            for name, doctor in self.doctors.items():
                self.deliver(name, doctor.due(self.now, self.wall_s(name)))
            self.now += TICK_S
        return self.now - began_s

    def met(self, me: str, other: str) -> Meeting:
        return self.doctors[me].result()[other]


def test_three_doctors_find_one_another_and_know_when_all_is_known() -> None:
    world = World(["ada", "bo", "cy"], ahead_s=5.0)
    assert world.run(60) < 6
    for me, doctor in world.doctors.items():
        assert doctor.missing(world.now) == []
        for other, met in doctor.result().items():
            assert (met.kind, met.reached, met.reaches_me, met.answered_as) == ("doctor", True, True, other), (
                me,
                other,
            )
            assert len(met.round_trips_s) == 10
            assert met.small_s is not None
            assert met.large_bytes == LARGE_PIECES * PIECE_BYTES
            assert dict(met.versions) == FACTS
    assert world.met("ada", "cy").clock_ahead_s == pytest.approx(5.0)
    assert world.met("cy", "ada").clock_ahead_s == pytest.approx(-5.0)
    assert world.met("ada", "bo").clock_ahead_s == pytest.approx(0.0)


def test_one_that_does_not_run_is_awaited_and_the_others_are_measured_meanwhile() -> None:
    world = World(["ada", "bo", "cy"])
    del world.doctors["cy"]
    assert world.run(30) >= 30
    assert world.doctors["ada"].missing(world.now) == ["cy"]
    assert not world.doctors["ada"].busy(world.now)
    assert world.met("ada", "cy") == Meeting()
    assert world.met("ada", "bo").large_bytes == LARGE_PIECES * PIECE_BYTES


def test_one_way_is_told_from_both() -> None:
    world = World(["ada", "bo"], passes=lambda sender, to, send: sender == "ada" or not send.to)
    assert world.run(60) < 60
    there, back = world.met("ada", "bo"), world.met("bo", "ada")
    assert (there.reached, there.reaches_me) == (True, False)
    assert (back.reached, back.reaches_me) == (False, True)
    assert there.large_bytes == LARGE_PIECES * PIECE_BYTES
    assert back.large_bytes == 0


def test_a_data_port_that_is_closed_shows() -> None:
    world = World(["ada", "bo"], passes=lambda sender, to, send: send.channel is Channel.CONTROL)
    assert world.run(60) < 30
    met = world.met("ada", "bo")
    assert (met.reached, met.small_s, met.large_s) == (True, None, None)
    assert met.round_trips_s


def test_a_slow_link_is_judged_by_what_has_arrived() -> None:
    passed = {"count": 0}

    def slowly(sender: str, to: str, send: Send) -> bool:
        if isinstance(send.envelope.message, Piece) and send.envelope.message.key == "large":
            passed["count"] += 1
            return passed["count"] % 40 == 0
        return True

    world = World(["ada", "bo"], passes=slowly)
    assert world.run(120) < 60
    met = world.met("ada", "bo")
    assert met.large_s is not None
    assert met.large_s < 11
    assert 0 < met.large_bytes < LARGE_PIECES * PIECE_BYTES


def test_lost_pieces_are_sent_again() -> None:
    lost: set[tuple[str, int]] = set()

    def once_in_vain(sender: str, to: str, send: Send) -> bool:
        message = send.envelope.message
        if isinstance(message, Piece) and message.number % 8 == 3 and (sender, message.number) not in lost:
            lost.add((sender, message.number))
            world.doctors[sender].taken(send, world.now)
            return False
        return True

    world = World(["ada", "bo"], passes=once_in_vain)
    world.run(60)
    assert lost
    assert world.met("ada", "bo").large_bytes == world.met("bo", "ada").large_bytes
    assert world.met("ada", "bo").large_bytes > 0


def test_one_that_nobody_can_dial_calls_the_others() -> None:
    world = World(["ada", "bo", "cy"], nowhere="cy")
    assert world.run(60) < 10
    assert (world.met("ada", "cy").reached, world.met("ada", "cy").reaches_me) == (False, True)
    assert (world.met("cy", "ada").reached, world.met("cy", "ada").reaches_me) == (True, False)
    assert world.met("cy", "ada").large_bytes == LARGE_PIECES * PIECE_BYTES


def test_two_addresses_that_are_confused_show_by_the_name_that_answers() -> None:
    world = World(["ada", "bo"])
    cy = Meetings("cy", 9, Address("cy", 7400), 2, FACTS, ["ada"])
    call = next(send for send in world.doctors["ada"].due(0.0, 0.0) if send.to == "bo")
    assert isinstance(call.envelope.message, Greeting)
    answer = cy.heard(Channel.CONTROL, b"ada", call.envelope, 0.0, 0.0)[0]
    world.doctors["ada"].heard(Channel.CONTROL, "bo", answer.envelope, 0.0, 0.0)
    assert world.met("ada", "bo").answered_as == "cy"


def test_only_the_next_few_get_a_large_body() -> None:
    names = [f"p{k}" for k in range(LARGE_TRANSFERS_MAX + 3)]
    world = World(names)
    world.run(300)
    met = world.doctors["p0"].result()
    assert [name for name, one in met.items() if one.large_bytes] == names[1 : LARGE_TRANSFERS_MAX + 1]
    assert all(one.small_s is not None for one in met.values())


def test_those_before_in_a_large_roster_are_answered_and_not_awaited() -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"], answered=["cy"])
    cy = Meetings("cy", 2, Address("cy", 7400), 2, FACTS, ["ada"])
    answers = ada.heard(Channel.CONTROL, b"cy", cy.due(0.0, 0.0)[0].envelope, 0.0, 0.0)
    assert [answer.route for answer in answers] == [b"cy"]
    assert ada.missing(0.0) == ["bo"]
    assert list(ada.result()) == ["bo"]


def word_of_a_worker(message: Refusal | Greeting) -> Envelope:
    return Envelope(PeerName("bo"), Boot(7), "doctor.ada", 1, message)


def test_a_worker_turns_the_greeting_away_and_is_known_by_that() -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    (call,) = ada.due(1.0, 1.0)
    assert call.envelope.sender == "doctor.ada"
    assert call.envelope.to not in ("", "bo")
    refusal = word_of_a_worker(Refusal(RefusalCode.WRONG_NAME, "this address belongs to bo", call.envelope.to))
    assert ada.heard(Channel.CONTROL, "bo", refusal, 1.02, 1.02) == []
    met = ada.result()["bo"]
    assert (met.kind, met.reached, met.reaches_me) == ("worker", True, False)
    assert met.round_trips_s == pytest.approx((0.02,))
    assert ada.missing(1.1) == ["bo"]  # it may still call back
    assert ada.heard(Channel.CONTROL, b"bo/7/1", refusal, 1.3, 1.3) == []
    assert ada.result()["bo"].reaches_me
    assert ada.missing(1.4) == []


def test_a_worker_that_never_calls_back_is_not_awaited_for_ever() -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    refusal = word_of_a_worker(Refusal(RefusalCode.WRONG_NAME, "this address belongs to bo"))
    now = 0.0
    while ada.missing(now):
        assert now < 10
        for _ in ada.due(now, now):
            ada.heard(Channel.CONTROL, "bo", refusal, now, now)
        now += TICK_S
    assert (ada.result()["bo"].reached, ada.result()["bo"].reaches_me) == (True, False)


def test_a_worker_that_looks_for_my_peer_has_reached_me() -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    greeting = word_of_a_worker(Greeting(Address("bo", 7400), 1, {"run": "test"}))
    assert ada.heard(Channel.CONTROL, b"bo/7/1", greeting, 0.0, 0.0) == []
    met = ada.result()["bo"]
    assert (met.kind, met.reached, met.reaches_me) == ("worker", False, True)


def test_another_wire_version_shows_on_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    bo = Meetings("bo", 1, Address("bo", 7400), 1, FACTS | {"wire": "4"}, ["ada"])
    call = ada.due(0.0, 0.0)[0]
    answer = bo.heard_other_version(b"doctor.ada/1/1", problem_of(call), 0.0)
    assert [one.route for one in answer] == [b"doctor.ada/1/1"]
    with monkeypatch.context() as patch:
        patch.setattr(codec, "WIRE_VERSION", 4)
        frames = encode(answer[0].envelope)
    with pytest.raises(WireError) as caught:
        decode(frames)
    assert ada.heard_other_version("bo", caught.value, 0.1) == []
    assert (ada.result()["bo"].wire_version, ada.result()["bo"].reached) == ("4", True)
    assert bo.result()["ada"].reaches_me
    assert ada.missing(5.0) == []


def problem_of(send: Send) -> WireError:
    return WireError(WireCode.VERSION, "wire version 3, mine is 4", send.envelope.sender, 3)


@pytest.mark.parametrize(("theirs", "shown"), [(4, "4"), (None, "unknown")])
def test_a_worker_of_a_later_wire_version_says_so_in_mine(theirs: int | None, shown: str) -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    ada.due(0.0, 0.0)
    refusal = word_of_a_worker(Refusal(RefusalCode.WIRE_VERSION, "...", wire_version=theirs))
    assert ada.heard(Channel.CONTROL, "bo", refusal, 0.1, 0.1) == []
    met = ada.result()["bo"]
    assert (met.kind, met.reached, met.wire_version) == ("worker", True, shown)


def test_rubbish_and_strangers_are_passed_over() -> None:
    ada = Meetings("ada", 1, Address("ada", 7400), 0, FACTS, ["bo"])
    stranger = Meetings("mallory", 1, Address("m", 7400), 0, FACTS, ["ada"])
    for send in stranger.due(0.0, 0.0):
        assert ada.heard(Channel.CONTROL, b"mallory", send.envelope, 0.0, 0.0) == []
    assert ada.heard_other_version(b"x", WireError(WireCode.NOT_MSGPACK, "?"), 0.0) == []
    assert ada.heard_other_version(b"x", WireError(WireCode.VERSION, "?", "mallory", 9), 0.0) == []
    assert ada.result() == {"bo": Meeting()}


def test_a_piece_is_confirmed_on_control_whatever_it_came_on() -> None:
    bo = Meetings("bo", 1, Address("bo", 7400), 1, FACTS, ["ada"])
    world = World(["ada", "bo"])
    seen: list[Channel] = []
    world.doctors["bo"] = bo

    def watching(sender: str, to: str, send: Send) -> bool:
        if type(send.envelope.message).__name__ == "Confirm":
            seen.append(send.channel)
        return True

    world.passes = watching
    world.run(30)
    assert set(seen) == {Channel.CONTROL}

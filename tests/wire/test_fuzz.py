"""Frames that a misbehaving peer might send: nothing is raised, nothing grows, and the honest are not disturbed."""

from __future__ import annotations

import json
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from benchmarks import fuzz, fuzz_atheris
from benchmarks.fuzzing.chances import Chances
from benchmarks.fuzzing.mutator import FINGERPRINT, place_address
from benchmarks.fuzzing.target import COUNTED, LIMITS, MY_BOOT, BrokenError, Target
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.messages import (
    ArrayLayout,
    Content,
    DeliveryClass,
    Envelope,
    Message,
    Payload,
    ReliableMessage,
    Settlement,
    State,
)
from gossipdistill.presence import Greeting, Leave, Ping
from gossipdistill.protocol.peer import Peer
from gossipdistill.wire.codec import encode
from gossipdistill.wire.pieces import split

ENTRIES_MAX = 3_000
"""Of all tables of one target: its limits allow each of five members 16 slots of states, and 16 of the others."""


@pytest.mark.parametrize("closed", [True, False], ids=["roster", "open"])
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_spoilt_frames_raises_nothing_and_is_forgotten(seed: int, closed: bool) -> None:
    target = Target(random.Random(f"{seed}/{closed}"), closed)
    while target.counts["frames"] < 3_000:
        target.step()
    frames = target.counts["frames"]
    assert target.counts["past the header"] >= frames / 2
    assert target.counts["received"] >= frames / 4
    assert target.counts["received from the living"] >= frames / 10
    assert target.counts["arrivals"] > 0
    assert target.entries() < ENTRIES_MAX


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=200, max_size=4000), st.booleans())
def test_a_storm_by_dice_that_can_be_shrunk(dice: bytes, closed: bool) -> None:
    chances = Chances(dice)
    target = Target(chances, closed)
    while not chances.spent():
        target.step()
    assert target.counts["frames"] > 0
    assert target.entries() < ENTRIES_MAX


def test_the_same_seed_is_the_same_storm() -> None:
    def counts(seed: int) -> dict[str, int]:
        storm = fuzz.Storm(seed)
        storm.run(2_000)
        return dict(storm.counts)

    assert counts(5) == counts(5)
    assert counts(5) != counts(6)


# --- the fuzzer can fail --------------------------------------------------------------------------------------------


def test_a_planted_exception_is_found_and_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receive = Peer.receive

    def stumble(self: Peer, envelope: Envelope, now: float) -> None:
        if isinstance(envelope.message, Leave) and envelope.message.crashed:
            raise KeyError("planted")
        receive(self, envelope, now)

    monkeypatch.setattr(Peer, "receive", stumble)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--frames", "8000", "--seed", "3", "--out", str(tmp_path)])
    assert fuzz.main() == 1
    said = capsys.readouterr().err
    assert "FAIL: KeyError at frame" in said
    assert "planted" in said
    assert "--seed 3" in said
    assert not list(tmp_path.iterdir())


def test_a_planted_step_backwards_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    received = Peer.received

    def twice(self: Peer) -> list[object]:
        came = received(self)
        return [*came, *came]

    monkeypatch.setattr(Peer, "received", twice)
    with pytest.raises(fuzz.FoundError, match=r"BrokenError.* back to "):
        fuzz.Storm(0).run(4_000)


class Slotted:
    """As some of the protocol's tables are: no dataclass, and no dictionary of its own."""

    __module__ = "gossipdistill.protocol.planted"
    __slots__ = ("rows",)

    def __init__(self, rows: object) -> None:
        self.rows = rows


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, deque, dict.fromkeys])
def test_a_planted_leak_is_seen_in_whatever_holds_it(kind: Callable[[Iterable[int]], object]) -> None:
    target = Target(random.Random(0))
    before = target.entries()
    target.peer.planted = Slotted({"one row": kind(range(1000))})  # type: ignore[attr-defined]
    assert target.entries() == before + 1 + 1000


def test_no_table_of_the_target_is_overlooked() -> None:
    """Our own classes are looked into by their attributes; of others, every kind that has a length must be counted."""
    target = Target(random.Random(2))
    while target.counts["frames"] < 2_000:
        target.step()
    foreign = [thing for thing in target.tables() if not type(thing).__module__.startswith("gossipdistill")]
    overlooked = {
        type(thing).__name__ for thing in foreign if hasattr(thing, "__len__") and not isinstance(thing, COUNTED)
    }
    ours = {type(thing).__name__ for thing in target.tables()} & {"Piggyback", "Directory", "Assembly", "Mailbox"}
    assert ours == {"Piggyback", "Directory", "Assembly", "Mailbox"}
    assert overlooked <= {"bytearray", "memoryview"}


def test_a_time_out_that_is_always_due_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "next_timeout", lambda self: 0.0)
    with pytest.raises(BrokenError, match="due for ever"):
        Target(random.Random(0)).step()


# --- its two commands -----------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_what_it_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["fuzz", "--frames", "6000", "--seed", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(fuzz, "ENTRIES_RATIO_MAX", 100.0)  # in so short a storm the tables are still filling
    assert fuzz.main() == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "fuzz.md").read_text() == printed
    assert "| exceptions | 0 | PASS (0) |" in printed
    found = json.loads((tmp_path / "fuzz.json").read_text())["found"]
    assert found["counts"]["frames"] >= 6_000


def test_without_atheris_its_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert fuzz_atheris.main() == fuzz_atheris.EXIT_ABSENT == 2
    assert "pip install 'gossipdistill[fuzz]' (exit code 2)" in capsys.readouterr().err


# --- one honest member among liars ----------------------------------------------------------------------------------

HONEST = PeerName("bo")


class AmongLiars(RuleBasedStateMachine):
    """Whatever the liars say, what the honest member says arrives, once, in order and unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.target = Target(random.Random(0), spared=frozenset({HONEST}))
        self.number = self.consigned = 0
        self.expected: list[tuple[DeliveryClass, int, bytes]] = []
        self.last: dict[DeliveryClass, Message] = {}
        self.say(Greeting(place_address(1), 1, FINGERPRINT))

    def say(self, message: Message) -> None:
        envelope = Envelope(HONEST, Boot(2_000), "ada", MY_BOOT, message)
        for part in split(envelope, LIMITS):
            self.target.receive([bytes(frame) for frame in encode(part)], HONEST)
        self.target.settle_down()

    def payload(self, size: int) -> Payload:
        return Payload((ArrayLayout("w", (size,), "int8", size),), random.Random(self.number).randbytes(size))

    @rule(dice=st.binary(min_size=20, max_size=800))
    def liars_speak(self, dice: bytes) -> None:
        chances = Chances(dice)
        self.target.chance = self.target.mutator.chance = chances
        while not chances.spent():
            self.target.step()

    @rule(size=st.integers(1, 64))
    def a_state(self, size: int) -> None:
        self.number += 1
        carried = self.payload(size)
        self.expected.append((DeliveryClass.STATE, self.number, bytes(carried.body)))
        self.last[DeliveryClass.STATE] = State(self.number, Content("honest", carried, 1, 1))
        self.say(self.last[DeliveryClass.STATE])

    @rule(size=st.integers(1, 64))
    def some_mass(self, size: int) -> None:
        """The next when the last is settled: an honest sender has one on its way."""
        settled = Settlement(HONEST, "honest mass", Version(2_000, self.consigned), absorbed=True)
        self.target.peer.reliable_messages.receiver.settle(settled)
        self.consigned += 1
        carried = self.payload(size)
        self.expected.append((DeliveryClass.MASS, self.consigned, bytes(carried.body)))
        content = Content("honest mass", carried, 1, 1, "", DeliveryClass.MASS, 0.5, 2)
        message = ReliableMessage(self.consigned, content)
        self.last[DeliveryClass.MASS] = message
        self.say(message)

    @rule(delivery=st.sampled_from([DeliveryClass.STATE, DeliveryClass.MASS]))
    def the_last_once_more(self, delivery: DeliveryClass) -> None:
        if delivery in self.last:
            self.say(self.last[delivery])

    @rule(size=st.integers(65, 300))
    def a_large_state_whose_last_piece_is_lost(self, size: int) -> None:
        self.number += 1
        state = State(self.number, Content("large", self.payload(size), 1, 1))
        envelope = Envelope(HONEST, Boot(2_000), "ada", MY_BOOT, state)
        for part in list(split(envelope, LIMITS))[:-1]:
            self.target.receive([bytes(frame) for frame in encode(part)], HONEST)

    @rule()
    def a_word(self) -> None:
        self.say(Ping(1, 1, False))

    @rule(after_s=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    def silence(self, after_s: float) -> None:
        self.target.now += after_s
        self.target.settle_down()

    @invariant()
    def what_was_said_arrived_once_and_unchanged(self) -> None:
        came = [(a.delivery, a.version.number, bytes(a.payload.body)) for a in self.target.from_spared]
        for delivery in DeliveryClass:
            assert [one for one in came if one[0] is delivery] == [o for o in self.expected if o[0] is delivery]
        assert {arrival.version.boot for arrival in self.target.from_spared} <= {2_000}

    @invariant()
    def tables_stay_small(self) -> None:
        assert self.target.entries() < ENTRIES_MAX


TestAmongLiars = AmongLiars.TestCase
TestAmongLiars.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_machine_would_see_a_state_that_a_liar_spoilt() -> None:
    machine = AmongLiars()
    machine.a_state(8)
    machine.what_was_said_arrived_once_and_unchanged()
    machine.target.from_spared[0] = machine.target.from_spared[0].with_content(payload=machine.payload(9))
    with pytest.raises(AssertionError):
        machine.what_was_said_arrived_once_and_unchanged()

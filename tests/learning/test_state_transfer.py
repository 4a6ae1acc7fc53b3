"""A whole model for a newcomer, word by word: what a donor gives, what a newcomer takes, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.learning import state_transfer
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.snapshot import architecture_hash, model_arrays, pack
from gossipdistill.learning.state_transfer import ASK, GIVEN, Donor, Fetch, without_asks
from gossipdistill.messages import ArrayLayout, Arrival, Content, DeliveryClass, Parcel, Payload

ADA, BO, CY, DEE = (PeerName(name) for name in ("ada", "bo", "cy", "dee"))
CHUNKS = 5


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_transfer, "CHUNK_BYTES", 8)


def veteran(name: str = "bo", seed: int = 1) -> Learner:
    """A learner with 10 numbers, 40 bytes, at step 100."""
    torch.manual_seed(seed)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Learner(name, 0, ("ada", "bo", "cy"), model, optimizer, torch.device("cpu"), 0, step=100)


def came(sender: PeerName, parcel: Parcel, boot: int = 7) -> Arrival:
    return Arrival(sender, Version(Boot(boot), 1), Content(parcel.topic, parcel.payload, parcel.step, 0), 0.0)


def newcomer() -> Fetch:
    return Fetch(architecture_hash(veteran().model), 40)


def donor() -> Donor:
    return Donor(architecture_hash(veteran().model))


def give(giver: Donor, learner: Learner, asked: Parcel, now: float = 0.0, trained_s: float = 60.0) -> list[Parcel]:
    """What ada is given for an ask."""
    assert giver.ask(came(ADA, asked)) == ""
    return giver.answers(now, learner, trained_s)


def body(learner: Learner) -> bytes:
    return bytes(pack(model_arrays(learner.model), "raw").body)


def fetch_from(fetch: Fetch, giver: Donor, learner: Learner, chunks: int = CHUNKS, now: float = 0.0) -> None:
    for _ in range(chunks):
        (asked,) = fetch.look(now, [BO])
        assert asked.topic == ASK
        (given,) = give(giver, learner, asked, now)
        fetch.take(came(BO, given), now)


def test_a_state_comes_chunk_by_chunk_and_whole() -> None:
    fetch, bo = newcomer(), veteran()
    fetch_from(fetch, donor(), bo)
    assert fetch.whole
    assert bytes(fetch.body) == body(bo)
    assert fetch.look(0.0, [BO]) == []
    assert [event.peer for event in bo.ledger.news] == ["ada"]


def test_all_chunks_are_of_one_version_although_the_donor_trains_on() -> None:
    fetch, giver, bo = newcomer(), donor(), veteran()
    before = body(bo)
    fetch_from(fetch, giver, bo, 2)
    with torch.no_grad():
        bo.model.weight.add_(1.0)  # type: ignore[operator]
    fetch_from(fetch, giver, bo, 3, now=4.0)
    assert bytes(fetch.body) == before


def test_what_was_lost_with_a_connection_is_asked_for_again_and_given_again() -> None:
    giver, bo, fetch = donor(), veteran(), newcomer()
    fetch_from(fetch, giver, bo, 3)
    (asked,) = fetch.look(0.0, [BO])
    (lost,) = give(giver, bo, asked)
    (again,) = give(giver, bo, asked, now=4.0)
    assert lost == again
    fetch.take(came(BO, again), 4.0)
    fetch.take(came(BO, again), 4.0)  # a double is nothing new
    fetch_from(fetch, giver, bo, 1, now=4.0)
    assert bytes(fetch.body) == body(bo)


def test_a_donor_holds_two_versions_and_a_third_takes_the_place_of_the_oldest() -> None:
    giver, bo = donor(), veteran()
    first = state_transfer.ask_parcel(BO, 0, 0, 0)
    for at_s, serials in ((0.0, [1]), (1.0, [1]), (6.0, [1, 2]), (12.0, [2, 3])):
        give(giver, bo, first, at_s)
        assert sorted(giver.pins) == serials
    (given,) = give(giver, bo, state_transfer.ask_parcel(BO, 1, 1, 0), 12.0)
    assert given.payload.layout[0].name == "no 0: I no longer hold that version"
    give(giver, bo, state_transfer.ask_parcel(BO, 3, 0, 0), 60.0)
    assert giver.pins == {}  # nobody has asked for a while


def test_a_donor_gives_no_more_bytes_a_second_than_it_may() -> None:
    giver, bo = Donor("kind", bytes_per_s=4.0), veteran()
    for asker in (ADA, CY):
        giver.ask(came(asker, state_transfer.ask_parcel(BO, 0, 0, 0)))
    assert [parcel.to for parcel in giver.answers(0.0, bo, 60.0)] == [(ADA,)]
    assert giver.answers(1.9, bo, 60.0) == []
    assert [parcel.to for parcel in giver.answers(2.0, bo, 60.0)] == [(CY,)]


def refused(name: str) -> Payload:
    return Payload((ArrayLayout(name, (0,), "raw", 0),), b"")


@pytest.mark.parametrize(
    ("serial", "chunk", "its_step", "trained_s", "reason"),
    [
        (0, 0, 100, 60.0, "I am no further than you"),
        (0, 0, 0, 1.0, "I have trained for less than 5 s myself"),
        (9, 0, 0, 60.0, "I no longer hold that version"),
        (0, 1, 0, 60.0, "chunks are given in order"),
    ],
)
def test_a_donor_says_why_it_gives_nothing(
    serial: int, chunk: int, its_step: int, trained_s: float, reason: str
) -> None:
    (given,) = give(donor(), veteran(), state_transfer.ask_parcel(BO, serial, chunk, its_step), trained_s=trained_s)
    assert given.payload == refused(f"no 0: {reason}")


def test_a_donor_whose_training_has_diverged_gives_nothing() -> None:
    bo = veteran()
    with torch.no_grad():
        bo.model.weight.fill_(float("nan"))  # type: ignore[operator]
    (given,) = give(donor(), bo, state_transfer.ask_parcel(BO, 0, 0, 0))
    assert given.payload == refused("no 0: my own training has diverged")


def corrupt(payload: Payload) -> Payload:
    return replace(payload, body=bytes([payload.body[0] ^ 1, *payload.body[1:]]))


def rename(number: int, word: str) -> Callable[[Payload], Payload]:
    def change(payload: Payload) -> Payload:
        words = payload.layout[0].name.split()
        words[number] = word
        return replace(payload, layout=(payload.layout[0]._replace(name=" ".join(words)),))

    return change


@pytest.mark.parametrize(
    ("at", "change", "boot", "reason"),
    [
        (2, corrupt, 7, "the digest is another"),
        (4, rename(5, "0" * 64), 7, "the digest is another"),
        (2, lambda payload: payload, 8, "is another process, or gives another version"),
        (2, rename(0, "2"), 7, "is another process, or gives another version"),
        (1, rename(4, "0" * 16), 7, "its model is unlike mine"),
        (1, rename(3, "44"), 7, "its model is unlike mine"),
        (1, rename(2, "6"), 7, "its model is unlike mine"),
        (1, lambda payload: replace(payload, body=payload.body[:4]), 7, "a chunk has another length"),
        (1, rename(1, "one"), 7, "in an unknown form"),
        (1, lambda payload: refused("no 0: not today"), 7, "not today"),
    ],
)
def test_of_a_state_that_is_not_what_it_should_be_nothing_is_used(
    at: int, change: Callable[[Payload], Payload], boot: int, reason: str
) -> None:
    fetch, giver, bo = newcomer(), donor(), veteran()
    for chunk in range(CHUNKS):
        if fetch.donor is None and chunk:
            break
        (asked,) = fetch.look(0.0, [BO])
        (given,) = give(giver, bo, asked)
        bent = given.with_content(payload=change(given.payload)) if chunk == at else given
        fetch.take(came(BO, bent, boot if chunk == at else 7), 0.0)
    assert not fetch.whole
    assert reason in fetch.passed_over[BO]
    assert fetch.news == [(BO, fetch.passed_over[BO])]
    assert not fetch.body
    (asked,) = fetch.look(0.0, [BO, CY])
    assert (asked.to, asked.payload) == ((CY,), refused("0 0 0"))


def test_what_was_said_to_the_process_before_is_no_answer_to_this_one() -> None:
    """Found on a busy machine: the refusal of the first start of all came to a newcomer of the same name."""
    fetch, giver, bo = newcomer(), donor(), veteran()
    fetch.token = 7
    (asked,) = fetch.look(0.0, [BO])
    for before in (state_transfer.ask_parcel(BO, 0, 0, 100, token=6), state_transfer.ask_parcel(BO, 0, 0, 0, token=6)):
        (stale,) = give(giver, bo, before)
        fetch.take(came(BO, stale), 0.0)
        assert (fetch.donor, fetch.passed_over, len(fetch.body)) == (BO, {}, 0)
    (given,) = give(giver, bo, asked)
    fetch.take(came(BO, given), 0.0)
    assert len(fetch.body) == 8


def test_who_gives_nothing_for_a_while_or_is_gone_is_passed_over() -> None:
    fetch = newcomer()
    assert fetch.look(0.0, [BO, CY])[0].to == (BO,)
    assert fetch.look(1.0, [BO, CY]) == []
    assert fetch.look(5.0, [BO, CY])[0].to == (CY,)
    assert fetch.look(6.0, [BO, DEE])[0].to == (DEE,)
    assert fetch.passed_over == {BO: "has given nothing for 5 s", CY: "is not there any more"}
    assert fetch.look(11.0, [BO, DEE, ADA]) == []
    assert fetch.over
    fetch.take(came(DEE, Parcel((ADA,), Content(GIVEN, refused("1 0 5 40 x - 0"), 0, 0))), 12.0)
    assert fetch.donor is None


def test_where_nobody_is_there_it_is_over_after_a_while_and_where_nobody_can_help_at_once() -> None:
    fetch = newcomer()
    assert fetch.look(0.0, []) == []
    assert not fetch.over
    fetch.look(2.0, [])
    assert fetch.over
    other = newcomer()
    other.look(0.0, [BO])
    other.pass_over("no", 0.1)
    assert other.look(0.1, [BO]) == []
    assert other.over


def test_asks_are_the_matter_of_the_donor_and_refused_where_weights_are_private() -> None:
    bo, giver = veteran(), donor()
    ask = came(ADA, state_transfer.ask_parcel(BO, 0, 0, 0))
    late = came(CY, Parcel((BO,), Content(GIVEN, refused("no 0: too late"), 0, 0)))
    own = ask.with_content(topic="weights")
    mass = ask.with_content(delivery=DeliveryClass.MASS)
    assert without_asks([own], giver, bo.ledger) == [own]
    assert without_asks([ask, own, late, mass], giver, bo.ledger) == [own, mass]
    assert list(giver.asked) == [ADA]
    assert bo.ledger.quarantined == {}
    assert without_asks([ask], None, bo.ledger) == []
    assert bo.ledger.quarantined == {"ada: asks_for_state": 1}
    without_asks([ask.with_content(payload=refused("weights, please"))], giver, bo.ledger)
    assert bo.ledger.quarantined == {"ada: asks_for_state": 2}


def test_more_askers_than_there_is_room_for_ask_again() -> None:
    giver = donor()
    for number in range(state_transfer.ASKERS_MAX + 5):
        giver.ask(came(PeerName(f"p{number}"), state_transfer.ask_parcel(BO, 0, 0, 0)))
    assert len(giver.asked) == state_transfer.ASKERS_MAX

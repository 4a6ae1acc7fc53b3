"""Whether a process goes on: by who takes it in, who refuses it, and what proves that it has been replaced."""

from __future__ import annotations

import pytest

from gossipdistill.errors import ConfigError, GossipdistillError, IdentityError, NeedsError
from gossipdistill.events import Event, EventKind
from gossipdistill.presence import RefusalCode
from gossipdistill.runtime.welcome import ANSWER_S, GRACE_S, NAME_GRACE_S, OutgrownError, SupersededError, Welcome

REFUSED_BY, WARNING, JOINED = EventKind.REFUSED_BY, EventKind.WARNING, EventKind.JOINED
BOOT, HIGHEST = 1000, 5000
OTHERS = ("ada", "cy", "dee")


def refusal(
    by: str, code: RefusalCode = RefusalCode.FINGERPRINT, reason: str = "lr: 1 here, 2 there", **told: int
) -> Event:
    return Event(REFUSED_BY, 0.0, by, reason, {"code": code.value, "i_am_newer": 1, **told})


def hint(newer_boot: int, by: str = "ada") -> Event:
    return Event(WARNING, 0.0, by, "", {"code": RefusalCode.SUPERSEDED.value, "newer_boot": newer_boot})


def made(*events: Event, at_s: float = 0.0) -> Welcome:
    welcome = Welcome("bo", BOOT, HIGHEST)
    for event in events:
        welcome.hear(event, at_s)
    return welcome


def outcome(welcome: Welcome, now: float, training: bool = False) -> GossipdistillError | None:
    return welcome.end(OTHERS, training, now)


@pytest.mark.parametrize("code", list(RefusalCode))
def test_one_of_three_ends_nobody_whatever_it_says(code: RefusalCode) -> None:
    for word in (refusal("ada", code), refusal("ada", code, name_in_use=1), hint(HIGHEST + 1)):
        for training in (False, True):
            assert outcome(made(*[word] * 9), 1000.0, training) is None


def test_most_of_all_who_are_known_end_a_newcomer_after_a_while() -> None:
    welcome = made(refusal("ada"), refusal("cy"))
    assert outcome(welcome, GRACE_S - 0.1) is None
    ended = outcome(welcome, GRACE_S)
    assert isinstance(ended, ConfigError)
    assert "refused by ada: lr: 1 at ada, 2 at this peer" in str(ended)


@pytest.mark.parametrize("late", [False, True])
def test_whom_one_accepts_is_not_ended_by_the_others(late: bool) -> None:
    words = [refusal("ada"), refusal("cy")]
    joined = Event(JOINED, 0.0, "dee", "")
    welcome = made(*words, joined) if late else made(joined, *words)
    assert outcome(welcome, 1000.0) is None


def test_whose_name_is_in_use_waits_until_a_dead_holder_of_it_would_be_known_to_be_dead() -> None:
    welcome = made(*(refusal(by, RefusalCode.PLACE_TAKEN, "in use", name_in_use=1) for by in OTHERS))
    assert outcome(welcome, NAME_GRACE_S - 0.1) is None
    assert isinstance(outcome(welcome, NAME_GRACE_S), IdentityError)


def test_refusals_of_those_that_came_later_count_for_nothing() -> None:
    assert outcome(made(*(refusal(by, i_am_newer=0) for by in OTHERS)), 1000.0) is None


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (RefusalCode.ENROLMENT, "wrong_proof: it does not have the join secret of this run", IdentityError),
        (RefusalCode.FINGERPRINT, "model: 1 here, 2 there", NeedsError),
        (RefusalCode.FINGERPRINT, "strategy: a here, b there; model: 1 here, 2 there", ConfigError),
    ],
)
def test_what_kind_of_reason_it_is(code: RefusalCode, reason: str, kind: type[GossipdistillError]) -> None:
    assert type(outcome(made(*(refusal(by, code, reason) for by in OTHERS)), GRACE_S)) is kind


def test_a_proof_ends_also_one_that_trains() -> None:
    proof = Event(EventKind.SUPERSEDED, 0.0, "bo", "a newer process of bo was heard by bo", {})
    for training in (False, True):
        assert isinstance(outcome(made(proof), 0.0, training), SupersededError)


def test_before_its_first_step_it_begins_anew_above_a_boot_that_others_know_if_nobody_answers() -> None:
    welcome = made(hint(2000), hint(3000, "cy"), hint(1500, "dee"))
    assert welcome.in_flight()
    assert outcome(welcome, ANSWER_S - 0.1) is None
    ended = outcome(welcome, ANSWER_S)
    assert isinstance(ended, OutgrownError)
    assert ended.boot == 3000
    assert outcome(welcome, 1000.0, training=True) is None


@pytest.mark.parametrize("newer", [0, BOOT, HIGHEST, 2**63 - 1])
def test_a_boot_that_nobody_would_believe_is_not_outgrown(newer: int) -> None:
    welcome = made(hint(newer))
    assert not welcome.in_flight()
    assert outcome(welcome, 1000.0) is None


def test_ever_higher_boots_do_not_put_off_its_start() -> None:
    welcome = Welcome("bo", BOOT, HIGHEST)
    for second in range(4):
        welcome.hear(hint(2000 + second, f"liar{second}"), float(second))
    assert outcome(welcome, ANSWER_S) is not None

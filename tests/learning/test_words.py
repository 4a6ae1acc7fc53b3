"""Words about models: what is measured, what travels, and how two models are compared, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gossipdistill.errors import NeedsError
from gossipdistill.learning.holding_out import hold_out
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.snapshot import PayloadRefusedError
from gossipdistill.learning.words import KEPT_MAX, WORDS_MAX, Word, Words, gain_over, mark_of, row_losses, trimmed_mean

HORIZON_S = 30.0


def words_of(me: str = "ada") -> Words:
    return Words(me, lambda sender, age_s, steps: age_s < HORIZON_S)


def say(words: Words, judge: str, **said: float) -> None:
    """A neighbour's table, made as it makes it."""
    theirs = words_of(judge)
    for name, gain in said.items():
        theirs.measured(name, gain, 0.0, 0)
    words.heard(judge, theirs.table(0.0), 0.0, 0)


def gains(found: dict[int, Word]) -> dict[int, float]:
    return {judge: word.gain for judge, word in found.items()}


def test_a_gain_is_what_each_row_is_below_the_untrained_model() -> None:
    # 2.0 below, nothing for ignorance, nothing for what is not finite.
    losses = torch.tensor([0.0, 2.0, 9.0, math.nan], dtype=torch.float64)
    assert gain_over(2.0, losses) == pytest.approx((2.0 / 2.0 + 0.0 + 0.0 + 0.0) / 4)
    assert gain_over(0.0, losses) == 0.0
    # Log densities may be negative: 3 and 1 below -1.
    assert gain_over(-1.0, torch.tensor([-4.0, -2.0], dtype=torch.float64)) == pytest.approx(2.0)


def test_to_know_a_part_is_worth_more_than_to_know_nothing_and_say_so() -> None:
    """Three classes: one model is always certain of the first, the other one says a third for each."""
    y = torch.tensor([0, 1, 2])
    certain, constant = torch.tensor([[20.0, 0.0, 0.0]]).repeat(3, 1), torch.zeros(3, 3)
    loss, start = nn.functional.cross_entropy, math.log(3)
    rows = [row_losses(nn.Identity(), loss, logits, y) for logits in (certain, constant)]
    assert rows[0].mean() > rows[1].mean(), "by its mean loss the one that knows nothing is better"
    assert gain_over(start, rows[0]) == pytest.approx(1 / 3, abs=1e-6)
    assert gain_over(start, rows[1]) == pytest.approx(0.0, abs=1e-6)


def test_rows_are_judged_one_by_one_also_where_outputs_are_no_tensor_of_rows() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, 2 * x

    x, y = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1)
    found = row_losses(Pair(), lambda out, y: (out[0] + out[1] - y).mean(), x, y)
    assert found.tolist() == [3.0, 6.0]


def test_the_owner_has_no_word_and_only_those_who_know_both_compare_them() -> None:
    words = words_of("ada")
    words.measured("bo", 0.5, 0.0, 0)
    assert words.lead("bo") is None, "nobody has judged mine"
    say(words, "bo", ada=0.1, cy=0.9)
    assert words.lead("bo") == pytest.approx(0.5 - 0.1), "two alone: each has judged the other"
    say(words, "cy", ada=0.4)
    assert words.lead("bo") == pytest.approx(0.5 - 0.4), "bo may talk mine down, so cy is asked"
    say(words, "cy", ada=0.4, bo=0.45, cy=1.0)
    assert words.lead("bo") == pytest.approx(0.45 - 0.4), "cy knows both"
    say(words, "bo", ada=0.0, cy=0.0, bo=1.0)
    assert words.lead("bo") == pytest.approx(0.45 - 0.4), "what bo says is no matter"
    assert words.lead("cy") == pytest.approx(0.0 - 0.0), "bo knows cy and ada"


def test_words_go_stale_and_the_last_table_counts() -> None:
    words = words_of()
    say(words, "bo", ada=0.3, cy=0.2)
    say(words, "bo", cy=0.6)
    assert words.about("ada") == {}
    assert gains(words.about("cy")) == pytest.approx({mark_of("bo"): 0.6})
    words.forget(HORIZON_S - 1.0, 0)
    assert words.known
    words.forget(HORIZON_S, 0)
    assert not any(words.known.values())
    assert words.all_useless


def test_what_is_passed_on_grows_older_on_its_way_and_never_replaces_what_a_judge_says_itself() -> None:
    bo, cy, dee = words_of("bo"), words_of("cy"), words_of("dee")
    bo.measured("ada", 0.5, 0.0, 0)
    cy.heard("bo", bo.table(4.0), 100.0, 0)  # cy's clock: the word is 4 s old
    dee.heard("cy", cy.table(103.0), 1000.0, 0)
    assert dee.about("ada") == {}
    (word,) = dee.about("ada", passed_on=True).values()
    assert (word.gain, word.sender, word.passed_on, word.at_s) == (0.5, "cy", True, pytest.approx(993.0))
    assert gains(cy.about("ada")) == {mark_of("bo"): 0.5}, "bo says it to cy"
    bo.measured("ada", 0.7, 5.0, 0)
    dee.heard("bo", bo.table(5.0), 1001.0, 0)
    dee.heard("cy", cy.table(103.0), 1002.0, 0)
    assert gains(dee.about("ada")) == pytest.approx({mark_of("bo"): 0.7})
    dee.heard("bo", words_of("bo").table(6.0), 1003.0, 0)
    assert dee.about("ada") == {}


def test_on_a_directed_ring_two_models_are_compared_by_what_comes_round() -> None:
    """ada -> bo -> cy -> ada: bo measures ada's model, cy that of bo, ada that of cy."""
    ada, bo, cy = words_of("ada"), words_of("bo"), words_of("cy")
    ada.measured("cy", 0.6, 0.0, 0)
    bo.measured("ada", 0.2, 0.0, 0)
    cy.measured("bo", 0.9, 0.0, 0)
    cy.heard("bo", bo.table(0.0), 0.0, 0)
    ada.heard("cy", cy.table(0.0), 0.0, 0)
    assert ada.lead("cy") == pytest.approx(0.6 - 0.2)


def test_nobody_passes_on_words_of_mine_or_of_a_model_s_owner() -> None:
    words = words_of("ada")
    byzantine = words_of("ada")  # speaks in ada's name
    byzantine.measured("bo", 1.0, 0.0, 0)
    words.heard("bo", byzantine.table(0.0), 0.0, 0)
    own = words_of("bo")
    own.measured("bo", 1.0, 0.0, 0)
    words.heard("bo", own.table(0.0), 0.0, 0)
    assert not any(words.known.values())


def test_a_table_holds_my_newest_words_first_and_no_peer_keeps_words_without_bound() -> None:
    words = words_of()
    say(words, "bo", cy=0.1)
    for number in range(WORDS_MAX + 3):
        words.measured(f"p{number}", 0.5, 1.0 + number, number)
    owners = words.table(99.0)[:, 1].tolist()
    assert owners[0] == mark_of(f"p{WORDS_MAX + 2}")
    assert mark_of("p2") not in owners
    assert mark_of("cy") not in owners
    for number in range(2 * KEPT_MAX):
        words.measured(f"q{number}", 0.5, 100.0 + number / KEPT_MAX, 0)
    words.forget(102.0, 0)
    assert sum(map(len, words.known.values())) == KEPT_MAX


@pytest.mark.parametrize("gain", [-1e-9, math.inf, -math.inf])
def test_gains_that_cannot_be_are_refused(gain: float) -> None:
    with pytest.raises(PayloadRefusedError):
        say(words_of(), "bo", cy=gain)


@given(st.lists(st.tuples(*[st.integers(-(2**31), 2**31 - 1)] * 4), max_size=WORDS_MAX))
@settings(max_examples=60, deadline=None)
def test_any_bits_are_words_or_are_refused(rows: list[tuple[int, ...]]) -> None:
    table = torch.zeros(WORDS_MAX, 4, dtype=torch.int32)
    if rows:
        table[: len(rows)] = torch.tensor(rows, dtype=torch.int32)
    words = words_of()
    words.measured("bo", 0.5, 0.0, 0)
    try:
        words.heard("bo", table, 0.0, 0)
    except PayloadRefusedError:
        assert set(words.known) == {mark_of("bo")}
    lead = words.lead("bo")
    assert lead is None or math.isfinite(lead)


def test_from_five_on_the_outer_fifths_do_not_count() -> None:
    assert trimmed_mean([1.0, 2.0, 9.0]) == pytest.approx(4.0)
    assert trimmed_mean([1.0, 2.0, 3.0, 4.0, 1e30]) == pytest.approx(3.0)
    assert trimmed_mean([-1e30, *range(8), 1e30]) == pytest.approx(3.5)


def learner_of(rows: int) -> Learner:
    model = nn.Linear(1, 1)
    learner = Learner("ada", 0, ("ada",), model, torch.optim.SGD(model.parameters(), lr=0.1), torch.device("cpu"), 3)
    learner.examples = torch.arange(float(rows))[:, None], torch.arange(float(rows))
    return learner


@pytest.mark.parametrize(
    ("rows", "share", "accumulate", "held", "batch"), [(100, 0.2, 1, 20, 32), (30, 0.5, 4, 15, 12)]
)
def test_what_is_held_out_is_parted_once_and_steps_take_equal_batches(
    rows: int, share: float, accumulate: int, held: int, batch: int
) -> None:
    learner = learner_of(rows)
    draws = hold_out(learner, Draws(rows, 32, 0), share, accumulate)
    assert learner.held_out is not None
    assert learner.examples is not None
    assert sorted([*learner.held_out[1].tolist(), *learner.examples[1].tolist()]) == list(range(rows))
    assert torch.equal(learner.held_out[0][:, 0], learner.held_out[1])
    assert (len(learner.held_out[1]), draws.rows, draws.batch_size) == (held, rows - held, batch)


def test_too_few_examples_to_hold_any_out_is_said() -> None:
    with pytest.raises(NeedsError, match="ada has 1 examples"):
        hold_out(learner_of(1), Draws(1, 1, 0), 0.2)

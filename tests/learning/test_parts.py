"""Averaging, draws, cadence and the ledger."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gossipdistill.events import Event, EventKind
from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws
from gossipdistill.learning.ledger import Ledger, age_to_bin, bin_to_age_s
from gossipdistill.learning.snapshot import model_arrays


def _model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_mixing_is_the_weighted_mean_and_leaves_counters_alone() -> None:
    mine, one, other = _model(0), _model(1), _model(2)
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    mix_in(mine, [(0.25, model_arrays(one)), (0.5, model_arrays(other))])
    for name, tensor in mine.state_dict().items():
        if tensor.is_floating_point():
            expected = 0.25 * before[name] + 0.25 * one.state_dict()[name] + 0.5 * other.state_dict()[name]
            assert torch.allclose(tensor, expected, atol=1e-6), name
        else:
            assert torch.equal(tensor, before[name]), name


def test_mixing_more_than_everything_is_our_fault() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        mix_in(_model(0), [(0.7, model_arrays(_model(1))), (0.7, model_arrays(_model(2)))])


@given(rows=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_an_epoch_of_draws_sees_each_row_at_most_once_more_than_any_other(rows: int, batch: int, seed: int) -> None:
    draws = Draws(rows, batch, seed)
    per_epoch = max(rows // batch, 1)
    drawn = torch.cat([draws.at(step) for step in range(per_epoch)])
    assert len(drawn) == per_epoch * batch
    counts = torch.bincount(drawn, minlength=rows)
    assert int(counts.max()) - int(counts.min()) <= 1


def test_draws_depend_on_nothing_but_seed_and_step() -> None:
    straight = Draws(50, 8, 3)
    expected = [straight.at(step) for step in range(20)]
    jumped = Draws(50, 8, 3)
    assert torch.equal(jumped.at(17), expected[17])
    assert torch.equal(jumped.at(2), expected[2])
    assert not torch.equal(Draws(50, 8, 4).at(0), expected[0])


def test_the_tighter_of_steps_and_seconds_holds() -> None:
    by_steps = Cadence(every_steps=10, per_second_max=20.0)
    assert sum(by_steps.due(step, step * 0.02) for step in range(1, 751)) == 75
    by_seconds = Cadence(every_steps=1, per_second_max=20.0)
    assert sum(by_seconds.due(step, step * 0.001) for step in range(1, 10_001)) in range(198, 203)
    uncapped = Cadence(every_steps=1, per_second_max=0.0)
    assert sum(uncapped.due(step, step * 0.001) for step in range(1, 101)) == 100


def test_after_a_pause_exchanges_are_not_caught_up() -> None:
    cadence = Cadence(every_steps=1, per_second_max=10.0)
    assert cadence.due(1, 0.0)
    assert cadence.due(2, 100.0)
    assert not cadence.due(3, 100.05)
    assert cadence.due(4, 100.11)


def test_repeats_of_a_version_are_no_exchanges() -> None:
    ledger = Ledger()
    ledger.exchanged("bo", 1.0)
    for age in range(5):
        ledger.applied("bo", age, age / 10)
    assert ledger.exchanges == 1
    assert ledger.staleness.quantile(0.5) == 2
    assert ledger.staleness.quantile(1.0) == 4
    assert ledger.links["bo"].first_exchange_s == 1.0


@given(st.floats(1e-4, 1e5))
def test_an_age_is_kept_within_five_percent(age_s: float) -> None:
    kept = bin_to_age_s(age_to_bin(age_s))
    assert kept == pytest.approx(age_s, rel=0.05)


def test_a_refusal_is_counted_always_and_told_once() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.quarantine("bo", "not_finite", "holds NaN")
    assert ledger.quarantined == {"bo: not_finite": 3}
    assert ledger.take_news(2.0) == [Event(EventKind.QUARANTINED, 2.0, "bo", "holds NaN", {"code": "not_finite"})]
    assert ledger.take_news(3.0) == []

"""The mass experiment in small: what it claims must hold from the first exchange on."""

from __future__ import annotations

import pytest

from experiments.mass import agreement, restarts, twins
from experiments.mass.averaging import Averaging, weights_of
from gossipdistill.limits import Limits


@pytest.mark.parametrize(("encoding", "error"), [("raw", 1e-5), ("half", 1e-2)])
def test_weight_is_conserved_and_estimates_close_in_on_the_mean(encoding: str, error: float) -> None:
    run = Averaging(8, encoding, seed=1)
    for _ in range(40):
        run.world.run_for(2.0)
        assert sum(weights_of(run.world, run.workers)) == pytest.approx(8.0, abs=1e-9)
    assert run.exchanges > 300
    assert run.storm.lost > 300
    run.settle()
    held, on_the_way = weights_of(run.world, run.workers)
    assert on_the_way == 0.0
    assert held == pytest.approx(8.0, abs=1e-9)
    assert run.error() < error


def test_the_naive_twin_loses_its_mass_and_the_textbook_one_its_digits() -> None:
    naive = twins.run(twins.Naive, 8, [20, 20_000])
    assert naive[0][1] > naive[1][1] or naive[1][1] > 1e-2
    assert naive[1][2] < 1e-3, "half of all that is sent is lost"
    textbook = twins.run(twins.Textbook, 8, [20, 2_000, 50_000])
    assert textbook[1][1] < textbook[0][1]
    assert textbook[2][3] > 1e-3
    assert 1e-6 < textbook[2][1] < 1e-2, "running totals in float32 lose digits as they grow"
    wide = twins.run(twins.Textbook64, 8, [20, 2_000, 50_000])
    assert wide[2][1] < 1e-9, "it is their type that loses them, not the algorithm"


def test_kills_and_restarts_leave_finite_models_and_bounded_weights() -> None:
    """What is on its way to one that is killed ends with it: no more than one parcel of each, since it loses none."""
    result = restarts.run(cycles=12, seed=0, loss=False)
    assert result["finite"]
    assert result["weights_min"] >= 2.0
    assert result["weights_max"] <= 18.0
    assert result["weight_min"] >= 1e-3


def test_at_half_of_all_messages_lost_kills_leave_finite_models_and_no_weight_too_small() -> None:
    """More is on its way when somebody is killed, and ends with it: the sum of the weights has been as low as 1.2."""
    result = restarts.run(cycles=4, seed=3)
    assert result["finite"]
    assert result["weights_min"] >= 1.0
    assert result["weights_max"] <= 18.0
    assert result["weight_min"] >= 1e-3


HARD = agreement.Setting("irregular", 0.01, 0.02, 0.3)


def test_at_30_percent_loss_push_sum_agrees_at_least_half_as_fast_as_running_sums() -> None:
    for seed in range(2):
        assert agreement.ours(HARD, seed) >= 0.5 * agreement.running_sums(HARD, seed)


@pytest.mark.parametrize("without", [Limits(lanes_max=1), Limits(consign_tries=0)], ids=["one lane", "doubling"])
def test_with_one_lane_or_with_times_that_double_it_does_not(without: Limits) -> None:
    assert agreement.ours(HARD, 1, without) < 0.5 * agreement.running_sums(HARD, 1)

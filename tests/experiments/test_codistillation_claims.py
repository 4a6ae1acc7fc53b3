"""Churn and times to a loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.codistillation_claims.churn import churn, copies, ensembles
from experiments.codistillation_claims.straggler import Curve, note, seconds_to
from experiments.codistillation_claims.table import Times, churn_table, time_table

P, Q = torch.tensor([[0.9, 0.1], [0.6, 0.4]]), torch.tensor([[0.7, 0.3], [0.2, 0.8]])


def test_churn_is_the_share_of_other_answers_and_the_mean_difference_over_rows_and_classes() -> None:
    assert churn(P, Q) == pytest.approx((0.5, (0.2 + 0.2 + 0.4 + 0.4) / 4))
    assert churn(P, P) == (0.0, 0.0)


def test_copies_are_compared_across_runs_at_their_places_and_ensembles_as_one_model() -> None:
    assert copies([P, Q], [P, P]) == pytest.approx((0.25, 0.15))
    assert copies([P, Q], [P, Q]) == (0.0, 0.0)
    # The means are [[0.8, 0.2], [0.4, 0.6]] and P itself.
    assert ensembles([P, Q], [P, P]) == pytest.approx((0.5, 0.15))


def test_a_loss_is_reached_at_the_first_look_at_which_it_is_not_above() -> None:
    lows: Curve = []
    for at_s, loss in ((1.0, 2.0), (2.0, 1.5), (3.0, 1.7), (4.0, math.nan), (5.0, 1.2)):
        note(lows, at_s, loss)
    assert lows == [(1.0, 2.0), (2.0, 1.5), (5.0, 1.2)]
    assert [seconds_to(lows, target) for target in (2.0, 1.6, 1.5, 1.3, 1.0)] == [1.0, 2.0, 2.0, 5.0, math.inf]


def test_lines_of_the_tables_by_hand() -> None:
    took = {"alike": [1.0, 2.0, 3.0], "straggler": [9.0, 10.0, math.inf]}
    line = time_table("adult", [Times("adult", "isolated", 0.381, "all_reduce", 0.05, took)]).splitlines()[-1]
    assert line == "| 0.38 | isolated | `all_reduce` | 0.05 | 2.0 (3/3) | 10.0 (2/3) | 5.0 |"
    alone = [{"flips": 10.0, "distance": 0.02, "accuracy": 80.0, "loss": 0.5}] * 2
    other = [{"flips": 8.0, "distance": 0.01, "accuracy": 81.0, "loss": 0.4}] * 2
    line = churn_table("adult", "isolated", {"isolated": alone, "ensemble of two": other}).splitlines()[-1]
    assert line == "| `ensemble of two` | 2 | 8.00 | 20 % (20 to 20) | 0.0100 | 50 % (50 to 50) | 81.00 | 0.400 |"

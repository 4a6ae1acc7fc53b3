"""The membership attacks: their arithmetic by hand, and that they find what is plain to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.membership_inference import attack
from experiments.membership_inference import run as experiment


def test_the_curve_by_hand() -> None:
    members, others = np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0])
    # Of six pairs four are right and one is a tie.
    assert attack.area(members, others) == pytest.approx(4.5 / 6)
    # Above every other there is one of three; the tie adds one more of each, by a coin.
    assert attack.true_positives_at(0.0, members, others) == pytest.approx(1 / 3)
    assert attack.true_positives_at(0.25, members, others) == pytest.approx(0.5)
    assert attack.true_positives_at(1.0, members, others) == pytest.approx(1.0)


def test_where_all_scores_are_equal_it_is_a_coin() -> None:
    same = np.zeros(50)
    assert attack.area(same, same) == pytest.approx(0.5)
    assert attack.true_positives_at(0.01, same, same) == pytest.approx(0.01)


def test_a_calibrated_score_is_the_logit_less_what_models_without_the_example_say() -> None:
    y = torch.tensor([0, 1])
    p = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    knows, knows_not = torch.tensor([[0.99, 0.01], [0.1, 0.9]]), torch.tensor([[0.5, 0.5], [0.2, 0.8]])
    saw = [torch.tensor([True, False]), torch.tensor([False, False])]
    score = attack.calibrated_score(p, y, [knows, knows_not], saw)
    expected = [np.log(4.0), -(np.log(9.0) + np.log(4.0)) / 2]
    assert score.tolist() == pytest.approx(expected, abs=1e-5)


def test_candidates_are_the_peers_own_examples_in_order_and_those_of_nobody() -> None:
    tasks, others = experiment.tasks_of("digits", "overfitted", 0, among_inputs=True)
    x, y = experiment.candidates(tasks, others)
    assert len(x) == len(y) == 4 * 30 + len(others[0])
    assert torch.equal(x[30:60], tasks[1].train[0])
    assert tasks[0].transfer is not None
    assert torch.equal(tasks[0].transfer, x)
    apart, _ = experiment.tasks_of("digits", "overfitted", 0, among_inputs=False)
    assert apart[0].transfer is not None
    rows = {tuple(row.flatten().tolist()) for row in apart[0].transfer}
    assert not rows & {tuple(row.flatten().tolist()) for row in x}


def test_whose_weights_are_sent_is_found_out_better_than_by_a_coin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "STEPS", 60)
    monkeypatch.setattr(experiment, "SHADOWS", 2)
    (found,) = experiment.run("digits", "overfitted", 0, "weights of its own")
    area, _ = found["loss"]
    assert area > 0.55
    assert found["weights"] == found["loss"], "the weights were sent as they are"

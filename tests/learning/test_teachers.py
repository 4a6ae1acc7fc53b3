"""Whom to listen to, how much, and how teachers and student are compared."""

from __future__ import annotations

import math

import pytest
import torch

from gossipdistill.learning.decay import schedule_weight_decay
from gossipdistill.learning.distillation import Average, Divergence, divergence, soft_targets, tempered
from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.teachers import SMOOTHED_OVER_STEPS, Attention, Choice, Distillation, LeftOut, RunningLoss


def _logits(seed: int, rows: int = 5, classes: int = 4) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def test_a_running_loss_begins_at_its_first_look_and_forgets() -> None:
    loss = RunningLoss()
    assert math.isnan(loss.value)
    loss.look(4.0)
    assert loss.value == 4.0
    loss.look(2.0)
    assert loss.value == 3.0
    for _ in range(20 * SMOOTHED_OVER_STEPS):
        loss.look(1.0)
    assert loss.value == pytest.approx(1.0, abs=1e-6)
    loss.look(math.nan)
    assert loss.value == math.inf, "what is not finite is infinitely bad,"
    loss.look(1.0)
    assert loss.value == 1.0, "and no longer than it lasts"


def test_the_gate_leaves_out_who_is_worse_by_more_than_the_margin() -> None:
    losses = {"bo": 1.5, "cy": 1.6, "dee": math.nan, "eve": math.inf}
    assert Choice().left_out(losses, 1.0) == {}
    assert set(Choice(quality_margin=0.5).left_out(losses, 1.0)) == {"cy", "dee", "eve"}
    assert set(Choice(quality_margin=0.5).left_out(losses, math.nan)) == set(losses), "before I know my own: nobody"


def test_the_best_k_and_the_leader() -> None:
    losses = {"bo": 0.9, "cy": 0.4, "dee": math.nan}
    assert set(Choice(best_k=2).left_out(losses, 1.0)) == {"dee"}
    assert set(Choice(best_k=1).left_out(losses, 0.1)) == {"bo", "dee"}
    leader = Choice(quality_margin=0.0, best_k=1)
    assert set(leader.left_out(losses, 1.0)) == {"bo", "dee"}
    assert set(leader.left_out(losses, 0.1)) == set(losses), "when I lead, I have no teacher"


def test_who_is_left_out_is_told_once_per_change_and_not_at_every_step() -> None:
    ledger, attention = Ledger(), Attention()
    out = {"bo": LeftOut("best_k", "its loss is larger")}
    for step in range(1000):
        attention.note(ledger, step, ["bo", "cy"], out if step % 2 else {})
    told = ledger.take_news(5.0)
    assert {event.peer for event in told} == {"bo"}
    assert [event.kind.value for event in told] == ["left_out", "listened_to"] * (len(told) // 2)
    assert len(told) <= 1000 / SMOOTHED_OVER_STEPS, "two of almost the same loss do not fill the stream,"
    attention.note(ledger, 2000, ["bo"], out)
    attention.note(ledger, 2001, ["bo"], {})
    assert len(ledger.take_news(6.0)) == 1
    for step in range(2001, 2100):
        attention.note(ledger, step, ["bo"], {})
    assert [event.kind.value for event in ledger.take_news(6.0)] == ["listened_to"], (
        "and the last word is the right one"
    )


def test_one_teacher_alone_fades_with_age() -> None:
    logits, teacher = _logits(0), soft_targets(_logits(1), 1.0)[None]
    full = Distillation().term(logits, ["bo"], teacher, torch.ones(1, 5))
    half = Distillation().term(logits, ["bo"], teacher, torch.full((1, 5), 0.5))
    assert full.item() == pytest.approx(divergence(logits, teacher[0], 1.0, Divergence.FORWARD_KL).item(), rel=1e-6)
    assert half.item() == pytest.approx(0.5 * full.item(), rel=1e-6)


def test_rows_without_a_teacher_cost_nothing_and_have_no_gradient() -> None:
    logits = _logits(0).requires_grad_()
    teachers = torch.stack([soft_targets(_logits(1), 1.0), soft_targets(_logits(2), 1.0)])
    weights = torch.tensor([[1.0, 0.0, 0.5, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0]])
    Distillation().term(logits, ["bo", "cy"], teachers, weights).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[1], torch.zeros(4))
    assert bool((logits.grad[[0, 2, 3, 4]].abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize("kind", list(Divergence))
def test_a_temperature_per_edge_compares_each_teacher_at_its_own(kind: Divergence) -> None:
    logits = _logits(0)
    theirs = {"bo": _logits(1), "cy": _logits(2), "dee": _logits(3)}
    predictions = torch.stack([soft_targets(each, 2.0) for each in theirs.values()])
    how = Distillation(2.0, kind, temperature_of={"cy": 4.0})
    found = how.term(logits, list(theirs), predictions, torch.ones(3, 5))
    together = (soft_targets(theirs["bo"], 2.0) + soft_targets(theirs["dee"], 2.0)) / 2
    at_two = divergence(logits, together, 2.0, kind)
    at_four = divergence(logits, soft_targets(theirs["cy"], 4.0), 4.0, kind)
    assert found.item() == pytest.approx((2 * at_two.item() + at_four.item()) / 3, rel=1e-5)


def test_tempering_is_exact() -> None:
    logits = _logits(1)
    torch.testing.assert_close(tempered(soft_targets(logits, 1.0), 1.0, 3.0), soft_targets(logits, 3.0))


def test_averaged_logits_are_the_geometric_mean() -> None:
    one, other = _logits(1), _logits(2)
    predictions = torch.stack([soft_targets(one, 1.0), soft_targets(other, 1.0)])
    how = Distillation(average=Average.LOGITS)
    found = how.term(_logits(0), ["bo", "cy"], predictions, torch.ones(2, 5))
    expected = divergence(_logits(0), soft_targets((one + other) / 2, 1.0), 1.0, Divergence.FORWARD_KL)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weight_decay_follows_the_rate_and_survives_a_checkpoint() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=0.01, weight_decay=1e-2)
    (group,) = optimizer.param_groups
    factors = (1.0, 0.1, 0.0)
    seen = []
    for rate in (0.01, 0.1, 0.05, 0.011, 0.01, 0.004, 0.001, 0.0):  # a warm-up first, which is no drop
        group["lr"] = rate
        schedule_weight_decay(optimizer, factors)
        seen.append(group["weight_decay"])
    assert seen == pytest.approx([1e-2, 1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 0.0, 0.0])
    other = torch.optim.AdamW([parameter], lr=0.01, weight_decay=1e-2)
    other.load_state_dict(optimizer.state_dict())
    other.param_groups[0]["lr"] = 0.01
    schedule_weight_decay(other, factors)
    assert other.param_groups[0]["weight_decay"] == pytest.approx(1e-3)


def test_without_factors_weight_decay_is_left_alone() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, weight_decay=0.3)
    before = dict(optimizer.param_groups[0])
    schedule_weight_decay(optimizer, ())
    assert optimizer.param_groups[0] == before


def test_a_teacher_is_new_by_my_own_steps_and_new_again_with_its_next_process() -> None:
    attention = Attention()
    assert not attention.heard("bo", 7, 100)
    assert not attention.heard("bo", 7, 140)
    assert set(attention.newcomers(149, 50)) == {"bo"}
    assert attention.newcomers(150, 50) == {}
    assert attention.newcomers(100, 0) == {}
    assert attention.heard("bo", 8, 200)
    assert not attention.heard("bo", 7, 201), "an echo of the process before"
    assert attention.newcomers(249, 50)["bo"].reason == (
        "it was first heard 49 of my steps ago, teacher_burn_in_steps = 50"
    )
    assert attention.newcomers(250, 50) == {}


@pytest.mark.parametrize("kind", Divergence)
@pytest.mark.parametrize("average", Average)
@pytest.mark.parametrize("temperature_of", [{}, {"cy": 2.0}])
def test_one_weight_for_all_rows_is_the_same_weight_in_each(
    kind: Divergence, average: Average, temperature_of: dict[str, float]
) -> None:
    said = torch.stack([soft_targets(_logits(seed), 1.0) for seed in (1, 2, 3)])
    weights = torch.tensor([[0.9], [0.0], [0.4]])
    how = Distillation(1.0, kind, average, temperature_of)
    found = [how.term(_logits(0), ["bo", "cy", "dee"], said, one) for one in (weights, weights.expand(-1, 5))]
    assert found[0].shape == ()
    assert torch.allclose(*found, rtol=1e-6, atol=1e-7)

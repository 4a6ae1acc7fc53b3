"""A look at a model while it trains changes nothing of its training, and costs next to nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.live_validation import ROWS_MAX, LiveValidation, Looked


class Odd(nn.Module):
    """What a look could disturb: dropout, a frozen norm beside a live one, noise of three generators, a hidden state,
    and a buffer that counts calls in each mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.live, self.frozen = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8)
        self.frozen.eval()
        self.last, self.dropout = nn.Linear(8, 3), nn.Dropout(0.3)
        self.register_buffer("calls", torch.zeros(()))
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.randn(1) + random.random() + float(np.random.rand())
        state = self.frozen(self.live(self.first(x))) + 0.01 * noise
        if self.hidden is not None:
            state = state + 0.1 * self.hidden.mean() + 0.001 * self.calls
        self.hidden = state.detach()
        return self.last(self.dropout(state))


def figures(outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
    random.random(), torch.rand(3), np.random.rand()  # a metric that draws a sample
    right = (outputs.argmax(1) == labels).float().mean().item()
    return {"loss": float(nn.functional.cross_entropy(outputs, labels)), "accuracy": right}


def data(rows: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 6, generator=generator), torch.randint(3, (rows,), generator=generator)


def learner_of(model: nn.Module) -> Learner:
    return Learner(
        "ada", 0, ("ada",), model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), torch.device("cpu"), 0
    )


def trained(looks: bool) -> tuple[dict[str, Tensor], list[dict[str, float | int | None]], list[bool]]:
    """The state of a model after 30 steps, what the looks found, and the modes of its modules."""
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    learner, (x, y), found = learner_of(Odd()), data(40), []
    live = LiveValidation(learner, data(64), figures, clock=lambda: 0.0)
    draws = Draws(40, 8, 0)
    for step in range(30):
        rows = draws.at(step)
        learner.optimizer.zero_grad()
        nn.functional.cross_entropy(learner.model(x[rows]), y[rows]).backward()
        learner.optimizer.step()
        learner.step += 1
        if looks:
            live.look(10.0 * step)
            found.append(live.found)
    modes = [module.training for module in learner.model.modules()]
    return {**learner.model.state_dict(), "hidden": learner.model.hidden}, found, modes


def test_newcomer_16_training_is_the_same_bit_for_bit_with_and_without_looks() -> None:
    with_looks, found, modes = trained(looks=True)
    without, _, modes_without = trained(looks=False)
    assert with_looks.keys() == without.keys()
    assert all(torch.equal(with_looks[name], without[name]) for name in without)
    assert modes == modes_without
    assert found[0] == Looked()  # never before the first pause is over
    assert found[-1].step == 30
    assert found[-1].rows == 64
    assert 0.0 <= float(found[-1].accuracy or 0.0) <= 1.0
    assert len({look.loss for look in found[1:]}) > 20


class Clock:
    """Each look, between two calls, takes `look_s`."""

    def __init__(self, look_s: float) -> None:
        self.now_s, self.look_s, self.looking = 0.0, look_s, False

    def __call__(self) -> float:
        self.now_s += self.look_s if self.looking else 0.0
        self.looking = not self.looking
        return self.now_s


@pytest.mark.parametrize("look_s", [0.001, 0.2, 5.0])
def test_newcomer_16_looks_take_at_most_one_per_cent_of_the_time(look_s: float) -> None:
    clock = Clock(look_s)
    live = LiveValidation(learner_of(nn.Linear(6, 3)), data(8), figures, clock)
    spent_s, looks = 0.0, 0
    while clock.now_s < 2000.0:
        before = clock.now_s
        live.look(clock.now_s)
        if clock.now_s > before:
            spent_s, looks = spent_s + look_s, looks + 1
        clock.now_s += 0.05
    assert looks >= 3
    assert spent_s <= 0.0101 * clock.now_s + look_s


@pytest.mark.parametrize(("batch", "rows", "wanted"), [(1, 1000, 32), (16, 1000, 64), (512, 5000, ROWS_MAX), (8, 5, 5)])
def test_newcomer_16_a_look_is_at_few_rows(batch: int, rows: int, wanted: int) -> None:
    live = LiveValidation(learner_of(nn.Linear(6, 3)), data(rows), figures, lambda: 0.0, batch)
    live.look(0.0)
    live.look(5.0)
    assert live.found.rows == wanted


@pytest.mark.parametrize("error", [ValueError("one class only"), SystemExit(3)])
def test_what_fails_in_a_look_is_no_matter_of_training(error: BaseException) -> None:
    calls = []

    def refuse(outputs: Tensor, labels: Tensor) -> Mapping[str, float]:
        calls.append(len(outputs))
        raise error

    live = LiveValidation(learner_of(nn.Linear(6, 3)), data(64), refuse, lambda: 0.0)
    for now in (0.0, 10.0, 20.0):
        live.look(now)
    assert (live.found, len(calls)) == (Looked(), 1)


def test_figures_that_are_not_finite_or_missing_are_none() -> None:
    live = LiveValidation(learner_of(nn.Linear(6, 3)), data(64), lambda *_: {"loss": float("nan")}, lambda: 0.0)
    live.look(0.0)
    live.look(10.0)
    assert live.found == Looked(rows=64)


def test_a_compiled_model_is_left_alone() -> None:
    model = nn.Linear(6, 3)
    model.compile(backend="eager")
    live = LiveValidation(learner_of(model), data(64), figures, lambda: 0.0)
    live.look(0.0)
    live.look(10.0)
    assert live.found == Looked()

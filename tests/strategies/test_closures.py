"""Optimisers that have the loss evaluated again: L-BFGS as in plain torch, and those that may do without a closure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gossipdistill.learning.gradients import GradientRules, wants_closure
from gossipdistill.learning.learner import Draws
from gossipdistill.optimizers import OPTIMIZERS, SGD_C
from gossipdistill.strategies import STRATEGIES
from gossipdistill.training.worker import Worker

from .world import NAMES, World, make_strategy, make_task, make_worker

LOCKED = ("all_reduce", "decentlam")
"""Those that cannot do with evaluations that nobody counts."""


class Sam(torch.optim.SGD):
    """Sharpness-aware minimisation (Foret et al. 2021, 2010.01412, algorithm 1) as users write it: the gradient of the
    first evaluation is there already, and the closure, which it calls at the perturbed point, may be left out."""

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is not None, "needs a closure"
        parameters = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        moves = [0.05 * p.grad / norm for p in parameters]
        with torch.no_grad():
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.add_(move)
        self.zero_grad()
        closure()
        with torch.no_grad():
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.sub_(move)
        super().step()


class Counting(torch.optim.SGD):
    """Calls its closure once, as torch's own do."""

    losses: tuple[float, ...] = ()

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is not None
        self.losses += (float(closure()), float(closure()))
        super().step()


def with_optimizer(name: str, strategy: str, make: Callable[[Any], torch.optim.Optimizer], **options: object) -> Worker:
    worker = make_worker(name, make_strategy(strategy, **options))
    worker.learner.optimizer = make(worker.learner.model.parameters())
    return worker


def lbfgs(parameters: Any, search: str | None = "strong_wolfe") -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.5, max_iter=5, history_size=4, line_search_fn=search)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_isolated_is_plain_torch_bit_for_bit(search: str | None, accumulate: int) -> None:
    ada = with_optimizer("ada", "isolated", lambda parameters: lbfgs(parameters, search))
    ada.gradient = GradientRules(accumulate=accumulate)
    task = make_task(0)
    torch.manual_seed(0)
    model = task.model()
    model.load_state_dict(ada.learner.model.state_dict())
    optimizer = lbfgs(model.parameters(), search)
    x, y = task.train
    for step in range(6):
        ada.step(0.1 * step)
        batches = ada.draws.at(step).chunk(accumulate)

        def closure(batches: Any = batches) -> torch.Tensor:
            optimizer.zero_grad()
            whole = torch.zeros(())
            for batch in batches:
                loss = task.loss(model(x[batch]), y[batch]) / len(batches)
                loss.backward()
                whole = whole + loss.detach()
            return whole

        optimizer.step(closure)
    for mine, theirs in zip(ada.learner.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "lbfgs") for name in STRATEGIES if name not in LOCKED] + [("isolated", "sam"), ("codistill_groups", "sam")],
)
def test_every_strategy_trains_with_closures(name: str, kind: str) -> None:
    makes = {
        "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, lr=0.1, max_iter=2),
        "sam": lambda parameters: Sam(parameters, lr=0.1, momentum=0.9),
    }
    workers = {peer: with_optimizer(peer, name, makes[kind]) for peer in NAMES}
    for worker in workers.values():
        worker.draws = Draws(len(worker.task.train[0]), len(worker.task.train[0]), 0)  # L-BFGS bears little noise
        worker.learner.draws = replace(worker.draws)
    world, losses = World(workers), []
    for step in range(8):
        world.step(0.1 * step)
        losses.append(sum(worker.task_loss for worker in workers.values()) / len(NAMES))
    assert losses[-1] < 0.8 * losses[0]
    for worker in workers.values():
        assert (worker.learner.step, worker.learner.evaluation) == (8, 0)
        assert worker.learner.ledger.exchanges > 0 or not worker.gossip.strategy.delivery.gossips


@pytest.mark.parametrize("name", ["codistill_predictions", "codistill_checkpoints"])
def test_only_the_first_evaluation_is_counted(name: str) -> None:
    """Ledger and running losses are those of an optimiser that evaluates once, as long as the weights are the same."""

    def counted(kind: Callable[[Any], torch.optim.Optimizer]) -> tuple[object, ...]:
        options = {"burn_in_steps": 0, "quality_margin": 100.0}
        workers = {peer: with_optimizer(peer, name, kind, **options) for peer in NAMES}
        world = World(workers)
        for step in range(5):
            world.step(0.1 * step)
        state, ledger = workers["ada"].gossip.state, workers["ada"].learner.ledger
        mine = getattr(state, "my_loss", None) or getattr(state, "teachers", state).my_loss
        return ledger.exchanges, dict(ledger.staleness.bins), mine.looks

    class Several(torch.optim.SGD):
        def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
            assert closure is not None
            super().step()
            for _ in range(3):
                closure()

    once = counted(lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    assert counted(lambda parameters: Several(parameters, lr=0.0)) == once


def test_the_first_evaluation_is_used_until_a_weight_or_a_gradient_is_written_to() -> None:
    calls = []
    ada = with_optimizer("ada", "isolated", lambda parameters: Counting(parameters, lr=0.1))
    model = ada.learner.model
    model.register_forward_hook(lambda *_: calls.append(1))
    ada.step(0.0)
    optimizer = ada.learner.optimizer
    assert isinstance(optimizer, Counting)
    assert len(calls) == 1
    assert optimizer.losses == (pytest.approx(ada.task_loss), pytest.approx(ada.task_loss))


def test_the_loss_that_a_closure_gives_has_the_strategys_term() -> None:
    def both(weight: float) -> tuple[Counting, float]:
        workers = {
            peer: with_optimizer(peer, "codistill_predictions", lambda p: Counting(p, lr=0.1), weight=weight)
            for peer in NAMES
        }
        world = World(workers)
        for step in range(3):
            world.step(0.1 * step)
        optimizer = workers["ada"].learner.optimizer
        assert isinstance(optimizer, Counting)
        return optimizer, workers["ada"].task_loss

    without, task_loss = both(0.0)
    assert without.losses[-1] == pytest.approx(task_loss)
    with_term, task_loss = both(1.0)
    assert with_term.losses[-1] > task_loss + 1e-4


def test_torchs_own_get_none_but_the_one_that_must_have_it() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    assert wants_closure(torch.optim.LBFGS(parameters))
    assert wants_closure(Sam(parameters, lr=0.1))
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, SGD_C, *OPTIMIZERS.values()):
        assert not wants_closure(kind(parameters, lr=0.1))

    class Renamed(torch.optim.SGD):
        pass

    assert not wants_closure(Renamed(parameters, lr=0.1))

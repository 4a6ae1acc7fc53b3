"""Steps that are made so many times as long: which optimizers take it by their rate, and that nothing else shows it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.learning.learner import Learner
from gossipdistill.learning.step_scale import PROPORTIONAL

TYPES = [
    kind
    for kind in vars(torch.optim).values()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
]
RATES = {torch.optim.Adadelta: 0.7, torch.optim.Adafactor: 0.5, torch.optim.LBFGS: 0.5}
VARIANTS: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.3, "maximize": True}),
    (torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    (torch.optim.AdamW, {"weight_decay": 0.1, "foreach": True}),
    (torch.optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.RAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (torch.optim.RMSprop, {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (torch.optim.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1}),
    (torch.optim.Adamax, {"weight_decay": 0.1}),
    (torch.optim.Adadelta, {"weight_decay": 0.1}),
    (torch.optim.Muon, {"weight_decay": 0.1}),
]


def learner_of(optimizer: Callable[[Any], torch.optim.Optimizer], rows: int = 3) -> Learner:
    torch.manual_seed(0)
    model = nn.ParameterList([nn.Parameter(torch.randn(rows, 2, dtype=torch.float64))])
    return Learner("ada", 0, ("ada",), model, optimizer(model.parameters()), torch.device("cpu"), seed=0)


def value(learner: Learner) -> Tensor:
    (parameter,) = learner.model.parameters()
    return parameter.detach().clone()


def step(learner: Learner, number: int) -> None:
    """With a gradient that the number alone decides."""
    (parameter,) = learner.model.parameters()
    gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    if isinstance(learner.optimizer, torch.optim.SparseAdam):
        gradient = gradient.to_sparse(1)

    def closure() -> float:
        parameter.grad = gradient
        return float(gradient.to_dense().square().sum())

    closure()
    learner.optimizer.step(closure)


def state_of(learner: Learner) -> list[Tensor]:
    return [value for state in learner.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]


def moves_in_proportion(kind: type[torch.optim.Optimizer], options: dict[str, Any]) -> bool:
    """Whether four steps at 0.37 times the rate move by 0.37 times as much, and leave the same memory, each from where
    steps at the whole rate have led."""
    rate = RATES.get(kind, 0.05)
    before = learner_of(lambda p: kind(p, lr=rate, **options))
    for number in range(7):
        whole, part = (like(before, lambda p: kind(p, lr=rate, **options)) for _ in range(2))
        for group in part.optimizer.param_groups:
            group["lr"] = 0.37 * rate
        step(whole, number)
        step(part, number)
        moved, less = value(whole) - value(before), value(part) - value(before)
        if not torch.allclose(less, 0.37 * moved, atol=1e-12, rtol=1e-9):
            return False
        if not all(torch.equal(a, b) for a, b in zip(state_of(whole), state_of(part), strict=True)):
            return False
        before = whole
    return True


def like(other: Learner, optimizer: Callable[[Any], torch.optim.Optimizer]) -> Learner:
    """The same model and memory again."""
    learner = learner_of(optimizer)
    learner.model.load_state_dict(other.model.state_dict())
    learner.optimizer.load_state_dict(copy.deepcopy(other.optimizer.state_dict()))
    return learner


@pytest.mark.parametrize("kind", TYPES)
def test_the_table_of_all_optimizers_says_whose_step_is_proportional_to_its_rate(
    kind: type[torch.optim.Optimizer],
) -> None:
    options = [{}, *(options for other, options in VARIANTS if other is kind)]
    assert all(moves_in_proportion(kind, one) for one in options) == (kind in PROPORTIONAL)


@pytest.mark.parametrize(("kind", "options"), [*VARIANTS, (torch.optim.Rprop, {}), (torch.optim.Adafactor, {})])
def test_a_scaled_step_moves_so_many_times_as_far_and_remembers_the_same(
    kind: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    plain, scaled = (learner_of(lambda p: kind(p, lr=0.05, **options)) for _ in range(2))
    for number in range(4):
        step(plain, number)
        step(scaled, number)
    assert torch.equal(value(plain), value(scaled))
    before, scaled.step_scale.factor = value(plain), 1.7
    step(plain, 5)
    step(scaled, 5)
    assert torch.allclose(value(scaled) - before, 1.7 * (value(plain) - before), atol=1e-12, rtol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(state_of(plain), state_of(scaled), strict=True))
    assert scaled.step_scale.by_rate == (kind in PROPORTIONAL)


def test_one_that_is_derived_from_such_a_type_is_scaled_by_what_it_has_done() -> None:
    class Clamped(torch.optim.SGD):
        """Its step ends in the unit ball, so it is no longer proportional to the rate."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step(closure)
            with torch.no_grad():
                self.param_groups[0]["params"][0].clamp_(-1.0, 1.0)

    learner = learner_of(lambda p: Clamped(p, lr=10.0))
    assert not learner.step_scale.by_rate
    before = value(learner)
    learner.step_scale.factor = 0.5
    step(learner, 0)
    gone = 2.0 * (value(learner) - before) + before
    assert float(gone.abs().max()) == pytest.approx(1.0)


def test_a_rate_is_the_same_object_with_the_same_value_after_the_step() -> None:
    rate = 0.1 + 0.2
    learner = learner_of(lambda p: torch.optim.SGD(p, lr=rate))
    learner.step_scale.factor = 3.0
    step(learner, 0)
    assert learner.optimizer.param_groups[0]["lr"] is rate
    tensor = torch.tensor(0.3)
    learner = learner_of(lambda p: torch.optim.Adam(p, lr=tensor))
    seen: list[float] = []
    learner.step_scale.factor = 3.0
    learner.optimizer.register_step_pre_hook(lambda *_: seen.append(float(tensor)))
    step(learner, 0)
    assert learner.optimizer.param_groups[0]["lr"] is tensor
    assert float(tensor) == pytest.approx(0.3)
    assert seen == [pytest.approx(0.9)], "scaled in place, as compiled steps read it"


def test_schedulers_and_checkpoints_never_see_a_scaled_rate() -> None:
    learner = learner_of(lambda p: torch.optim.SGD(p, lr=1.0))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(learner.optimizer, 0.5)
    rates = []
    for number in range(4):
        learner.step_scale.factor = 10.0**number
        step(learner, number)
        rates.append(learner.optimizer.state_dict()["param_groups"][0]["lr"])
        scheduler.step()
    assert rates == [1.0, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_step_that_raises_leaves_nothing_that_the_next_one_does_not_mend(as_tensor: bool) -> None:
    """Unless somebody has set the rate meanwhile: then that is the rate."""
    learner = learner_of(lambda p: torch.optim.SGD(p, lr=torch.tensor(0.1) if as_tensor else 0.1))
    learner.step_scale.factor = 2.0

    def fails() -> float:
        raise ArithmeticError

    group = learner.optimizer.param_groups[0]
    with pytest.raises(ArithmeticError):
        learner.optimizer.step(fails)
    assert float(group["lr"]) == pytest.approx(0.2)
    step(learner, 0)
    assert float(group["lr"]) == pytest.approx(0.1)
    with pytest.raises(ArithmeticError):
        learner.optimizer.step(fails)
    group["lr"] = torch.tensor(0.7) if as_tensor else 0.7
    step(learner, 0)
    assert float(group["lr"]) == pytest.approx(0.7)


def test_a_step_that_a_scaler_of_gradients_skips_changes_nothing() -> None:
    learner = learner_of(lambda p: torch.optim.SGD(p, lr=0.1))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)  # type: ignore[attr-defined]
    learner.step_scale.factor = 2.0
    (parameter,) = learner.model.parameters()
    for gradient in (float("inf"), 1.0):
        before = value(learner)
        scaler.scale(parameter.sum()).backward()
        assert parameter.grad is not None
        parameter.grad.mul_(gradient)
        scaler.step(learner.optimizer)
        scaler.update()
        learner.optimizer.zero_grad()
        expected = before if gradient == float("inf") else before - 0.2
        assert torch.allclose(value(learner), expected)
        assert learner.optimizer.param_groups[0]["lr"] == 0.1

"""Parameters of low precision move under small pulls, and those of four bytes or more are mixed as ever."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.learning.averaging import mix_in
from gossipdistill.learning.flat import flat_parameters, move
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.robust import centre_in, clip_in
from gossipdistill.learning.rounding import Chance, stochastic

ENTRIES, PULLS, SHARE = 4000, 200, 0.01
LOW = (torch.bfloat16, torch.float16)

Pull = Callable[[nn.Module, Mapping[str, Tensor], int], None]
PULL: dict[str, Pull] = {
    "mix_in": lambda model, to, step: mix_in(model, [(SHARE, to)], chance=Chance(step)),
    "mix_in without a chance": lambda model, to, step: mix_in(model, [(SHARE, to)]),
    "two at once": lambda model, to, step: mix_in(model, [(SHARE / 2, to), (SHARE / 2, to)], chance=Chance(step)),
    "clip": lambda model, to, step: clip_in(
        model, {"a": to, "b": to}, {"a": SHARE / 2, "b": SHARE / 2}, 1, chance=Chance(step)
    ),
    # Of mine and two that are alike, the middle one is theirs.
    "trimmed mean": lambda model, to, step: centre_in(
        model, {"a": to, "b": to}, SHARE, 1, median=False, chance=Chance(step)
    ),
    "move": lambda model, to, step: _moved(model, to["0"], step),
}


def _moved(model: nn.Module, to: Tensor, step: int) -> None:
    held = move(model, SHARE * (to.float() - flat_parameters(model).float()), None, Chance(step))
    assert torch.equal(held.to(to.dtype), flat_parameters(model)), "what the model holds"


def vector(value: float, dtype: torch.dtype) -> nn.ParameterList:
    return nn.ParameterList([torch.full((ENTRIES,), value, dtype=dtype)])


@pytest.mark.parametrize("kind", PULL)
@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize(("start", "target"), [(1.0, 1.3), (-0.37, 0.21)])
def test_many_small_pulls_add_up(kind: str, dtype: torch.dtype, start: float, target: float) -> None:
    """x + 0.01 (y - x), 200 times: y + 0.99^200 (x - y)."""
    model, other = vector(start, dtype), {"0": torch.full((ENTRIES,), target, dtype=dtype)}
    first, goal = (float(tensor.detach()[0]) for tensor in (model[0], other["0"]))
    for step in range(PULLS):
        PULL[kind](model, other, step)
    exact = goal + (1 - SHARE) ** PULLS * (first - goal)
    ulp = torch.finfo(dtype).eps * max(abs(first), abs(goal))
    assert float(model[0].detach().float().mean()) == pytest.approx(exact, abs=ulp)
    assert float(model[0].detach().float().std()) < 6 * ulp


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wider_types_are_mixed_bit_for_bit_as_ever(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    mine, other = (torch.randn(100, generator=generator, dtype=dtype) for _ in range(2))
    model = nn.ParameterList([mine.clone()])
    state = torch.random.get_rng_state()
    mix_in(model, [(0.3, {"0": other})])
    assert torch.equal(model[0], mine.clone().mul_(0.7).add_(other, alpha=0.3))
    assert torch.equal(move(model, other, None, Chance(0)), mine.clone().mul_(0.7).add_(other, alpha=0.3) + other)
    low = nn.ParameterList([mine.bfloat16()])
    mix_in(low, [(0.3, {"0": other})])
    assert torch.equal(state, torch.random.get_rng_state()), "torch's global generator is nobody's to touch"


@pytest.mark.parametrize("dtype", LOW)
def test_the_mean_is_the_value_and_each_is_a_neighbour_of_it(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    values = torch.tensor([1.001, -1.001, 3.14159, -1 / 3, 0.7 * tiny, -0.01 * tiny])
    found = stochastic(values.repeat(20_000, 1), dtype, Chance(3)).float()
    low, high = found.amin(dim=0), found.amax(dim=0)
    assert bool(((low < values) & (values < high)).all())
    between = torch.nextafter(low, high).to(dtype).float()
    assert bool(((between == low) | (between == high)).all())
    assert bool((found.unique(dim=0).shape[0] <= 2 ** len(values)) and all(len(c.unique()) == 2 for c in found.T))
    assert bool(((found.mean(dim=0) - values).abs() < 0.02 * (high - low)).all())


@pytest.mark.parametrize("dtype", [*LOW, torch.float8_e4m3fn, torch.float8_e5m2])
def test_what_the_type_holds_stays_and_nothing_finite_becomes_infinite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    exact = torch.tensor([0.0, 1.0, -1.5, largest, -largest])
    for seed in range(20):
        assert torch.equal(stochastic(exact, dtype, Chance(seed)).float(), exact)
        beyond = stochastic(torch.tensor([3e38, -3e38, 0.999 * largest]), dtype, Chance(seed)).float()
        assert bool(beyond.isfinite().all())
    if dtype in LOW:
        odd = torch.tensor([float("nan"), float("inf"), -float("inf")])
        assert stochastic(odd, dtype, Chance(0)).isnan().tolist() == [True, False, False]
        assert stochastic(odd, dtype, Chance(0)).isinf().tolist() == [False, True, True]


def test_the_same_step_of_the_same_peer_rounds_alike_and_another_does_not() -> None:
    values = torch.full((1000,), 1.001)

    def rounded(place: int, step: int) -> Tensor:
        return stochastic(values, torch.bfloat16, learner(vector(1.0, torch.bfloat16), place, step).chance)

    assert torch.equal(rounded(0, 5), rounded(0, 5))
    assert not torch.equal(rounded(0, 5), rounded(0, 6))
    assert not torch.equal(rounded(0, 5), rounded(1, 5))


def learner(model: nn.Module, place: int = 0, step: int = 0) -> Learner:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Learner("ada", place, ("ada", "bo"), model, optimizer, torch.device("cpu"), seed=0, step=step)


def test_a_step_that_is_shortened_keeps_its_mean() -> None:
    """A quarter of the distance between two neighbouring numbers of the type is not nothing."""
    model = vector(1.0, torch.bfloat16)

    class Upwards(torch.optim.SGD):
        """To the next number of the type; none of the types whose rate is scaled."""

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            with torch.no_grad():
                model[0].add_(torch.finfo(torch.bfloat16).eps)

    one = Learner("ada", 0, ("ada",), model, Upwards(model.parameters(), lr=0.1), torch.device("cpu"), seed=0)
    one.step_scale.factor = 0.25
    one.optimizer.step()
    expected = 1.0 + 0.25 * torch.finfo(torch.bfloat16).eps
    assert float(one.model[0].detach().float().mean()) == pytest.approx(
        expected, abs=0.02 * torch.finfo(torch.bfloat16).eps
    )

"""Optimizers with a memory of critical gradients, and how optimizers are found by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gossipdistill.config.layers import Layer
from gossipdistill.config.origins import chosen
from gossipdistill.config.resolving import resolve
from gossipdistill.errors import ConfigError
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.optimizers import OPTIMIZERS, SGD_C, Adam_C, build_optimizer

KINDS = (SGD_C, Adam_C)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(32, 4, generator=generator), torch.randint(3, (32,), generator=generator)
    for step in range(steps):
        rows = slice(8 * (step % 4), 8 * (step % 4) + 8)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_without_memory_they_are_sgd_and_adam(decay: float) -> None:
    plain, ours = network(), network()
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, foreach=False), 30)
    train(ours, SGD_C(ours.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, topc=0), 30)
    assert same(plain, ours)
    plain, ours = network(), network()
    train(plain, torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=decay, foreach=False), 30)
    train(ours, Adam_C(ours.parameters(), lr=0.01, weight_decay=decay, topc=0), 30)
    for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_step_remembers_nothing_yet(kind: type[SGD_C] | type[Adam_C]) -> None:
    without, with_memory = network(), network()
    train(without, kind(without.parameters(), lr=0.1, topc=0), 1)
    train(with_memory, kind(with_memory.parameters(), lr=0.1), 1)
    assert same(without, with_memory)


def fed(optimizer: torch.optim.Optimizer, point: nn.Parameter, gradients: list[float]) -> None:
    for gradient in gradients:
        point.grad = torch.tensor([gradient])
        optimizer.step()


def memory(optimizer: SGD_C, point: nn.Parameter) -> tuple[list[float], list[float]]:
    state = optimizer.state[point]
    count = len(state["priorities"])
    return state["remembered"][:count, 0].tolist(), state["priorities"]


def test_the_largest_are_kept_and_priorities_decay() -> None:
    """With decay 0.5: 0.4 is below the lowest priority, 0.5, and 0.3 above it one step later, when it is 0.25."""
    point = nn.Parameter(torch.zeros(1))
    optimizer = SGD_C([point], lr=0.0, topc=2, decay=0.5)
    fed(optimizer, point, [4.0, 1.0])
    assert memory(optimizer, point) == ([4.0, 1.0], [1.0, 0.5])
    fed(optimizer, point, [0.4])
    assert memory(optimizer, point) == ([4.0, 1.0], [0.5, 0.25])
    fed(optimizer, point, [-0.3])
    assert memory(optimizer, point)[0] == pytest.approx([4.0, -0.3])
    fed(optimizer, point, [9.0])
    assert memory(optimizer, point)[0] == pytest.approx([4.0, 9.0])


def test_the_control_keeps_the_newest() -> None:
    point = nn.Parameter(torch.zeros(1))
    optimizer = SGD_C([point], lr=0.0, topc=2, keep="newest")
    fed(optimizer, point, [4.0, 3.0, 2.0, 1.0])
    assert sorted(memory(optimizer, point)[0]) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("sum", 2.0 + 0.5 * 7.0), ("mean", (2.0 + 0.5 * 14.0) / 3), ("mid", 5.5 / 2)]
)
def test_aggregation_is_as_in_the_paper(aggregation: str, expected: float) -> None:
    """McRae et al. 2021 (2106.10708): memory 8 and 6, gradient 2, kappa 0.5, and the old memory is used."""
    point = nn.Parameter(torch.zeros(1))
    optimizer = SGD_C([point], lr=0.0, topc=2, kappa=0.5, aggregation=aggregation)  # type: ignore[arg-type]
    fed(optimizer, point, [8.0, 6.0])
    optimizer.param_groups[0]["lr"] = 1.0
    fed(optimizer, point, [2.0])
    assert point.item() == pytest.approx(-expected)


@pytest.mark.parametrize(("aggregation", "step"), [("sum", 1.0), ("mid", 1.0), ("mean", -1.0)])
def test_in_adam_the_size_of_a_sum_cancels_and_its_mixture_does_not(aggregation: str, step: float) -> None:
    """Memory 3, 3, 3, 3 and gradient -4: the sum is -1, mid -1/2, the mean of all five 8/5."""
    point = nn.Parameter(torch.zeros(1))
    optimizer = Adam_C([point], lr=0.0, betas=(0.0, 0.0), topc=4, aggregation=aggregation)  # type: ignore[arg-type]
    fed(optimizer, point, [3.0] * 4)
    optimizer.param_groups[0]["lr"] = 1.0
    fed(optimizer, point, [-4.0])
    assert point.item() == pytest.approx(step)


def test_whole_gradients_are_compared_unless_told_otherwise() -> None:
    """The second gradient is smaller as a whole and larger in its second part."""
    for whole, kept in ((True, [[3.0], [0.1]]), (False, [[3.0], [1.0]])):
        parts = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
        optimizer = SGD_C(parts, lr=0.0, topc=1, decay=1.0, whole_model=whole)
        for gradient in ([3.0, 0.1], [1.0, 1.0]):
            for part, entry in zip(parts, gradient, strict=True):
                part.grad = torch.tensor([entry])
            optimizer.step()
        assert [optimizer.state[part]["remembered"][0].tolist() for part in parts] == [
            pytest.approx(row) for row in kept
        ]


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_remembered(spoilt: float) -> None:
    point = nn.Parameter(torch.zeros(1))
    optimizer = SGD_C([point], lr=0.0, topc=3)
    fed(optimizer, point, [1.0, spoilt, 2.0])
    assert sorted(memory(optimizer, point)[0]) == [1.0, 2.0]


def test_a_parameter_without_gradient_is_left_alone() -> None:
    moving, resting = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    for kind in KINDS:
        optimizer = kind([moving, resting], lr=0.1, weight_decay=0.1)
        moving.grad = torch.ones(1)
        optimizer.step()
        assert resting.item() == 1.0
        assert resting not in optimizer.state


def test_a_closure_is_asked_once_with_gradients() -> None:
    for kind in KINDS:
        model, asked = network(), []
        optimizer = kind(model.parameters(), lr=0.1)

        def closure(model: nn.Module = model, asked: list[bool] = asked) -> torch.Tensor:
            asked.append(torch.is_grad_enabled())
            loss = model(torch.ones(2, 4)).square().sum()
            loss.backward()
            return loss

        assert optimizer.step(closure).item() > 0.0
        assert asked == [True]


@pytest.mark.parametrize("name", ["sgd_c", "adam_c"])
def test_a_resumed_run_goes_on_bit_for_bit(name: str) -> None:
    model = network()
    optimizer = build_optimizer(name, model, 0.01, 0.9, 0.001, {"topc": 3})
    train(model, optimizer, 7)
    parts, content = Checkpoint.of(model, optimizer, {"step": 7}).encode()
    train(model, optimizer, 9, seed=2)
    resumed = network(5)
    resumed_optimizer = build_optimizer(name, resumed, 0.01, 0.9, 0.001, {"topc": 3})
    Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content))).restore(resumed, resumed_optimizer)
    train(resumed, resumed_optimizer, 9, seed=2)
    assert same(model, resumed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_numbers_do_as_well(dtype: torch.dtype) -> None:
    for kind in KINDS:
        point = nn.Parameter(torch.ones(2, dtype=dtype))
        optimizer = kind([point], lr=0.1)
        for _ in range(30):
            point.grad = point.detach().clone()
            optimizer.step()
        assert optimizer.state[point]["remembered"].dtype is dtype
        assert bool((point.abs() < 1.0).all())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"topc": -1}, "topc = -1"),
        ({"decay": 1.5}, "decay = 1.5"),
        ({"kappa": -1.0}, "kappa = -1.0"),
        ({"aggregation": "max"}, "aggregation = 'max': one of sum, mean, mid"),
        ({"keep": "oldest"}, "keep = 'oldest': one of largest, newest"),
        ({"lr": -0.1}, "lr = -0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], problem: str) -> None:
    for kind in KINDS:
        with pytest.raises(ValueError, match=problem):
            kind(network().parameters(), **options)  # type: ignore[arg-type]


# --- by name ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with a user's module of optimizers, which is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "lions.py").write_text(
        "import torch\n\n"
        "class Signs(torch.optim.Optimizer):\n"
        "    def __init__(self, params, lr, betas=(0.9, 0.9), mane=1.0):\n"
        "        if mane < 0:\n            raise ValueError('no mane')\n"
        "        super().__init__(params, {'lr': lr, 'betas': betas, 'mane': mane})\n\n"
        "NOTHING = 3\n\n"
        "def nobody(params, lr):\n    return lr\n"
    )
    yield tmp_path
    sys.modules.pop("lions", None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_name_makes_its_optimizer_with_the_keys_of_train(name: str) -> None:
    made = build_optimizer(name, network(), 0.03, 0.8, 0.002)
    assert type(made) is OPTIMIZERS[name]
    (group,) = made.param_groups
    assert group["lr"] == 0.03
    assert group["weight_decay"] == 0.002
    assert group["momentum"] == 0.8 if "momentum" in group else group["betas"][0] == 0.8


def test_the_users_own_class(folder: Path) -> None:
    made = build_optimizer("lions:Signs", network(), 0.03, 0.8, 0.0, {"mane": 2.0})
    assert made.defaults == {"lr": 0.03, "betas": (0.8, 0.999), "mane": 2.0}


@pytest.mark.parametrize(
    ("name", "decay", "options", "problem"),
    [
        ("sdg", 0.0, {}, "train.optimizer = 'sdg': no such optimizer; did you mean sgd"),
        (
            "sgd_c",
            0.0,
            {"topk": 3},
            "train.optimizer_options.topk = 3: this optimizer has no such option; did you mean",
        ),
        ("sgd_c", 0.0, {"lr": 3}, "train.optimizer_options.lr = 3: .* no such option; it is train.lr"),
        (
            "sgd_c",
            0.0,
            {"topc": -3},
            "train.optimizer = 'sgd_c': refuses these options: ValueError: topc = -3: 0 or more",
        ),
        ("lions:Sings", 0.0, {}, "train.optimizer = 'lions:Sings': lions has no Sings; did you mean Signs"),
        ("lions:NOTHING", 0.0, {}, "is no class, it is of type int"),
        ("lions:nobody", 0.0, {}, "makes a float, not a torch.optim.Optimizer"),
        ("lions:Signs", 0.1, {}, "train.weight_decay = 0.1: lions:Signs takes no weight decay; accepted: 0.0"),
        ("lions:Signs", 0.0, {"main": 1}, "train.optimizer_options.main = 1: .* did you mean mane"),
        ("lions:Signs", 0.0, {"mane": -1}, r"refuses these options: ValueError: no mane \(.*lions.py:6\)"),
        ("tigers:Signs", 0.0, {}, "no module tigers"),
    ],
)
def test_mistakes_are_named(folder: Path, name: str, decay: float, options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        build_optimizer(name, network(), 0.03, 0.8, decay, options)


def test_a_run_file_names_it_and_is_told_of_mistakes() -> None:
    layers = [Layer(chosen("x"), {"steps": 1, "train.optimizer": "sgd_c", "train.optimizer_options.topc": 5})]
    train_keys = resolve(layers).config.train
    assert (train_keys.optimizer, train_keys.optimizer_options) == ("sgd_c", {"topc": 5})
    for key, value, problem in (
        ("train.optimizer", "sgdc", "train.optimizer = 'sgdc': no such optimizer; did you mean sgd_c"),
        ("train.optimizer_options.topk", 5, "y.toml: train.optimizer_options.topk = 5: .* did you mean topc"),
    ):
        with pytest.raises(ConfigError, match=problem):
            resolve([*layers, Layer(chosen("y"), {key: value}, Path("y.toml"))])

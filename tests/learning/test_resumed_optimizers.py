"""Every optimizer goes on from a checkpoint bit for bit; and today's settings hold over those of the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.hyperparameters import Change, constructor_values
from gossipdistill.optimizers import SGD_C, Adam_C

O = torch.optim  # noqa: E741 - short for a long table
S = torch.optim.lr_scheduler


class Nested(Optimizer):
    """A user's own: its state has texts, None, lists that grow, nested dictionaries, float64 and whole numbers."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "shape": lambda step: step})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                own = self.state[p]
                if not own:
                    mean = torch.zeros_like(p, dtype=torch.float64)
                    own |= {"name": "abc", "none": None, "past": [], "inner": {"mean": mean, 3: ({"flags": []},)}}
                    own |= {"me": p, "same": mean, "seen": torch.zeros(3, dtype=torch.int32)}
                assert own["name"] == "abc"
                assert own["me"] is p
                assert own["same"] is own["inner"]["mean"]
                own["inner"]["mean"].mul_(0.9).add_(p.grad.double())
                own["past"].append(own["same"].sum())
                own["inner"][3][0]["flags"].append(own["same"] > 0)
                own["seen"] += 1
                scale = group["shape"](group["lr"] / float(own["seen"][0]))
                p.sub_((scale * (own["same"] + own["past"][0])).to(p.dtype))


class FreeOfSchedule(Optimizer):
    """A user's own, which keeps what became of it in its groups, as schedule-free ones and Prodigy do."""

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "k": 0, "d": 1e-6})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["k"] += 1
            group["d"] *= 1.5
            group["momentum"] *= 0.99  # as OneCycle does
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["lr"] / group["k"])


Make = Callable[[nn.Module], Optimizer]
MAKE: dict[str, Make] = {
    "sgd": lambda m: O.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: O.SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.1),
    "nesterov": lambda m: O.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda m: O.Adam(m.parameters(), lr=0.01),
    "tensors": lambda m: O.Adam(
        m.parameters(), lr=torch.tensor(0.01), betas=(torch.tensor(0.9), torch.tensor(0.99)), foreach=False
    ),
    "amsgrad": lambda m: O.AdamW(m.parameters(), amsgrad=True),
    "nadam": lambda m: O.NAdam(m.parameters()),
    "radam": lambda m: O.RAdam(m.parameters()),
    "adamax": lambda m: O.Adamax(m.parameters()),
    "adagrad": lambda m: O.Adagrad(m.parameters(), initial_accumulator_value=0.1),
    "adadelta": lambda m: O.Adadelta(m.parameters()),
    "rmsprop": lambda m: O.RMSprop(m.parameters(), centered=True, momentum=0.9),
    "rprop": lambda m: O.Rprop(m.parameters()),
    "asgd": lambda m: O.ASGD(m.parameters()),
    "lbfgs": lambda m: O.LBFGS(m.parameters(), max_iter=3),
    "adafactor": lambda m: O.Adafactor(m.parameters()),
    "muon": lambda m: O.Muon([p for p in m.parameters() if p.ndim == 2]),
    "sgd_c": lambda m: SGD_C(m.parameters(), lr=0.1, topc=2),
    "adam_c": lambda m: Adam_C(m.parameters(), topc=2),
    "groups": lambda m: O.SGD(
        [
            {"params": [p for p in m.parameters() if p.ndim > 1], "lr": 0.3},
            {"params": [p for p in m.parameters() if p.ndim < 2]},
        ],
        lr=0.1,
        momentum=0.5,
    ),
    "nested": lambda m: Nested(m.parameters()),
    "free": lambda m: FreeOfSchedule(m.parameters()),
}


def dense(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2))
    return net.to(memory_format=torch.channels_last)


def in_bfloat16(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, 4), nn.Tanh(), nn.Linear(4, 2)).to(torch.bfloat16)


def contiguous(seed: int) -> nn.Module:
    return dense(seed).to(memory_format=torch.contiguous_format)


class Words(nn.Module):
    """A sparse embedding, whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.EmbeddingBag(20, 4, sparse=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.words(x.flatten(1).abs().mul(9).long().clamp(max=19)))


def sparse(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Words()


def train(model: nn.Module, optimizer: Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 2, 3, 3, generator=generator), torch.arange(8) % 2
    x = x.to(next(model.parameters()).dtype)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x).float(), y)
        loss.backward()
        return loss

    for _ in range(steps):
        if isinstance(optimizer, O.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def read_back(copy: Checkpoint) -> Checkpoint:
    parts, content = copy.encode()
    return Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content, allow_nan=False)))


def goes_on(make: Make, network: Callable[[int], nn.Module]) -> None:
    """Three steps, a checkpoint, four more; a new process that does these four ends at the same bits."""
    model = network(0)
    optimizer = make(model)
    built = constructor_values(optimizer)
    train(model, optimizer, 3)
    copy = Checkpoint.of(model, optimizer, {"step": 3}, gave=built)
    train(model, optimizer, 4)
    other = network(5)
    other_optimizer = make(other)
    assert read_back(copy).restore(other, other_optimizer) == []
    train(other, other_optimizer, 4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("kind", MAKE)
def test_it_goes_on_bit_for_bit(kind: str) -> None:
    # torch's LBFGS and Muon want parameters that lie row after row
    goes_on(MAKE[kind], contiguous if kind in ("lbfgs", "muon") else dense)


@pytest.mark.parametrize("kind", ["momentum", "adam", "nested", "adafactor", "free"])
def test_it_goes_on_bit_for_bit_in_bfloat16(kind: str) -> None:
    goes_on(MAKE[kind], in_bfloat16)  # the state of `nested` is float64, and stays so


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    "make",
    [
        lambda m: O.SGD(m.parameters(), lr=0.1),
        MAKE["nesterov"],
        lambda m: O.Adagrad(m.parameters()),
        lambda m: O.SparseAdam([m.words.weight], lr=0.01),
    ],
)
def test_sparse_gradients_and_sparse_momentum_go_on_bit_for_bit(make: Make) -> None:
    goes_on(make, sparse)


def test_a_checkpoint_can_be_used_twice() -> None:
    model = dense(0)
    optimizer = MAKE["momentum"](model)
    train(model, optimizer, 2)
    kept = Checkpoint.of(model, optimizer, {})
    ends = []
    for _ in range(2):
        other = dense(1)
        other_optimizer = MAKE["momentum"](other)
        kept.restore(other, other_optimizer)
        train(other, other_optimizer, 2)  # must leave what is kept alone
        ends.append(other.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# --- today's settings ------------------------------------------------------------------------------------------------


def resumed(before: Make, now: Make, steps: int = 3, gave: bool = True) -> tuple[Optimizer, list[Change]]:
    """An optimizer made by `now`, restored from the checkpoint of one made by `before` after some steps."""
    model = dense(0)
    optimizer = before(model)
    built = constructor_values(optimizer)
    train(model, optimizer, steps)
    copy = Checkpoint.of(model, optimizer, {}, gave=built if gave else None)
    other = dense(1)
    restored = now(other)
    unsure = () if gave else ("lr", "momentum", "betas", "weight_decay")
    return restored, read_back(copy).restore(other, restored, unsure=unsure)


def test_a_value_that_todays_constructor_gives_differently_wins() -> None:
    optimizer, changes = resumed(
        lambda m: O.SGD(m.parameters(), lr=0.1, momentum=0.9),
        lambda m: O.SGD(m.parameters(), lr=0.001, momentum=0.5, weight_decay=0.01),
    )
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.001, 0.5, 0.01)
    assert changes == [Change(0, "lr", 0.1, 0.001), Change(0, "momentum", 0.9, 0.5), Change(0, "weight_decay", 0, 0.01)]


def test_what_became_of_a_group_stays_where_the_constructor_says_the_same() -> None:
    optimizer, changes = resumed(MAKE["free"], lambda m: FreeOfSchedule(m.parameters(), lr=0.02))
    group = optimizer.param_groups[0]
    assert (group["lr"], group["k"]) == (0.02, 3)
    assert group["momentum"] == pytest.approx(0.9 * 0.99**3, rel=1e-12)
    assert group["d"] == pytest.approx(1e-6 * 1.5**3, rel=1e-12)
    assert [change.key for change in changes] == ["lr"]
    optimizer, changes = resumed(MAKE["free"], lambda m: FreeOfSchedule(m.parameters(), momentum=0.8))
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert changes == [Change(0, "momentum", 0.9, 0.8)]


def test_each_group_has_its_own_and_a_tuple_is_one_again() -> None:
    def made(rates: tuple[float, float], betas: tuple[float, float] = (0.9, 0.99)) -> Make:
        def make(model: nn.Module) -> Optimizer:
            first, *rest = model.parameters()
            return O.Adam([{"params": [first], "lr": rates[0]}, {"params": rest, "lr": rates[1]}], betas=betas)

        return make

    optimizer, changes = resumed(made((0.1, 0.2)), made((0.1, 0.3)))
    assert changes == [Change(1, "lr", 0.2, 0.3)]
    assert [group["betas"] for group in optimizer.param_groups] == [(0.9, 0.99)] * 2
    optimizer, changes = resumed(made((0.1, 0.2)), made((0.1, 0.2), (0.5, 0.99)))
    assert [group["betas"] for group in optimizer.param_groups] == [(0.5, 0.99)] * 2
    assert changes == [Change(place, "betas", (0.9, 0.99), (0.5, 0.99)) for place in (0, 1)]


def test_tensors_are_compared_by_value_and_callables_are_those_of_today() -> None:
    def with_rate(rate: float) -> Make:
        return lambda m: O.Adam(m.parameters(), lr=torch.tensor(rate), foreach=False)

    optimizer, changes = resumed(with_rate(0.5), with_rate(0.5))
    assert changes == []
    optimizer, changes = resumed(with_rate(0.5), with_rate(0.25))
    assert isinstance(optimizer.param_groups[0]["lr"], Tensor)
    assert optimizer.param_groups[0]["lr"].item() == 0.25
    optimizer, changes = resumed(MAKE["nested"], MAKE["nested"])
    assert optimizer.param_groups[0]["shape"](7) == 7
    assert changes == []


def scheduled(lr: float, keys: Mapping[str, Any]) -> Make:
    """SGD whose rates a schedule has moved, which left what it began with."""

    def make(model: nn.Module) -> Optimizer:
        return O.SGD(model.parameters(), lr=lr, **keys)

    return make


@pytest.mark.parametrize("gave", [True, False])
def test_what_a_schedule_multiplies_follows(gave: bool) -> None:
    model = dense(0)
    optimizer = scheduled(0.1, {"weight_decay": 0.5})(model)
    built = constructor_values(optimizer)
    optimizer.param_groups[0] |= {"initial_lr": 0.1, "lr": 0.07, "initial_weight_decay": 0.5, "weight_decay": 0.2}
    copy = read_back(Checkpoint.of(model, optimizer, {}, gave=built if gave else None))
    unsure = ("lr", "weight_decay")

    same = scheduled(0.1, {"weight_decay": 0.5})(dense(1))
    other = dense(1)
    same = scheduled(0.1, {"weight_decay": 0.5})(other)
    assert copy.restore(other, same, unsure=unsure) == []
    assert {key: same.param_groups[0][key] for key in ("initial_lr", "lr", "weight_decay")} == {
        "initial_lr": 0.1,
        "lr": 0.07,
        "weight_decay": 0.2,
    }

    other = dense(1)
    changed = scheduled(0.01, {"weight_decay": 0.25})(other)
    changes = copy.restore(other, changed, unsure=unsure)
    assert [(change.key, change.was, change.now) for change in changes] == [
        ("lr", 0.1, 0.01),
        ("weight_decay", 0.5, 0.25),
    ]
    group = changed.param_groups[0]
    assert (group["initial_lr"], group["initial_weight_decay"]) == (0.01, 0.25)


def test_a_key_that_is_new_in_the_constructor_is_there() -> None:
    class More(FreeOfSchedule):
        def __init__(self, params: Any) -> None:
            super().__init__(params)
            self.param_groups[0]["warmup"] = (3, "steps")

    More.__name__ = "FreeOfSchedule"
    optimizer, changes = resumed(MAKE["free"], lambda m: More(m.parameters()))
    assert optimizer.param_groups[0]["warmup"] == (3, "steps")
    assert changes == []


def test_settings_that_the_saved_state_does_not_go_with_are_refused_by_name() -> None:
    with pytest.raises(RefusedCheckpointError, match=r"does not go with amsgrad = True \(was False\): KeyError"):
        resumed(MAKE["adam"], lambda m: O.Adam(m.parameters(), lr=0.01, amsgrad=True))
    with pytest.raises(RefusedCheckpointError, match=r"does not go with topc = 4 \(was 2\): IndexError"):
        resumed(MAKE["sgd_c"], lambda m: SGD_C(m.parameters(), lr=0.1, topc=4))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_another_number_of_groups_is_refused(kind: str) -> None:
    with pytest.raises(RefusedCheckpointError, match="its groups of parameters differ"):
        resumed(MAKE[kind], lambda m: type(MAKE[kind](m))([{"params": [p]} for p in m.parameters()], lr=0.1))


class Scheduled(O.SGD):
    """A user's own, with a schedule inside."""

    def __init__(self, params: Any, lr: float = 0.1, kind: str = "one_cycle") -> None:
        super().__init__(params, lr=lr, momentum=0.9)
        schedules: dict[str, Callable[[], Any]] = {
            "one_cycle": lambda: S.OneCycleLR(self, max_lr=lr, total_steps=20),
            "cosine": lambda: S.CosineAnnealingLR(self, T_max=20),
            "in turn": lambda: S.SequentialLR(
                self, [S.LinearLR(self, 0.1, total_iters=2), S.StepLR(self, 3, gamma=0.5)], milestones=[2]
            ),
        }
        self.schedule = schedules[kind]()

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        self.schedule.step()


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step")
@pytest.mark.parametrize("kind", ["one_cycle", "cosine", "in turn"])
def test_a_schedule_inside_an_optimizer_goes_on_where_it_was(kind: str) -> None:
    goes_on(lambda m: Scheduled(m.parameters(), kind=kind), dense)


def test_a_schedule_inside_an_optimizer_follows_a_new_rate() -> None:
    optimizer, changes = resumed(
        lambda m: Scheduled(m.parameters(), lr=0.1), lambda m: Scheduled(m.parameters(), lr=0.01), steps=5
    )
    assert {change.key for change in changes} == {"lr", "initial_lr", "max_lr", "min_lr"}
    straight = dense(0)
    whole = Scheduled(straight.parameters(), lr=0.01)
    train(straight, whole, 6)
    assert isinstance(optimizer, Scheduled)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for key in ("lr", "momentum"):
        assert optimizer.param_groups[0][key] == whole.param_groups[0][key]

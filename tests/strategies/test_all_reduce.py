"""all_reduce alone in a group of one: parameters without a gradient, and meeting places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from gossipdistill.errors import ConfigError
from gossipdistill.strategies import all_reduce
from gossipdistill.strategies.all_reduce import unused_parameters
from gossipdistill.training.worker import Worker

from .world import make_strategy, make_worker


class Layers(nn.Module):
    """`spare` is never used, `rare` in the first call alone, `frozen` not trained; it counts and keeps what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.rare, self.frozen = (nn.Linear(2, 3) for _ in range(4))
        self.norm = nn.BatchNorm1d(3)
        self.frozen.requires_grad_(False)
        self.calls, self.seen = 0, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(x)
        out = self.used(x) + self.frozen(x) + torch.rand(())
        return self.norm(out + self.rare(x) if self.calls == 1 else out)


@pytest.fixture(autouse=True)
def leaves_the_group() -> Iterator[None]:
    yield
    all_reduce._leave()


def worker_of(model: nn.Module, rendezvous: str, **options: object) -> Worker:
    """A worker whose model is replaced before its strategy begins."""
    made = make_worker("ada", make_strategy("isolated"), ("ada",))
    made.learner.model = model
    made.learner.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    made.gossip.strategy = make_strategy("all_reduce", rendezvous=rendezvous, **options)
    return made


def test_unused_parameters_are_found_and_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    model = Layers()
    learner = worker_of(model, "").learner
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    assert unused_parameters(learner) == ("spare.weight", "spare.bias", "rare.weight", "rare.bias")
    assert torch.equal(generator, torch.get_rng_state())
    assert (model.calls, model.seen, model.training) == (0, [], True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_fails_has_none_the_first_step_will_say_why() -> None:
    assert unused_parameters(worker_of(nn.Linear(7, 3), "").learner) == ()
    assert unused_parameters(worker_of(nn.Linear(2, 3).requires_grad_(False), "").learner) == ()


@pytest.mark.parametrize(
    ("kind", "how", "looks"), [(Layers, "auto", True), (nn.Linear, "auto", False), (nn.Linear, "always", True)]
)
def test_each_step_looks_for_them_where_there_are_some(
    tmp_path: Path, kind: type[nn.Module], how: str, looks: bool
) -> None:
    torch.manual_seed(0)
    model = Layers() if kind is Layers else nn.Linear(2, 3)
    worker = worker_of(model, f"file://{tmp_path}/meeting", find_unused=how)
    worker.gossip.state = worker.gossip.strategy.init(worker.learner)
    assert getattr(worker.learner.forward_module, "find_unused_parameters") is looks  # noqa: B009 - no such name for mypy
    told = [event.reason for event in worker.learner.ledger.take_news(0.0)]
    spare = "get no gradient, and stay as they are: spare.weight, spare.bias, rare.weight, rare.bias"
    assert told == ([spare] if kind is Layers else [])
    before = {name: value.clone() for name, value in model.named_parameters()}
    for step in range(4):
        worker.step(0.1 * step)
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in moved} >= ({"used", "norm"} if kind is Layers else {"weight", "bias"})
    assert not any(name.startswith(("spare", "frozen")) for name in moved)


@pytest.mark.parametrize("where", ["nowhere", "http://host:1", "", "tcp://host"])
def test_a_meeting_place_that_is_none_is_refused(where: str) -> None:
    worker = worker_of(nn.Linear(2, 3), where)
    with pytest.raises(ConfigError, match=r"strategy.rendezvous( = '[^']*')?: is no place to meet.*; accepted: tcp://"):
        worker.gossip.strategy.init(worker.learner)
    assert not distributed.is_initialized()

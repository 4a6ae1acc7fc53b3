"""A model that a strategy cannot handle ends the run before its first step, with exit code 6 and the array's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gossipdistill.assembly.building import build_learner, build_task
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.errors import NeedsError
from gossipdistill.launchers.preflight import check
from gossipdistill.simulation.run import Simulation, plan_simulation

TASK = """
import torch
from torch import nn
from gossipdistill import Task

class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.sparse = kind == "sparse gradient"
        self.e = nn.EmbeddingBag(8, 4, sparse=self.sparse)
        self.o = nn.LazyLinear(2) if kind == "lazy" else nn.Linear(4, 2)
        if kind == "meta":
            self.register_buffer("odd", torch.empty(2, device="meta"))
        if kind == "sparse":
            self.register_buffer("odd", torch.eye(2).to_sparse())
        if kind == "spare":
            self.odd = nn.LazyLinear(2)
        self.kind = kind

    def get_extra_state(self):
        return self.kind

    def set_extra_state(self, state):
        pass

    def forward(self, x):
        return self.o(self.e(x))

def task(shard, kind: str = "plain") -> Task:
    x = torch.arange(256).remainder(8).view(64, 4)
    y = x[:, 0].remainder(2)
    loss = nn.functional.cross_entropy
    return Task(model=lambda: Odd(kind), train=(x, y), validation=(x, y), loss=loss, transfer=x)
"""
SHARING = ["gossip_averaging", "codistill_checkpoints", "sgp", "dpsgd", "adpsgd"]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    (tmp_path / "odd_model.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return Asked(task="odd_model:task", peers="2", steps=4, strategy="gossip_averaging", out=tmp_path / "runs")


def of_kind(asked: Asked, kind: str, *settings: str, strategy: str = "gossip_averaging") -> Asked:
    return replace(asked, strategy=strategy, settings=(f"task.kind='{kind}'", *settings))


@pytest.mark.parametrize("strategy", [*SHARING, "codistill_predictions", "isolated", "all_reduce"])
@pytest.mark.parametrize("kind", ["meta", "spare"])
def test_what_nobody_can_train_is_refused_under_every_strategy(odd: Asked, kind: str, strategy: str) -> None:
    with pytest.raises(NeedsError, match=r"the model's odd[. ]"):
        check(plan_local(of_kind(odd, kind, strategy=strategy)))


@pytest.mark.parametrize("strategy", [*SHARING, "all_reduce"])
def test_weights_that_cannot_travel_are_refused_and_predictions_of_such_a_model_are_not(
    odd: Asked, strategy: str
) -> None:
    with pytest.raises(NeedsError, match=rf"strategy {strategy} .* odd: its layout is sparse_coo"):
        check(plan_local(of_kind(odd, "sparse", strategy=strategy)))
    check(plan_local(of_kind(odd, "sparse", strategy="codistill_predictions")))


def test_a_simulation_refuses_it_too(odd: Asked) -> None:
    with pytest.raises(NeedsError, match="odd: its layout is sparse_coo"):
        Simulation(plan_simulation(replace(of_kind(odd, "sparse"), steps=None, seconds=1.0)))


def test_an_optimizer_that_takes_no_sparse_gradient_is_refused_before_any_process_starts(odd: Asked) -> None:
    with pytest.raises(NeedsError, match=r"gradient of e\.weight is sparse, and the optimizer Adam"):
        check(plan_local(of_kind(odd, "sparse gradient", "train.optimizer=adam")))
    check(plan_local(of_kind(odd, "sparse gradient", "train.optimizer=sgd")))
    check(plan_local(of_kind(odd, "plain", "train.optimizer=adam")))


def test_lazy_modules_have_their_shapes_before_anything_is_made_of_them(odd: Asked) -> None:
    models = []
    for spec in plan_local(of_kind(odd, "lazy")):
        strategy = spec.config.make_strategy()
        learner, _ = build_learner(spec, strategy, build_task(spec, strategy))
        assert len(learner.optimizer.param_groups[0]["params"]) == 3
        assert learner.model.o.weight.shape == (2, 4)  # type: ignore[union-attr]
        models.append([*learner.model.parameters()])
    assert all((one == other).all() for one, other in zip(*models, strict=True))


def test_extra_state_is_told_where_weights_travel(odd: Asked) -> None:
    for name, told in (("gossip_averaging", True), ("codistill_predictions", False)):
        spec = plan_local(of_kind(odd, "plain", strategy=name))[0]
        strategy = spec.config.make_strategy()
        learner, _ = build_learner(spec, strategy, build_task(spec, strategy))
        assert any("_extra_state: extra state" in warning for warning in learner.ledger.warnings) == told

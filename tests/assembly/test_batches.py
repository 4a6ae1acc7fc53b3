"""A batch that is larger than the shard or than memory is said, or refused at once; never passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gossipdistill.assembly import batches
from gossipdistill.assembly.batches import kept_bytes_per_row, rows_of_step
from gossipdistill.assembly.building import build_learner, build_task
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError
from gossipdistill.launchers.preflight import check
from gossipdistill.tasks import Task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("SET", "PEERS"):
        monkeypatch.delenv(f"GOSSIPDISTILL_{key}", raising=False)


def spec_of(*settings: str) -> WorkerSpec:
    """A peer of two with 100 digits of its own."""
    return plan_local(Asked(peers="2", strategy="isolated", settings=settings, out=Path("nowhere")))[0]


def task_of(rows: int, width: int = 8) -> Task:
    x = torch.rand(rows, width)
    return Task(
        model=lambda: nn.Linear(width, 1), train=(x, x[:, :1]), validation=(x, x[:, :1]), loss=nn.functional.mse_loss
    )


def test_newcomer_9_a_batch_larger_than_the_shard_is_the_whole_shard_and_is_said() -> None:
    spec = spec_of("train.batch_size=500")
    learner, draws = build_learner(spec, spec.config.make_strategy(), build_task(spec, spec.config.make_strategy()))
    wanted = "train.batch_size = 500 is more than the 100 examples of this peer: each step takes all 100"
    assert learner.ledger.warnings == [wanted]
    assert [event.reason for event in learner.ledger.take_news(0.0)] == [wanted]
    for step in range(3):
        assert sorted(draws.at(step).tolist()) == list(range(100))  # each once, none repeated


@pytest.mark.parametrize(("batch", "accumulate", "rows"), [(100, 1, 100), (25, 4, 100), (32, 3, 96)])
def test_a_batch_that_fits_is_as_asked_without_a_word(batch: int, accumulate: int, rows: int) -> None:
    spec = spec_of(f"train.batch_size={batch}", f"train.accumulate={accumulate}")
    found = rows_of_step(spec, task_of(100), nn.Linear(8, 1), CPU)
    assert (found.count, found.notice) == (rows, "")


def test_newcomer_9_with_accumulate_the_batches_of_a_step_share_the_examples() -> None:
    spec = spec_of("train.batch_size=32", "train.accumulate=4")
    found = rows_of_step(spec, task_of(102), nn.Linear(8, 1), CPU)
    assert found.count == 100
    assert found.notice.endswith("more than the 102 examples of this peer: each step takes 4 batches of 25")
    spec = spec_of("train.accumulate=101")
    with pytest.raises(ConfigError, match=r"train.accumulate = 101: .* ada has 100; accepted: 1 to 100"):
        rows_of_step(spec, task_of(100), nn.Linear(8, 1), CPU)


def test_newcomer_9_an_absurd_batch_is_refused_before_anything_is_made() -> None:
    specs = plan_local(Asked(peers="2", strategy="isolated", settings=("train.batch_size=1000000000",)))
    with pytest.raises(ConfigError) as caught:
        check(specs)
    words = str(caught.value)
    assert words.startswith("train.batch_size = 1000000000: a batch of 1000000000 examples needs at least 264.0 GB")
    assert words.endswith("accepted: 1 to 100 for ada")


def test_newcomer_9_a_batch_that_the_model_cannot_keep_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(8192)
    model = nn.Sequential(nn.Linear(8, 1000), nn.ReLU(), nn.Dropout(), nn.Linear(1000, 1))
    kept = kept_bytes_per_row(model, task, 8192)
    assert 4 * (8 + 1000) <= kept <= 4 * (8 + 2 * 1000)
    monkeypatch.setattr(batches, "memory_of", lambda device: 10_000_000)
    spec = spec_of("train.batch_size=8192")
    with pytest.raises(ConfigError) as caught:
        rows_of_step(spec, task, model, CPU)
    words = str(caught.value)
    assert "a batch of 8192 examples needs at least" in words
    assert "what the model keeps, and this machine has 10.0 MB" in words
    fits = int(words.rpartition("accepted: 1 to ")[2].split()[0])
    assert 1000 < fits < 2500
    spec = spec_of(f"train.batch_size={fits}")
    assert rows_of_step(spec, task, model, CPU).count == fits


def test_newcomer_9_batches_that_fit_one_by_one_and_not_together_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = task_of(8192), nn.Sequential(nn.Linear(8, 1000), nn.ReLU(), nn.Linear(1000, 1))
    needed = 8192 * (36 + kept_bytes_per_row(model, task, 8192))
    spec = spec_of("train.batch_size=8192")  # of two peers
    for memory, warned in ((2 * needed, False), (2 * needed - 1, True)):
        monkeypatch.setattr(batches, "memory_of", lambda device, memory=memory: memory)
        notice = rows_of_step(spec, task, model, CPU).notice
        assert notice.startswith("2 peers with batches of at least") == warned
        assert ("train.accumulate" in notice) == warned


def test_measuring_leaves_no_trace() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.norm, self.calls = nn.Linear(8, 1), nn.BatchNorm1d(8), 0
            self.norm.eval()  # frozen
            self.last: torch.Tensor | None = None

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            self.last = self.inner(self.norm(x) + torch.rand(1))
            return self.last

    model, task = Counting(), task_of(8192)
    before = torch.get_rng_state()
    assert kept_bytes_per_row(model, task, 8192) > 0
    assert (model.calls, model.last, model.training, model.norm.training) == (0, None, True, False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_cannot_be_measured_is_let_pass() -> None:
    assert kept_bytes_per_row(nn.Linear(3, 1), task_of(8192), 8192) == 0  # it refuses rows of this width
    assert kept_bytes_per_row(nn.Linear(8, 1), task_of(8192), 512) == 0  # not worth it

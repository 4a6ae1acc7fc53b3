"""The logistic regression: its optimum, its shards, and that a thousand of them share what they can."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gossipdistill.errors import ConfigError
from gossipdistill.tasks import Shard, Task, load_task


def descended(task: Task, steps: int = 400) -> torch.nn.Module:
    """Full-batch L-BFGS on the task's own examples."""
    model = task.model()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=steps, tolerance_grad=1e-9, tolerance_change=1e-12)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task.loss(model(task.train[0]), task.train[1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)
    return model


def excess(task: Task, model: torch.nn.Module) -> float:
    with torch.no_grad():
        return task.metrics["excess_loss"](model(task.validation[0]), task.validation[1])


def test_all_labels_together_reach_the_least_loss_and_a_peer_alone_does_not() -> None:
    shard = Shard(1, 8)
    pooled = load_task("logistic", replace(shard, pooled=True), {})
    assert excess(pooled, descended(pooled)) == pytest.approx(0.0, abs=1e-5)
    alone = load_task("logistic", shard, {})
    assert excess(alone, descended(alone, steps=20)) > 0.1


def test_it_starts_at_log_two_which_is_above_the_least_loss() -> None:
    task = load_task("logistic", Shard(0, 16), {})
    model = task.model()
    with torch.no_grad():
        out = model(task.validation[0])
    assert float(task.loss(out, task.validation[1])) == pytest.approx(0.6931, abs=1e-4)
    assert 0.1 < excess(task, model) < 0.6931
    task.check_model(model)


def test_shards_are_unlike_disjoint_and_the_same_for_every_number_of_peers() -> None:
    four = [load_task("logistic", Shard(index, 4), {}).train for index in range(4)]
    six = load_task("logistic", Shard(2, 6), {}).train
    assert torch.equal(four[2][0], six[0])
    means = torch.stack([x.mean(dim=0) for x, _ in four])
    assert float(torch.pdist(means).min()) > 1.0
    alike = [load_task("logistic", Shard(index, 4, examples_per_peer=500), {"unlike": 0.0}).train for index in range(4)]
    means = torch.stack([x.mean(dim=0) for x, _ in alike])
    assert float(torch.pdist(means).max()) < 0.5
    same = [load_task("logistic", Shard(index, 4, how="same"), {}).train[0] for index in range(4)]
    assert all(torch.equal(same[0], x) for x in same)


@pytest.mark.parametrize("name", ["logistic", "quadratic"])
def test_a_thousand_peers_share_what_is_common(name: str) -> None:
    tasks = [load_task(name, Shard(index, 1000), {}) for index in (0, 500, 999)]
    assert len({task.validation[1].data_ptr() for task in tasks}) == 1
    own_bytes = sum(part.nelement() * part.element_size() for part in tasks[1].train)
    assert own_bytes <= 100 * 11 * 4
    assert sum(parameter.numel() for parameter in tasks[0].model().parameters()) <= 11


def test_other_seeds_other_data() -> None:
    one, other = (load_task("logistic", Shard(0, 4, seed=seed), {}).train[0] for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("options", [{"dim": 0}, {"unlike": -0.5}])
def test_it_refuses_with_the_key(options: dict[str, object]) -> None:
    (key,) = options
    with pytest.raises(ConfigError, match=rf"task\.{key}"):
        load_task("logistic", Shard(0, 4), options)

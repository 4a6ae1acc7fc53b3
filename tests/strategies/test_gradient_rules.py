"""Accumulation, clipping and autocast: how the worker makes a gradient, whatever the strategy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.gradients import GradientRules, make_gradient
from gossipdistill.learning.learner import Learner
from gossipdistill.messages import Parcel
from gossipdistill.strategies import STRATEGIES, Delivery, LossTerm, View
from gossipdistill.training.worker import Worker

from .world import NAMES, World, make_strategy, make_worker

FREE = [name for name, kind in STRATEGIES.items() if kind.delivery is not Delivery.COLLECTIVE]


def after(name: str, rules: GradientRules, steps: int = 12) -> tuple[dict[str, Tensor], Worker]:
    """ada's weights after some steps beside two neighbours, all under the same rules."""
    workers = {peer: make_worker(peer, make_strategy(name)) for peer in NAMES}
    for worker in workers.values():
        worker.gradient = rules
    world = World(workers)
    for step in range(steps):
        world.step(step * 0.1)
    ada = workers["ada"]
    return {key: value.clone() for key, value in ada.learner.model.state_dict().items()}, ada


@pytest.mark.parametrize("name", FREE)
def test_accumulated_batches_are_one_large_batch(name: str) -> None:
    whole, _ = after(name, GradientRules())
    parts, _ = after(name, GradientRules(accumulate=4))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", FREE)
def test_autocast_trains_near_single_precision_and_leaves_types_alone(name: str) -> None:
    exact, _ = after(name, GradientRules())
    near, ada = after(name, GradientRules(autocast=torch.bfloat16))
    assert all(value.dtype is torch.float32 for value in near.values())
    assert torch.is_tensor(ada.learner.outputs)
    assert ada.learner.outputs.dtype is torch.bfloat16
    for key, value in exact.items():
        torch.testing.assert_close(near[key], value, atol=0.1, rtol=0)
    assert any(not torch.equal(near[key], value) for key, value in exact.items())


def test_a_gradient_is_no_longer_than_its_bound() -> None:
    ada = make_worker("ada", make_strategy("isolated"))
    ada.learner.optimizer = torch.optim.SGD(ada.learner.model.parameters(), lr=1.0)
    ada.gradient = GradientRules(clip_norm=0.01)
    before = torch.cat([p.detach().flatten().clone() for p in ada.learner.model.parameters()])
    ada.step(0.0)
    moved = torch.cat([p.detach().flatten() for p in ada.learner.model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_loss_reported_is_the_mean_over_the_batches() -> None:
    one, four = (make_worker("ada", make_strategy("isolated")) for _ in range(2))
    four.gradient = GradientRules(accumulate=4)
    one.step(0.0)
    four.step(0.0)
    assert four.task_loss == pytest.approx(one.task_loss, abs=1e-6)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_between_two_steps_no_gradient_is_kept(
    optimizer: type[torch.optim.Optimizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be one more model in memory, beside what is packed and what is mixed in."""
    ada, seen = make_worker("ada", make_strategy("gossip_averaging")), list[bool]()
    ada.learner.optimizer = optimizer(ada.learner.model.parameters(), lr=0.1)  # type: ignore[call-arg]

    def publish(state: object, learner: Learner, view: View) -> list[Parcel]:
        seen.extend(parameter.grad is None for parameter in learner.model.parameters())
        return []

    monkeypatch.setattr(ada.gossip.strategy, "publish", publish)
    before = flat_parameters(ada.learner.model)
    ada.step(0.0)
    assert not torch.equal(before, flat_parameters(ada.learner.model))
    assert len(seen) == 4
    assert all(seen)


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_the_share_of_the_task_counts_in_every_batch_and_not_in_the_loss_reported(
    accumulate: int, apart: bool, optimizer: type[torch.optim.Optimizer]
) -> None:
    ada = make_worker("ada", make_strategy("isolated"))
    learner, rows = ada.learner, torch.arange(8)
    learner.optimizer = optimizer(learner.model.parameters(), lr=0.1)  # type: ignore[call-arg]
    x, y = (part[rows] for part in ada.task.train)

    def penalty() -> Tensor:
        return torch.stack([p.square().sum() for p in learner.model.parameters()]).sum()

    def term() -> LossTerm:
        return LossTerm(0.3 * penalty(), apart=apart, task_share=0.25)

    evaluation = make_gradient(learner, GradientRules(accumulate=accumulate), rows, term)
    gradients = [p.grad.clone() for p in learner.model.parameters() if p.grad is not None]
    task_loss = ada.task.loss(learner.model(x), y)
    wanted = 0.25 * task_loss + 0.3 * penalty()
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, [*learner.model.parameters()]), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert evaluation.task_loss == pytest.approx(task_loss.item())
    if optimizer is torch.optim.LBFGS:
        assert evaluation.whole is not None
        assert evaluation.whole.item() == pytest.approx(wanted.item())


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
@pytest.mark.parametrize("name", [name for name in FREE if STRATEGIES[name].delivery is Delivery.STATE])
def test_states_go_with_any_optimizer_and_schedule(name: str, kind: type[torch.optim.Optimizer]) -> None:
    workers = {peer: make_worker(peer, make_strategy(name, every_steps=2)) for peer in NAMES}
    for worker in workers.values():
        learner = worker.learner
        learner.optimizer = kind(learner.model.parameters(), lr=0.01)  # type: ignore[call-arg]
        worker.gradient = GradientRules(accumulate=2, clip_norm=1.0, autocast=torch.bfloat16)
    world = World(workers)
    schedulers = [torch.optim.lr_scheduler.StepLR(w.learner.optimizer, 20, 0.5) for w in workers.values()]
    losses = []
    for step in range(60):
        world.step(step * 0.1)
        for scheduler in schedulers:
            scheduler.step()
        losses.append(sum(worker.task_loss for worker in workers.values()) / 3)
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert all(worker.learner.ledger.exchanges > 0 for worker in workers.values())


def test_the_rate_drops_tenfold_at_its_shares_of_the_run_and_decay_follows() -> None:
    ada = make_worker("ada", make_strategy("codistill_predictions", weight_decay_schedule=[1.0, 0.1, 0.0]))
    ada.rate_drops = (0.4, 0.84)
    (group,) = ada.learner.optimizer.param_groups
    group["weight_decay"] = 1e-4
    seen = []
    for progress in (0.0, 0.39, 0.4, 0.83, 0.84, 1.0):
        ada.step(0.0, progress)
        seen += [group["lr"], group["weight_decay"]]
    assert seen == pytest.approx([0.1, 1e-4, 0.1, 1e-4, 0.01, 1e-5, 0.01, 1e-5, 0.001, 0.0, 0.001, 0.0])


@pytest.mark.parametrize("reduced", [False, True])
def test_where_gradients_are_reduced_over_peers_no_bound_depends_on_ones_own_batch(reduced: bool) -> None:
    ada = make_worker("ada", make_strategy("isolated"))
    ada.gradient = GradientRules(clip_norm="auto")
    if reduced:
        ada.learner.forward_module = ada.learner.model
    ada.step(0.0)
    assert ada.learner.norms.scale == (None if reduced else pytest.approx(1.0))
    assert len(ada.learner.norms.last) == 1

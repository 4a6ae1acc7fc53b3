"""Adversarial examples from stale weights: made here, or by a helper."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.errors import NeedsError
from gossipdistill.learning.adversarial import Norm, ascent_directions, bounded
from gossipdistill.learning.gradients import GradientRules
from gossipdistill.learning.snapshot import pack
from gossipdistill.messages import Neighbourhood, Parcel
from gossipdistill.strategies import Delivery
from gossipdistill.strategies.concurrent_adversarial import State
from gossipdistill.training.worker import Worker

from .world import NAMES, World, learn_from, make_quadratic, make_strategy, make_worker

NAME = "concurrent_adversarial"


def alone(**options: object) -> Worker:
    return make_worker("ada", make_strategy(NAME, helpers=(), **options))


def weights(worker: Worker) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in worker.learner.model.parameters()]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_it_equals_the_textbook_loop(staleness: int, norm: str) -> None:
    """Liu et al. 2021 (2106.00221), algorithm 1 for one worker: sign or normalised gradient at theta of t - tau."""
    epsilon, weight, steps = 0.3, 0.7, 12
    worker = alone(staleness_steps=staleness, norm=norm, epsilon=epsilon, weight=weight)
    model, x, y = make_worker("ada", make_strategy(NAME)).learner.model, *worker.task.train
    model.load_state_dict(worker.learner.model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss, made = nn.functional.cross_entropy, {}
    for step in range(steps):
        worker.step(float(step))
        for ahead in range(step, step + staleness + 1):
            if ahead not in made:
                rows = worker.draws.at(ahead)
                inputs = x[rows].clone().requires_grad_()
                (g,) = torch.autograd.grad(loss(model(inputs), y[rows]), inputs)
                made[ahead] = g.sign() if norm == "linf" else g / g.norm(dim=1, keepdim=True)
        rows = worker.draws.at(step)
        optimizer.zero_grad()
        worse = loss(model(x[rows] + epsilon * made[step]), y[rows])
        ((loss(model(x[rows]), y[rows]) + weight * worse) / (1 + weight)).backward()
        optimizer.step()
    for ours, theirs in zip(weights(worker), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-6)


def test_made_here_nothing_is_exchanged_and_nobody_is_missed() -> None:
    workers = {name: make_worker(name, make_strategy(NAME, helpers=())) for name in ("ada", "bo")}
    world = World(workers)
    for step in range(20):
        world.step(float(step))
        assert workers["ada"].gossip.alarms.check_exchange(float(step)) is None
    assert world.posted == []
    assert workers["ada"].gossip.strategy.delivery is Delivery.NONE
    assert not workers["ada"].gossip.strategy.needs.alike_models


def helped(every_steps: int = 4, lie: Callable[[Parcel], Parcel] | None = None, **options: object) -> World:
    """Ada trains, bo helps: only ada asks."""
    names = ("ada", "bo")
    strategies = {name: make_strategy(NAME, every_steps, helpers=("bo",), **options) for name in names}
    workers = {name: make_worker(name, strategies[name], names) for name in names}
    world = World(workers)
    if lie is not None:
        honest_carry = world.carry

        def carry(name: str, now: float) -> None:
            if name == "bo":
                for _, parcel in workers["bo"].gossip.endpoint.mailbox.collect().parcels:
                    workers["bo"].gossip.endpoint.mailbox.post(lie(parcel))
            honest_carry(name, now)

        world.carry = carry  # type: ignore[method-assign]
    return world


def test_a_helper_ships_what_i_would_have_made_and_no_batch_overwrites_another() -> None:
    world = helped(every_steps=4, staleness_steps=2)
    ada = world.workers["ada"]
    for step in range(4):
        world.step(float(step))
    expected = {
        step: ascent_directions(
            ada.learner.model, ada.task.loss, *(part[ada.draws.at(step)] for part in ada.task.train), norm=Norm.LINF
        )
        for step in range(6, 10)
    }
    for step in range(4, 6):
        world.step(float(step))
    answers = [parcel for name, parcel in world.posted if name == "bo"]
    assert len({parcel.key for parcel in answers}) == len(answers) == 4
    world.workers["ada"].step(6.0)
    state = ada.gossip.state
    assert isinstance(state, State)
    assert sorted(state.made) == [6, 7, 8, 9]
    for step, d in expected.items():
        torch.testing.assert_close(state.made[step]["bo"].d, d, atol=1e-6, rtol=0)
    for step in range(7, 30):
        world.step(float(step))
    # It asks after 4, 8, ..., 24 steps, is answered one step later, and has used each answer of these.
    assert ada.learner.ledger.links["bo"].exchanges == 6
    assert world.workers["bo"].learner.ledger.links["ada"].exchanges == 7, "the helper counts whom it has answered"
    keys = {parcel.key for name, parcel in world.posted if name == "bo"}
    assert len(keys) <= 2 * (4 + 2), "slots are reused, so that their number is bounded"


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_lying_helper_moves_no_example_by_more_than_epsilon(norm: str) -> None:
    def lie(parcel: Parcel) -> Parcel:
        shapes = {array.name: array.shape for array in parcel.payload.layout}
        (step, exchange) = (parcel.step + 1, parcel.exchange)
        answers = torch.tensor([step, exchange])
        return parcel.with_content(payload=pack({"d": torch.full(shapes["d"], 1e6), "answers": answers}, "raw"))

    world = helped(every_steps=1, lie=lie, norm=norm)
    ada, seen = world.workers["ada"], []
    for step in range(20):
        world.step(float(step))
        seen += [made.d for by in ada.gossip.state.made.values() for made in by.values()]
    assert seen
    for d in seen:
        assert torch.allclose(bounded(d, Norm(norm)), d)
        assert float(d.abs().max() if norm == "linf" else d.norm(dim=1).max()) == pytest.approx(1.0)


def test_a_helper_with_other_examples_says_so() -> None:
    names = ("ada", "bo")
    ada = make_worker("ada", make_strategy(NAME, 1, helpers=("bo",)), names)
    bo = make_worker("bo", make_strategy(NAME, 1, helpers=("bo",)), names)
    learn_from(bo, *(part.flip(0) for part in bo.task.train))
    world = World({"ada": ada, "bo": bo})
    for step in range(3):
        world.step(float(step))
    assert set(bo.learner.ledger.quarantined) == {"ada: other_examples"}
    assert not any(name == "bo" for name, _ in world.posted)


def test_an_answer_that_comes_too_late_is_not_used() -> None:
    world = helped(every_steps=4, staleness_steps=1)
    ada = world.workers["ada"]
    for step in range(4):
        world.step(float(step))
    request = next(parcel for name, parcel in world.posted if name == "ada")
    assert request.to == ("bo",)
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    for step in range(4, 12):
        ada.step(float(step))
    for step in range(12, 14):
        world.step(float(step))
    assert ada.learner.ledger.exchanges == 0
    assert not ada.learner.ledger.quarantined


def test_accumulated_batches_get_the_part_that_is_theirs() -> None:
    """Two batches of 4 make the step of one of 8: the mean of their gradients is its gradient."""
    whole, parts = alone(), alone()
    parts.gradient = GradientRules(accumulate=2)
    for step in range(10):
        whole.step(float(step))
        parts.step(float(step))
    for one, other in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_batch_norm_keeps_other_statistics_for_adversarial_examples() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    clean = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    clean.load_state_dict(model.state_dict())
    worker = alone(epsilon=2.0)
    worker.learner.model = model
    worker.learner.optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for step in range(5):
        worker.step(float(step))
        clean(worker.task.train[0][worker.draws.at(step)])
    norm, kept = model[1], worker.gossip.state.statistics["1"]
    assert isinstance(norm, nn.BatchNorm1d)
    assert torch.equal(norm.running_mean, clean[1].running_mean)
    assert not torch.allclose(kept["running_mean"], clean[1].running_mean)
    # The copy was made after the first batch, and has seen five more.
    assert (int(norm.num_batches_tracked), int(kept["num_batches_tracked"])) == (5, 6)


def test_whole_numbers_cannot_be_perturbed() -> None:
    worker = alone()
    worker.learner.examples = (torch.ones(4, 2, dtype=torch.long), torch.ones(4, dtype=torch.long))
    with pytest.raises(NeedsError, match="floating-point"):
        worker.gossip.strategy.init(worker.learner)


def test_inputs_that_the_loss_does_not_depend_on_cannot_be_perturbed() -> None:
    with pytest.raises(NeedsError, match="does not depend on them"):
        make_quadratic("ada", make_strategy("concurrent_adversarial", helpers=()), NAMES, "complete")


def test_the_loss_at_adversarial_examples_is_lower_than_that_of_plain_training() -> None:
    """Liu et al. 2021 (2106.00221): trained against one-step perturbations that are five steps stale."""
    plain, against = make_worker("ada", make_strategy("isolated")), alone(staleness_steps=5, epsilon=0.5)
    against.learner.model.load_state_dict(plain.learner.model.state_dict())
    found = []
    for worker in (plain, against):
        for step in range(200):
            worker.step(float(step))
        x, y = worker.task.train
        d = ascent_directions(worker.learner.model, worker.task.loss, x, y, Norm.LINF)
        with torch.no_grad():
            out = worker.learner.model(x + 0.5 * d)
        found.append(float(nn.functional.cross_entropy(out, y)))
    assert found[1] < found[0]

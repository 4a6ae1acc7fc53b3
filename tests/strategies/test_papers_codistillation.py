"""Claims of the codistillation papers that a small machine can show. Each test names its paper and section."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softmax

from gossipdistill.ids import PeerName
from gossipdistill.learning.distillation import Average, Divergence, divergence, soft_targets
from gossipdistill.learning.teachers import Distillation
from gossipdistill.messages import Parcel
from gossipdistill.strategies import View
from gossipdistill.tasks import Task, accuracy
from gossipdistill.training.ending import publish_final

from .world import World, arrival, make_strategy, make_worker

PAIR = ("ada", "bo")


def _logits(seed: int, rows: int = 6, classes: int = 5) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("kind", list(Divergence))
def test_the_gradient_of_each_loss_is_its_closed_form(kind: Divergence, temperature: float) -> None:
    """Hinton, Vinyals and Dean 2015 (1503.02531), section 2.1 (forward, and the limit for MSE); the reverse divergence
    by differentiation. Sodhani et al. 2020 (2010.02838), section 3, names KL and MSE on logits as choices."""
    student, teacher = _logits(0).requires_grad_(), _logits(1)
    p, q = soft_targets(teacher, temperature), softmax(student.detach() / temperature, dim=1)
    divergence(student, p, temperature, kind).backward()
    if kind is Divergence.REVERSE_KL:
        gap = q.log() - p.log()
        expected = temperature * q * (gap - (q * gap).sum(dim=1, keepdim=True))
    elif kind is Divergence.MSE:
        z, v = student.detach(), teacher
        expected = ((z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))) / z.shape[1]
    else:
        expected = temperature * (q - p)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected / len(expected), atol=1e-6, rtol=1e-4)


def test_at_high_temperature_the_forward_divergence_becomes_mse_on_logits() -> None:
    """Hinton, Vinyals and Dean 2015 (1503.02531), section 2.1, equations 3 and 4."""
    gradients = []
    for kind, temperature in ((Divergence.FORWARD_KL, 200.0), (Divergence.MSE, 1.0)):
        student = _logits(0).requires_grad_()
        divergence(student, soft_targets(_logits(1), temperature), temperature, kind).backward()
        assert student.grad is not None
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=2e-3, rtol=0)


def test_several_teachers_are_one_that_says_the_mean_of_their_probabilities() -> None:
    """Anil et al. 2018 (1804.03235), algorithm 1: psi of the mean of the others' predictions; and for the forward
    divergence the gradient is the mean of the single gradients, q - mean p_j."""
    student = _logits(0).requires_grad_()
    predictions = torch.stack([soft_targets(_logits(seed), 1.0) for seed in (1, 2, 3)])
    weights = torch.tensor([0.5, 0.25, 1.0])[:, None].expand(3, 6)
    Distillation().term(student, ["bo", "cy", "dee"], predictions, weights).backward()
    mean = torch.einsum("j,jbc->bc", torch.tensor([0.5, 0.25, 1.0]) / 1.75, predictions)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, (softmax(student.detach(), 1) - mean) / 6)


def test_for_mse_the_mean_of_the_losses_is_the_loss_to_the_mean_of_the_logits() -> None:
    """Derived by algebra; so one summary of several teachers may travel in their stead."""
    one, other = _logits(1), _logits(2)
    together, apart = _logits(0).requires_grad_(), _logits(0).requires_grad_()
    predictions = torch.stack([soft_targets(one, 1.0), soft_targets(other, 1.0)])
    how = Distillation(kind=Divergence.MSE, average=Average.LOGITS)
    how.term(together, ["bo", "cy"], predictions, torch.ones(2, 6)).backward()
    for teacher in predictions:
        (divergence(apart, teacher, 1.0, Divergence.MSE) / 2).backward()
    torch.testing.assert_close(together.grad, apart.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["codistill_predictions", "codistill_checkpoints", "codistill_groups"])
def test_burn_in_and_ramp_are_exact_and_counted_at_the_receiver(name: str) -> None:
    """Anil et al. 2018 (1804.03235), section 2: the term is off for the first steps; here by the receiver's own count,
    so that a late joiner has its own burn-in, however far the others are."""
    options = {"burn_in_steps": 3, "ramp_steps": 4, "weight": 2.0}
    ada = make_worker("ada", make_strategy(name, **options), PAIR)
    bo = make_worker("bo", make_strategy(name, **options), PAIR)
    World({"ada": ada, "bo": bo})
    bo.learner.step = 5000
    publish_final(bo.gossip, 0.0)
    ((_, parcel),) = bo.gossip.endpoint.mailbox.collect().parcels
    learner = ada.learner
    learner.x, learner.y = (part[:8] for part in ada.task.train)
    view = View(0, 0.0, (), {"bo": 0.5})
    ada.gossip.strategy.mix(ada.gossip.state, learner, [arrival("bo", parcel, 1, 0.0)], view)
    values = []
    for step in range(10):
        learner.step = step
        if learner.transfer_draws is not None:  # the same rows at each step, so that only the factor differs
            learner.transfer_draws = replace(learner.transfer_draws, batch_size=100)
        learner.outputs = learner.forward(learner.x)
        term = ada.gossip.strategy.loss(ada.gossip.state, learner).value
        values.append(0.0 if term is None else term.item())
    full = values[-1]
    assert full > 0.0
    assert values == pytest.approx([full * share for share in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1)], rel=1e-5)


@pytest.mark.parametrize("name", ["codistill_predictions", "codistill_checkpoints"])
def test_teachers_that_begin_alike_have_nothing_to_say(name: str) -> None:
    """Sodhani et al. 2020 (2010.02838), section 3: models must begin apart; equal ones give no signal at all."""
    ada, bo = (make_worker(peer, make_strategy(name), PAIR) for peer in PAIR)
    World({"ada": ada, "bo": bo})
    bo.learner.model.load_state_dict(ada.learner.model.state_dict())
    publish_final(bo.gossip, 0.0)
    ((_, parcel),) = bo.gossip.endpoint.mailbox.collect().parcels
    learner = ada.learner
    learner.x, learner.y = (part[:8] for part in ada.task.train)
    learner.outputs = learner.forward(learner.x)
    ada.gossip.strategy.mix(ada.gossip.state, learner, [arrival("bo", parcel, 1, 0.0)], View())
    term = ada.gossip.strategy.loss(ada.gossip.state, learner).value
    assert term is not None
    assert abs(term.item()) < 1e-4  # half precision of the predictions


def test_weight_decay_falls_with_the_learning_rate() -> None:
    """Sodhani et al. 2020 (2010.02838, first version), section 4: 1e-4 until the first drop of the rate, 1e-5 until the
    second, then 0."""
    strategy = make_strategy("codistill_predictions", weight_decay_schedule=[1.0, 0.1, 0.0])
    ada = make_worker("ada", strategy)
    ada.learner.optimizer = torch.optim.SGD(ada.learner.model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(ada.learner.optimizer, milestones=[2, 4, 6], gamma=0.1)
    decays = []
    for step in range(8):
        ada.step(0.1 * step)
        decays.append(ada.learner.optimizer.param_groups[0]["weight_decay"])
        scheduler.step()
    assert decays == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 0.0, 0.0, 0.0, 0.0])


def test_coordinated_batches_are_the_same_rows_for_all_and_all_rows_in_turn() -> None:
    """Sodhani et al. 2020 (2010.02838): all draw the same batch at an exchange. Whatever seeds and places."""
    drawn = []
    for place, peer in enumerate(PAIR):
        worker = make_worker(peer, make_strategy("codistill_predictions", coordinated_rows=20), PAIR, seed=place)
        drawn.append([worker.gossip.strategy._rows(worker.gossip.state, number).tolist() for number in range(10)])  # type: ignore[attr-defined]
    assert drawn[0] == drawn[1]
    for round_of_all in (drawn[0][:5], drawn[0][5:]):
        assert sorted(row for rows in round_of_all for row in rows) == list(range(100))


def test_bytes_are_those_of_the_papers_formula() -> None:
    """Sodhani et al. 2020 (2010.02838): (n - 1) B b per exchange, b = 32 C bits for predictions and 32 P for weights.
    For an MLP 784-256-256-10, B = 64, n = 4: 7,680 bytes against 3.23 MB; predictions are cheaper where B C < P."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    sent = {}
    for name, options in (("codistill_predictions", {"coordinated_rows": 64}), ("codistill_checkpoints", {})):
        strategy = make_strategy(name, **options)
        strategy.exchange = replace(strategy.exchange, encoding="raw")
        learner = make_worker("ada", make_strategy("isolated")).learner
        learner.model, learner.classes, learner.transfer = model, 10, torch.zeros(640, 784)
        view = View(out_neighbours=tuple(PeerName(name) for name in ("bo", "cy", "dee")))
        parcels: list[Parcel] = strategy.publish(strategy.init(learner), learner, view)
        sent[name] = sum(len(parcel.to) * parcel.payload.nbytes for parcel in parcels)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert sent["codistill_predictions"] == 3 * 64 * 10 * 4 == 7680
    assert sent["codistill_checkpoints"] == 3 * parameters * 4 == 3_231_864
    assert parameters > 64 * 10


def _noisy(seed: int, rows: int = 1536) -> Task:
    """Inputs [rows, 32], ten labels of a random network, one tenth of them wrong: a task to overfit."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows + 512, 32, generator=generator)
    hidden = torch.tanh(x @ torch.randn(32, 24, generator=generator) / 32**0.5)
    y = (hidden @ torch.randn(24, 10, generator=generator)).argmax(dim=1)
    wrong = torch.rand(rows, generator=generator) < 0.1
    y[:rows][wrong] = torch.randint(10, (int(wrong.sum()),), generator=generator)
    return Task(
        model=lambda: nn.Sequential(nn.Linear(32, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 10)),
        train=(x[:rows], y[:rows]),
        transfer=x[:rows],
        validation=(x[rows:], y[rows:]),
        loss=cross_entropy,
        metrics={"accuracy": accuracy},
    )


def _signature(name: str, seed: int, every_steps: int, steps: int = 350) -> tuple[float, float]:
    """(training loss, distance from the start) of two peers with the same data, each the mean of both."""
    task = _noisy(seed)
    workers = {}
    for place, peer in enumerate(PAIR):
        worker = make_worker(peer, make_strategy(name, every_steps=every_steps), PAIR, seed)
        learner = worker.learner
        torch.manual_seed(1000 * seed + place)
        learner.model = task.model()
        learner.optimizer = torch.optim.SGD(learner.model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        draws = replace(worker.draws, rows=len(task.train[0]), batch_size=64, seed=10 * seed + place)
        workers[peer] = type(worker)(
            learner,
            task,
            worker.gossip.strategy,
            worker.gossip.alarms.schedule,
            worker.gossip.endpoint.mailbox,
            worker.gossip.endpoint.cadence,
            draws,
        )
    starts = [[p.detach().clone() for p in worker.learner.model.parameters()] for worker in workers.values()]
    world = World(dict(workers))
    for step in range(steps):
        world.step(step * 0.01)
    losses, distances = [], []
    for worker, start in zip(workers.values(), starts, strict=True):
        x, y = task.train
        losses.append(cross_entropy(worker.learner.predict(worker.learner.model, x), y).item())
        moved = [p.detach() - q for p, q in zip(worker.learner.model.parameters(), start, strict=True)]
        distances.append(torch.cat([part.flatten() for part in moved]).norm().item())
    return sum(losses) / 2, sum(distances) / 2


def test_codistillation_regularises() -> None:
    """Sodhani et al. 2020 (2010.02838), section 4: a higher training loss and weights nearer to their start than those
    of models trained alone on the same data for as many updates; and no less so by checkpoints 50 steps old (their
    section 4, and Anil et al. 2018, section 3: functions age slowly).

    The shorter distance was found with weight decay and labels that cannot all be memorised, as here; on a smaller task
    that was memorised fully, without decay, it was longer."""
    for seed in range(2):
        alone = _signature("isolated", seed, 1)
        for every_steps in (1, 50):
            taught = _signature("codistill_checkpoints", seed, every_steps)
            told = f"seed {seed}, an exchange every {every_steps} steps: (loss, distance) {taught}, alone {alone}"
            assert taught[0] > 1.25 * alone[0], told
            assert taught[1] < 0.95 * alone[1], told

"""Models with BatchNorm: what happens to running statistics, under each family of strategies.

Sodhani et al. 2020 (2010.02838) and its re-implementations: parameters that travel without their statistics, and
teachers in training mode, are the known pitfalls.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from gossipdistill.events import EventKind
from gossipdistill.learning import norms
from gossipdistill.learning.snapshot import model_arrays, pack
from gossipdistill.messages import DeliveryClass, Parcel
from gossipdistill.strategies import STRATEGIES, Delivery, View
from gossipdistill.training.ending import publish_final
from gossipdistill.training.worker import Worker

from .world import NAMES, World, arrival, make_strategy, make_worker

WEIGHTS_AS_STATES = ("gossip_averaging", "codistill_checkpoints", "codistill_groups", "leader_sgd")
CONSERVED = [name for name, kind in STRATEGIES.items() if kind.delivery.settled]
STRATEGIES_IN_PROCESS = [name for name, kind in STRATEGIES.items() if kind.delivery is not Delivery.COLLECTIVE]


def normed(name: str, peer: str, **options: object) -> Worker:
    """A worker whose model has BatchNorm, at the same start for all peers."""
    worker = make_worker(peer, make_strategy(name, **options))
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    worker.learner.model = model
    worker.learner.optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    worker.gossip.state = worker.gossip.strategy.init(worker.learner)
    return worker


def norm_of(worker: Worker) -> nn.BatchNorm1d:
    layer = worker.learner.model[1]  # type: ignore[index]
    assert isinstance(layer, nn.BatchNorm1d)
    return layer


def statistics(worker: Worker) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in worker.learner.model.named_buffers()}


def published(worker: Worker) -> Parcel:
    publish_final(worker.gossip, 0.0)
    return worker.gossip.endpoint.mailbox.collect().parcels[0][1]


@pytest.mark.parametrize("name", STRATEGIES_IN_PROCESS)
def test_training_goes_on_in_training_mode_and_statistics_stay_sound(name: str) -> None:
    world = World({peer: normed(name, peer) for peer in NAMES})
    for step in range(30):
        world.step(0.1 * step)
    for worker in world.workers.values():
        assert worker.learner.model.training
        assert all(bool(buffer.isfinite().all()) for buffer in statistics(worker).values())
        assert float(norm_of(worker).running_var.min()) > 0.0  # type: ignore[union-attr]
        assert bool(worker.evaluate()[0].isfinite().all())
        assert not worker.learner.ledger.quarantined


@pytest.mark.parametrize("name", CONSERVED)
def test_what_is_conserved_or_goes_in_rounds_holds_no_statistics(name: str) -> None:
    """They follow the weights by themselves, each peer's on its own examples, as in the authors' code of SGP."""
    world = World({peer: normed(name, peer) for peer in NAMES})
    for step in range(5):
        world.step(0.1 * step)
    buffers = set(statistics(world.workers["ada"]))
    assert world.posted
    for _, parcel in world.posted:
        assert not buffers & {array.name for array in parcel.payload.layout}
    means = [norm_of(worker).running_mean for worker in world.workers.values()]
    assert not torch.allclose(means[0], means[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WEIGHTS_AS_STATES)
def test_weights_travel_with_their_statistics(name: str) -> None:
    ada = normed(name, "ada")
    assert {array.name for array in published_layout(ada)} == set(model_arrays(ada.learner.model))


def published_layout(worker: Worker) -> tuple[object, ...]:
    World({"ada": worker, "bo": normed(worker.gossip.strategy.name, "bo")})
    return tuple(published(worker).payload.layout)


def test_averaging_mixes_statistics_with_the_weights_and_counts_its_own_batches() -> None:
    ada, bo = normed("gossip_averaging", "ada"), normed("gossip_averaging", "bo")
    World({"ada": ada, "bo": bo})
    for step in range(4):
        bo.step(0.1 * step)
    bo.gossip.endpoint.mailbox.collect()
    mine, theirs = statistics(ada), statistics(bo)
    view = View(0, 0.0, (), {"bo": 0.5})
    ada.gossip.strategy.mix(ada.gossip.state, ada.learner, [arrival("bo", published(bo), 1, 0.0)], view)
    now = statistics(ada)
    for name in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(now[name], (mine[name] + theirs[name]) / 2)
    assert int(theirs["1.num_batches_tracked"]) == 4
    assert int(now["1.num_batches_tracked"]) == 0


@pytest.mark.parametrize("name", ["codistill_predictions", "self_distillation"])
def test_predictions_are_said_in_evaluation_mode_and_learnt_in_training_mode(name: str) -> None:
    ada = normed(name, "ada")
    world = World({"ada": ada, "bo": normed("codistill_predictions", "bo")})
    for step in range(5):
        world.step(0.1 * step)
    before = statistics(ada)
    learner = ada.learner
    assert learner.transfer is not None
    expected = torch.softmax(learner.predict(learner.model, learner.transfer), dim=1)
    ada.gossip.strategy.publish(ada.gossip.state, learner, View(out_neighbours=()))
    if name == "codistill_predictions":
        payload = published(ada).payload
        said = torch.frombuffer(bytearray(payload.body), dtype=torch.float16).view(-1, 3).float()
        torch.testing.assert_close(said, expected, atol=1e-3, rtol=0.0)
    else:
        torch.testing.assert_close(ada.gossip.state.table, expected)
    assert all(torch.equal(value, before[key]) for key, value in statistics(ada).items()), "saying moves nothing,"
    learner.x, learner.y = (part[:8] for part in ada.task.train)
    term = ada.gossip.strategy.loss(ada.gossip.state, learner)
    assert term.value is not None
    moved = int(norm_of(ada).num_batches_tracked) - int(before["1.num_batches_tracked"])  # type: ignore[arg-type]
    assert moved == 1, "and the student's pass over common examples is one of training"


@pytest.mark.parametrize("name", WEIGHTS_AS_STATES)
def test_a_negative_variance_is_refused_whole(name: str) -> None:
    """Finite, and yet its root is NaN: mixed in, or asked as a teacher, it would spoil everything."""
    options = {"groups": 3} if name == "codistill_groups" else {}
    ada, bo = normed(name, "ada", **options), normed(name, "bo", **options)
    World({"ada": ada, "bo": bo})
    parcel = published(bo)
    arrays = model_arrays(bo.learner.model) | {"1.running_var": torch.full((8,), -1.0)}
    ada.step(0.0)
    before = {key: value.clone() for key, value in ada.learner.model.state_dict().items()}
    bad = parcel.with_content(payload=pack(arrays, "raw"))
    assert parcel.delivery is DeliveryClass.STATE
    ada.gossip.strategy.mix(ada.gossip.state, ada.learner, [arrival("bo", bad, 1, 0.0)], View(0, 0.0, (), {"bo": 0.5}))
    assert all(torch.equal(value, before[key]) for key, value in ada.learner.model.state_dict().items())
    assert ada.learner.ledger.quarantined == {"bo: variance": 1}


@pytest.mark.parametrize("name", ["codistill_checkpoints", "codistill_groups"])
def test_a_teacher_without_a_finite_answer_is_not_heard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose weights are of a usual size: of this model, the bounds on them are taken away."""
    monkeypatch.setattr(norms, "ABSURD_RATIO", math.inf)
    monkeypatch.setattr(norms, "ABSURD_ENTRY", math.inf)
    monkeypatch.setattr(norms, "ABSURD_BUFFER", math.inf)
    options = {"groups": 3} if name == "codistill_groups" else {}
    ada, bo = normed(name, "ada", **options), normed(name, "bo", **options)
    World({"ada": ada, "bo": bo})
    parcel = published(bo)
    arrays = {
        key: torch.full_like(value, 1.6e38 if value.is_floating_point() else 1)
        for key, value in model_arrays(bo.learner.model).items()
    }
    bad = parcel.with_content(payload=pack(arrays, "raw"))
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", bad, 1, 0.0))
    for step in range(3):
        ada.step(0.1 * step)
    assert all(bool(parameter.isfinite().all()) for parameter in ada.learner.model.parameters())
    (event,) = [one for one in ada.learner.ledger.take_news(0.0) if one.kind is not EventKind.UNUSUAL]
    assert (event.peer, event.detail) == ("bo", {"rule": "not_finite"})
    assert ada.learner.ledger.exchanges == 0


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
    model[1].eval()
    return model


@pytest.mark.parametrize("name", STRATEGIES_IN_PROCESS)
def test_a_frozen_batch_norm_stays_frozen_under_every_strategy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from . import world

    plain = world.make_task

    monkeypatch.setattr(world, "make_task", lambda place: replace(plain(place), model=frozen))
    run = World({peer: make_worker(peer, make_strategy(name, 2)) for peer in ("ada", "bo")})
    for step in range(8):
        run.step(0.1 * step)
    for worker in run.workers.values():
        model = worker.learner.model
        worker.evaluate()
        worker.task.check_model(model)
        assert [module.training for module in model.modules()] == [True, True, False, True, True]
        assert int(model[1].num_batches_tracked) == 0  # type: ignore[index, arg-type]
        assert not model[1].running_mean.any()  # type: ignore[index, union-attr, operator]

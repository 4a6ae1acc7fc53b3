"""What the codistillation family does beyond its papers: rules at work, groups, coordinated rows, BatchNorm."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from gossipdistill.errors import ConfigError
from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.disclosure import disclosed
from gossipdistill.learning.distillation import CONSTANT_ROWS_MIN, are_constant, soft_targets
from gossipdistill.learning.snapshot import unpack
from gossipdistill.messages import Parcel
from gossipdistill.strategies import View
from gossipdistill.training.ending import publish_final
from gossipdistill.training.worker import Worker

from .world import NAMES, World, arrival, make_strategy, make_worker

FOUR = ("ada", "bo", "cy", "dee")


def told(worker: Worker, exchange: int = 0) -> Parcel:
    """What a worker would publish now."""
    worker.gossip.endpoint.cadence.exchanges = exchange
    publish_final(worker.gossip, 0.0)
    return worker.gossip.endpoint.mailbox.collect().parcels[0][1]


def asked(worker: Worker, now: float = 0.0, rows: int = 8) -> float:
    """The distillation term of a batch, as the worker's next step would have it; 0 without."""
    learner = worker.learner
    learner.now_s = now
    learner.x, learner.y = (part[:rows] for part in worker.task.train)
    learner.outputs = learner.forward(learner.x)
    learner.task_loss = worker.task.loss(learner.outputs, learner.y).item()
    term = worker.gossip.strategy.loss(worker.gossip.state, learner).value
    return 0.0 if term is None else term.item()


def hear(worker: Worker, sender: str, parcel: Parcel, number: int = 1) -> None:
    view = View(0, 0.0, (), {sender: 0.5})
    worker.gossip.strategy.mix(worker.gossip.state, worker.learner, [arrival(sender, parcel, number, 0.0)], view)


def news(worker: Worker) -> list[tuple[str, str, object]]:
    """(kind, peer, rule) of the events since the last look."""
    return [(e.kind.value, e.peer, e.detail.get("rule", "")) for e in worker.learner.ledger.take_news(0.0)]


def spoilt(worker: Worker) -> None:
    """A late joiner: sure that everything is of the last class, of which ada has next to nothing."""
    with torch.no_grad():
        *_, bias = worker.learner.model.parameters()
        bias.copy_(torch.tensor([0.0, 0.0, 20.0]))


@pytest.mark.parametrize("name", ["codistill_checkpoints", "codistill_groups"])
def test_a_model_is_judged_on_my_own_batch_and_nobodys_word_is_taken(name: str) -> None:
    options = {"groups": 3} if name == "codistill_groups" else {}
    workers = {peer: make_worker(peer, make_strategy(name, quality_margin=5.0, **options)) for peer in NAMES}
    World(workers)
    spoilt(workers["bo"])
    ada = workers["ada"]
    hear(ada, "bo", told(workers["bo"]))
    assert asked(ada) == 0.0
    (event,) = [one for one in ada.learner.ledger.take_news(1.0) if one.kind is not EventKind.UNUSUAL]
    assert (event.kind, event.peer, event.detail) == (EventKind.LEFT_OUT, "bo", {"rule": "quality_margin"})
    assert "above mine" in event.reason
    assert ada.learner.ledger.warnings == []
    hear(ada, "cy", told(workers["cy"]))
    only_cy = make_worker("ada", make_strategy(name, **options))
    hear(only_cy, "cy", told(workers["cy"]))
    assert asked(ada) == pytest.approx(asked(only_cy), rel=1e-5)
    assert asked(ada) > 0.0


def test_of_predictions_the_announced_loss_decides() -> None:
    options = {"quality_margin": 0.0, "best_k": 1}
    workers = {peer: make_worker(peer, make_strategy("codistill_predictions", **options)) for peer in NAMES}
    World(workers)
    for worker, loss in zip(workers.values(), (1.0, 0.8, 0.6), strict=True):
        worker.gossip.state.my_loss.look(loss)
    ada = workers["ada"]
    for peer in ("bo", "cy"):
        parcel = told(workers[peer])
        assert parcel.payload.nbytes == 2 * 100 * 3 + 4
        hear(ada, peer, parcel)
    asked(ada)
    assert set(ada.learner.ledger.links) == {"cy"}, "only the leader is listened to"
    assert news(ada) == [("left_out", "bo", "best_k")]
    cy = workers["cy"]
    hear(cy, "bo", told(workers["bo"]))
    cy.learner.task_loss = 0.6
    assert cy.gossip.strategy.loss(cy.gossip.state, cy.learner).value is None, "who leads has no teacher"
    assert news(cy) == [("left_out", "bo", "quality_margin")]


TAUGHT = ("codistill_predictions", "codistill_checkpoints", "codistill_groups")


@pytest.mark.parametrize("name", TAUGHT)
def test_burn_in_and_the_horizon_are_told_once_with_the_reason(name: str) -> None:
    options = {"groups": 3} if name == "codistill_groups" else {}
    ada = make_worker("ada", make_strategy(name, burn_in_steps=30, **options))
    bo = make_worker("bo", make_strategy(name, burn_in_steps=30, **options))
    World({"ada": ada, "bo": bo})
    parcel = told(bo)
    hear(ada, "bo", parcel)
    for step in range(40):
        ada.learner.step = step
        assert (asked(ada) > 0.0) == (step >= 30)
    assert news(ada) == [("left_out", "bo", "burn_in_steps"), ("listened_to", "bo", "")]
    ada.learner.step = 60
    for _ in range(3):
        assert asked(ada, now=ada.gossip.strategy.exchange.horizon_s(ada.learner, "bo")) == 0.0
    (event,) = ada.learner.ledger.take_news(0.0)
    assert event.detail == {"rule": "stale"}
    assert event.reason == "its newest word came 30.0 s and 60 of my steps ago, beyond the horizon"
    ada.learner.step = 90
    hear(ada, "bo", parcel, number=2)
    assert asked(ada) > 0.0
    assert news(ada) == [("listened_to", "bo", "")]


def test_a_teacher_that_announces_nothing_passes_no_gate() -> None:
    ada = make_worker("ada", make_strategy("codistill_predictions", quality_margin=100.0))
    bo = make_worker("bo", make_strategy("codistill_predictions"))
    World({"ada": ada, "bo": bo})
    hear(ada, "bo", told(bo))
    assert asked(ada) == 0.0


def test_coordinated_rows_send_less_and_teach_as_much() -> None:
    accuracies = {}
    for options in ({}, {"coordinated_rows": 20}, {"coordinated_rows": 20, "cache_rows": 20}):
        world = World({p: make_worker(p, make_strategy("codistill_predictions", 5, **options), seed=3) for p in NAMES})
        for step in range(150):
            world.step(step * 0.02)
        sizes = {parcel.payload.nbytes for _, parcel in world.posted}
        assert sizes == {2 * (20 if options else 100) * 3}
        accuracies[str(options)] = sum(w.evaluate()[1]["accuracy"] for w in world.workers.values()) / 3
    alone = World({p: make_worker(p, make_strategy("isolated"), seed=3) for p in NAMES})
    for step in range(150):
        alone.step(step * 0.02)
    base = sum(worker.evaluate()[1]["accuracy"] for worker in alone.workers.values()) / 3
    assert min(accuracies.values()) > base + 0.02, f"{accuracies}, alone {base}"


def test_a_lost_exchange_leaves_older_predictions_and_no_gap() -> None:
    ada, bo = (make_worker(p, make_strategy("codistill_predictions", coordinated_rows=20)) for p in ("ada", "bo"))
    World({"ada": ada, "bo": bo})
    for number, exchange in enumerate((0, 1, 3), start=1):  # the parcel of exchange 2 is lost
        hear(ada, "bo", told(bo, exchange), number)
    assert ada.gossip.state.cache.held("bo") == 60
    hear(ada, "bo", told(bo, 10**18 + 1), 4)  # whatever number a neighbour claims
    assert ada.learner.ledger.quarantined == {}


def test_a_cache_must_hold_a_batch() -> None:
    with pytest.raises(ValidationError, match="cache_rows"):
        make_strategy("codistill_predictions", coordinated_rows=20, cache_rows=10)
    with pytest.raises(ValidationError, match="cache_rows"):
        make_strategy("codistill_predictions", cache_rows=10)


def normed(name: str, peer: str) -> Worker:
    """A worker whose model has BatchNorm and Dropout."""
    worker = make_worker(peer, make_strategy(name, groups=2) if name == "codistill_groups" else make_strategy(name))
    layers = (nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    worker.learner.model = nn.Sequential(*layers)
    worker.learner.optimizer = torch.optim.SGD(worker.learner.model.parameters(), lr=0.1)
    worker.gossip.state = worker.gossip.strategy.init(worker.learner)
    return worker


@pytest.mark.parametrize("name", ["codistill_checkpoints", "codistill_groups"])
def test_a_teacher_judges_with_its_own_running_statistics(name: str) -> None:
    """Papers ship parameters only, or run the copy in training mode: both are pitfalls."""
    ada, cy = normed(name, "ada"), normed(name, "cy")
    World({"ada": ada, "cy": cy})
    for step in range(5):
        cy.step(0.1 * step)
    cy.gossip.endpoint.mailbox.collect()
    hear(ada, "cy", told(cy))
    mine = {key: value.clone() for key, value in ada.learner.model.state_dict().items()}
    teachers = ada.gossip.state if name == "codistill_checkpoints" else ada.gossip.state.teachers
    (teacher,) = teachers.by_key.values()
    learner = ada.learner
    learner.x = ada.task.train[0][:8]
    expected = cy.learner.predict(cy.learner.model, learner.x)
    torch.testing.assert_close(teacher.model(learner.x), expected)
    assert all(torch.equal(value, mine[key]) for key, value in learner.model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_groups_average_inside_and_teach_across() -> None:
    groups = [["ada", "bo"], ["cy", "dee"]]
    workers = {p: make_worker(p, make_strategy("codistill_groups", groups=groups), FOUR) for p in FOUR}
    start = {p: torch.cat([q.detach().flatten() for q in w.learner.model.parameters()]) for p, w in workers.items()}
    assert torch.equal(start["ada"], start["bo"])
    assert torch.equal(start["cy"], start["dee"])
    assert not torch.equal(start["ada"], start["cy"])
    world = World(workers)
    for step in range(120):
        world.step(step * 0.02)
    end = {p: torch.cat([q.detach().flatten() for q in w.learner.model.parameters()]) for p, w in workers.items()}
    inside = max((end["ada"] - end["bo"]).norm().item(), (end["cy"] - end["dee"]).norm().item())
    assert inside < 0.5 * (end["ada"] - end["cy"]).norm().item()
    assert all(len(worker.gossip.state.teachers.by_key) == 1 for worker in workers.values()), (
        "one teacher per other group"
    )
    assert {parcel.key for _, parcel in world.posted} == {"1", "2"}


def test_groups_by_number_are_places_next_to_one_another() -> None:
    strategy = make_strategy("codistill_groups", groups=2)
    assert [strategy.start_of("", place, 5) for place in range(5)] == [1, 1, 1, 2, 2]


def test_a_key_of_no_group_is_refused() -> None:
    ada, bo = (make_worker(peer, make_strategy("codistill_groups"), ("ada", "bo")) for peer in ("ada", "bo"))
    World({"ada": ada, "bo": bo})
    parcel = told(bo)
    for key in ("", "0", "3", "-1", "1.0", "²", "999999999"):
        hear(ada, "bo", parcel.with_content(key=key))
    assert ada.learner.ledger.quarantined == {"bo: group": 7}
    assert not ada.gossip.state.teachers.by_key


def test_who_has_no_group_and_who_has_two_is_told_so() -> None:
    with pytest.raises(ConfigError, match="no group for cy"):
        make_worker("cy", make_strategy("codistill_groups", groups=[["ada"], ["bo"]]))
    with pytest.raises(ValidationError, match="ada is named twice"):
        make_strategy("codistill_groups", groups=[["ada", "bo"], ["ada"]])
    with pytest.raises(ValidationError):
        make_strategy("codistill_groups", groups=1)


def test_predictions_of_the_dead_are_forgotten() -> None:
    ada, bo = (make_worker(peer, make_strategy("codistill_predictions")) for peer in ("ada", "bo"))
    World({"ada": ada, "bo": bo})
    hear(ada, "bo", told(bo))
    assert asked(ada, now=29.0) > 0.0
    assert asked(ada, now=30.0) == 0.0
    assert ada.gossip.state.cache.names == []
    assert PeerName("bo") not in ada.gossip.state.teachers


def probabilities(worker: Worker) -> torch.Tensor:
    """softmax(f(u)) of all transfer rows."""
    assert worker.learner.transfer is not None
    return soft_targets(worker.learner.predict(worker.learner.model, worker.learner.transfer), 1.0)


@pytest.mark.parametrize(
    ("options", "encoding", "nbytes"),
    [
        ({"reveal_top_k": 1}, "half", 2 * 100 * 3),
        ({"reveal_top_k": 1}, "raw", 4 * 100 * 3),
        ({"reveal_top_k": 1}, "top_k:1", 100 * (4 * 1 + 2)),
        ({"reveal_clip": 0.2}, "half", 2 * 100 * 3),
        ({"reveal_top_k": 1, "reveal_clip": 0.2}, "top_k:1", 100 * (4 * 1 + 2)),
        ({"reveal_top_k": 1, "coordinated_rows": 40}, "top_k:1", 40 * (4 * 1 + 2)),
    ],
)
def test_only_what_is_to_be_revealed_leaves_and_bytes_are_as_the_docstring_says(
    options: dict[str, object], encoding: str, nbytes: int
) -> None:
    strategy = make_strategy("codistill_predictions", **options)
    strategy.exchange = replace(strategy.exchange, encoding=encoding)
    bo = make_worker("bo", strategy)
    World({"ada": make_worker("ada", make_strategy("codistill_predictions")), "bo": bo})
    parcel = told(bo)
    assert parcel.payload.nbytes == nbytes
    rows = len(probabilities(bo)) if "coordinated_rows" not in options else 40
    ((name, arrived),) = unpack(parcel.payload, {"soft_targets": (rows, 3)}).items()
    assert name == "soft_targets"
    if "coordinated_rows" not in options:
        expected = disclosed(probabilities(bo), options.get("reveal_top_k"), options.get("reveal_clip", 0.0))  # type: ignore[arg-type]
        assert torch.allclose(arrived, expected, atol=1e-3)
    for row in arrived:
        assert len(set(row.tolist())) <= int(options.get("reveal_top_k", 3)) + 1  # type: ignore[call-overload]
    assert float(arrived.min()) >= float(options.get("reveal_clip", 0.0)) - 1e-3  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"reveal_top_k": 1}, {"reveal_clip": 0.2}])
def test_the_neighbours_learn_from_less_as_well(options: dict[str, object]) -> None:
    world = World({name: make_worker(name, make_strategy("codistill_predictions", 5, **options)) for name in NAMES})
    alone = World({name: make_worker(name, make_strategy("isolated")) for name in NAMES})
    for step in range(60):
        world.step(0.1 * step)
        alone.step(0.1 * step)
    taught, isolated = (
        sum(worker.evaluate()[1]["accuracy"] for worker in one.workers.values()) / len(NAMES) for one in (world, alone)
    )
    assert taught > isolated + 0.05
    assert not any(worker.learner.ledger.quarantined for worker in world.workers.values())


@pytest.mark.parametrize("options", [{"reveal_top_k": 2}, {"reveal_clip": 0.34}])
def test_an_option_that_hides_nothing_or_tells_nothing_is_refused_at_the_start(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="accepted"):
        make_worker("ada", make_strategy("codistill_predictions", **options))


@pytest.mark.parametrize("name", ["codistill_predictions", "codistill_checkpoints", "codistill_groups"])
def test_a_teacher_that_says_the_same_about_all_inputs_is_not_listened_to(name: str) -> None:
    options = {"groups": 3} if name == "codistill_groups" else {}
    workers = {peer: make_worker(peer, make_strategy(name, **options)) for peer in NAMES}
    World(workers)
    ada, bo = workers["ada"], workers["bo"]
    rows = 4 * CONSTANT_ROWS_MIN
    ada.task = replace(ada.task, train=tuple(part.repeat(8, *(1,) * (part.ndim - 1)) for part in ada.task.train))
    with torch.no_grad():  # a layer of dead units: its biases alone speak
        *_, weights, _bias = bo.learner.model.parameters()
        weights.zero_()
    hear(ada, "bo", told(bo))
    assert asked(ada, rows=rows) == 0.0
    assert (EventKind.LEFT_OUT.value, "bo", "constant") in news(ada)
    with torch.no_grad():  # it has recovered
        weights.copy_(torch.linspace(-2, 2, weights.numel()).view_as(weights))
    hear(ada, "bo", told(bo), 2)
    assert asked(ada, rows=rows) > 0.0


def test_of_a_few_rows_nobody_says_that_they_are_constant() -> None:
    same = torch.tensor([[0.2, 0.8]])
    assert not are_constant(same.expand(CONSTANT_ROWS_MIN - 1, 2))
    assert are_constant(same.expand(CONSTANT_ROWS_MIN, 2))
    apart = same.repeat(CONSTANT_ROWS_MIN, 1)
    apart[3] = torch.tensor([0.21, 0.79])
    assert not are_constant(apart)
    assert not are_constant(torch.full((CONSTANT_ROWS_MIN, 2), torch.nan))

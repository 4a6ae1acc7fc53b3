"""What single strategies claim."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gossipdistill.events import EventKind
from gossipdistill.ids import PeerName
from gossipdistill.learning.distillation import soft_targets
from gossipdistill.learning.snapshot import pack, unpack
from gossipdistill.messages import Content, Neighbourhood, Parcel
from gossipdistill.topology import load_topology
from gossipdistill.training.ending import publish_final

from .world import CLASSES, NAMES, World, arrival, make_strategy, make_task, make_worker


def _mean_accuracy(strategy: str, seed: int, steps: int = 150) -> float:
    world = World(
        {peer: make_worker(peer, make_strategy(strategy, every_steps=5), seed=seed) for peer in ("ada", "bo", "cy")}
    )
    for step in range(steps):
        world.step(step * 0.02)
    return sum(worker.evaluate()[1]["accuracy"] for worker in world.workers.values()) / len(world.workers)


@pytest.mark.parametrize("strategy", ["codistill_predictions", "gossip_averaging"])
def test_on_skewed_shards_neighbours_teach_what_a_peer_never_saw(strategy: str) -> None:
    gains = [_mean_accuracy(strategy, seed) - _mean_accuracy("isolated", seed) for seed in range(3)]
    assert min(gains) > 0.02, f"gains per seed 0, 1, 2: {gains}"


def test_the_control_gains_nothing_from_the_unlabelled_inputs_alone() -> None:
    gains = [_mean_accuracy("self_distillation", seed) - _mean_accuracy("isolated", seed) for seed in range(3)]
    taught = [_mean_accuracy("codistill_predictions", seed) - _mean_accuracy("isolated", seed) for seed in range(3)]
    assert sum(taught) > sum(gains) + 0.05


def test_two_peers_average_to_the_middle() -> None:
    names = ("ada", "bo")
    workers = {name: make_worker(name, make_strategy("gossip_averaging"), names=names) for name in names}
    World(workers)
    for name, value in (("ada", 1.0), ("bo", 3.0)):
        with torch.no_grad():
            for parameter in workers[name].learner.model.parameters():
                parameter.fill_(value)
    bo = workers["bo"]
    publish_final(bo.gossip, 0.0)
    ((_, parcel),) = bo.gossip.endpoint.mailbox.collect().parcels
    ada = workers["ada"]
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 1, 0.0))
    for group in ada.learner.optimizer.param_groups:
        group["lr"] = 0.0
    ada.step(0.0)
    for parameter in ada.learner.model.parameters():
        assert torch.allclose(parameter, torch.full_like(parameter, 2.0))


def test_three_at_once_weigh_at_most_the_plain_mean() -> None:
    names = ("ada", "bo", "cy", "dee")
    workers = {name: make_worker(name, make_strategy("gossip_averaging"), names=names) for name in names}
    World(workers)
    ada = workers["ada"]
    # One-peer schedule: each sender was to be the only one of its exchange, with weight 1/2.
    ada.gossip.alarms.schedule = load_topology("one_peer_exponential", names)
    for group in ada.learner.optimizer.param_groups:
        group["lr"] = 0.0
    for number, (name, value) in enumerate((("bo", 1.0), ("cy", 2.0), ("dee", 5.0))):
        with torch.no_grad():
            for parameter in workers[name].learner.model.parameters():
                parameter.fill_(value)
        publish_final(workers[name].gossip, 0.0)
        parcels = workers[name].gossip.endpoint.mailbox.collect().parcels
        ada.gossip.endpoint.mailbox.deliver(arrival(name, parcels[0][1], number, 0.0))
    with torch.no_grad():
        for parameter in ada.learner.model.parameters():
            parameter.fill_(4.0)
    ada.step(0.0)
    for parameter in ada.learner.model.parameters():
        assert torch.allclose(parameter, torch.full_like(parameter, 3.0))


def test_during_burn_in_teachers_are_heard_but_not_followed() -> None:
    patient = make_strategy("codistill_predictions", burn_in_steps=10)
    world = World({"ada": make_worker("ada", patient), "bo": make_worker("bo", make_strategy("codistill_predictions"))})
    alone = make_worker("ada", make_strategy("isolated"))
    for step in range(10):
        world.step(step * 0.1)
        alone.step(step * 0.1)
    ada = world.workers["ada"].learner
    assert all(torch.equal(t, alone.learner.model.state_dict()[n]) for n, t in ada.model.state_dict().items())
    assert ada.ledger.exchanges == 0
    world.step(1.0)
    assert ada.ledger.exchanges == 1


@pytest.mark.parametrize("name", ["codistill_predictions", "self_distillation"])
def test_a_term_apart_gives_the_gradient_of_the_sum(name: str) -> None:
    def weights(apart: bool) -> list[torch.Tensor]:
        workers = {peer: make_worker(peer, make_strategy(name)) for peer in NAMES}
        world = World(workers)
        for worker in workers.values():
            inner = worker.gossip.strategy.loss
            worker.gossip.strategy.loss = lambda *args, inner=inner: replace(inner(*args), apart=apart)  # type: ignore[method-assign]
        for step in range(10):
            world.step(step * 0.1)
        return list(workers["ada"].learner.model.parameters())

    for one, other in zip(weights(True), weights(False), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_rows_that_are_no_probabilities_are_refused() -> None:
    ada = make_worker("ada", make_strategy("codistill_predictions"))
    World({"ada": ada, "bo": make_worker("bo", make_strategy("codistill_predictions"))})
    task = make_task(0)
    assert task.transfer is not None
    table = torch.rand(len(task.transfer), CLASSES) * 5
    parcel = Parcel((PeerName("ada"),), Content("predictions", pack({"soft_targets": table}, "half"), 1, 1))
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 1, 0.0))
    ada.step(0.0)
    assert ada.learner.ledger.quarantined == {"bo: not_probabilities": 1}


def test_top_k_states_its_residual_and_stays_a_distribution() -> None:
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    table = soft_targets(logits, 1.0)
    payload = pack({"soft_targets": table}, "top_k:3")
    assert payload.nbytes == 50 * (3 * 2 + 3 * 2 + 2)
    received = unpack(payload, {"soft_targets": (50, 10)})["soft_targets"]
    assert torch.allclose(received.sum(1), torch.ones(50), atol=5e-3)
    kept = table.topk(3, dim=1)
    assert torch.allclose(received.gather(1, kept.indices), kept.values, atol=1e-3)


def test_weight_of_an_arrival_is_one_over_senders_and_me() -> None:
    world = World({name: make_worker(name, make_strategy("gossip_averaging")) for name in ("ada", "bo", "cy")})
    ada = world.workers["ada"]
    publish_final(world.workers["bo"].gossip, 0.0)
    ((_, parcel), *_) = world.workers["bo"].gossip.endpoint.mailbox.collect().parcels
    for alive, expected in ((("bo", "cy"), 1 / 3), (("bo",), 1 / 2)):
        ada.gossip.endpoint.mailbox.tell(Neighbourhood(alive=frozenset(map(PeerName, alive))), ())
        view = ada.gossip.endpoint.view([arrival("bo", parcel, 1, 0.0)], 0.0)
        assert view.in_weights == {"bo": pytest.approx(expected)}


def test_silence_is_said_once_with_its_reason_and_taken_back() -> None:
    ada = make_worker("ada", make_strategy("codistill_predictions"))
    statuses = {PeerName("bo"): "unheard: nothing heard yet", PeerName("cy"): "unheard: nothing heard yet"}
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, statuses=statuses), ())
    ada.step(100.0)
    assert ada.gossip.alarms.check_exchange(103.9) is None
    alarm = ada.gossip.alarms.check_exchange(104.0)
    assert alarm is not None
    assert alarm.kind is EventKind.NO_EXCHANGE
    assert "training but not gossiping" in alarm.reason
    assert "bo unheard: nothing heard yet" in alarm.reason
    assert ada.gossip.alarms.check_exchange(106.0) is None
    ada.learner.ledger.exchanged("bo", 106.5)
    back = ada.gossip.alarms.check_exchange(106.6)
    assert back is not None
    assert back.kind is EventKind.EXCHANGING


def test_the_cosine_ends_at_zero_and_begins_at_the_set_rate() -> None:
    ada = make_worker("ada", make_strategy("isolated"))
    ada.cosine = True
    for progress, expected in ((0.0, 0.1), (0.5, 0.05), (1.0, 0.0), (2.0, 0.0)):
        ada.step(0.0, progress)
        assert ada.learner.optimizer.param_groups[0]["lr"] == pytest.approx(expected, abs=1e-12)

"""Push-sum in the learning wing: what is conserved, refused and given back, without any network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.flat import flat_parameters, load_flat
from gossipdistill.learning.mass import STRETCH_MAX, Mass, begin, follow, show
from gossipdistill.learning.snapshot import pack, unpack
from gossipdistill.messages import Arrival, Neighbourhood, Settlement
from gossipdistill.strategies.base import View
from gossipdistill.worker import Worker

from .world import NAMES, World, arrival, make_strategy, make_worker


def state_of(worker: Worker) -> Mass:
    state = worker._state
    assert isinstance(state, Mass)
    return state


def still(worker: Worker) -> Worker:
    """The same with a learning rate of 0: nothing but averaging."""
    for group in worker.learner.optimizer.param_groups:
        group["lr"] = 0.0
    return worker


def total_weight(world: World) -> float:
    held = sum(state_of(worker).weight for worker in world.workers.values())
    return held + sum(arrival.weight for arrival in world.on_the_way)


def total_mass(world: World) -> torch.Tensor:
    total = sum((state_of(worker).x for worker in world.workers.values()), torch.zeros(1, dtype=torch.float64))
    shapes = state_of(next(iter(world.workers.values()))).coordinates.shapes
    for one in world.on_the_way:
        arrays = unpack(one.payload, shapes)
        total = total + torch.cat([arrays[name].reshape(-1) for name in shapes])
    return total


def scattered(encoding: str = "raw", seed: int = 0) -> World:
    """Three peers that do not train, each at a point of its own."""
    world = World({name: still(make_worker(name, make_strategy("sgp"))) for name in NAMES})
    generator = torch.Generator().manual_seed(seed)
    for worker in world.workers.values():
        worker.strategy.exchange = replace(worker.strategy.exchange, encoding=encoding)
        with torch.no_grad():
            for parameter in worker.learner.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        worker._state = worker.strategy.init(worker.learner)
    return world


@pytest.mark.parametrize(("encoding", "close"), [("raw", 1e-6), ("half", 2e-3), ("int8", 5e-2)])
def test_mass_is_conserved_under_every_encoding_and_all_find_the_mean(encoding: str, close: float) -> None:
    world = scattered(encoding)
    before = total_mass(world)
    for step in range(40):
        world.step(step * 0.1)
        assert total_weight(world) == pytest.approx(3.0, abs=1e-12)
        assert torch.allclose(total_mass(world), before, atol=1e-12, rtol=0)
    for worker in world.workers.values():
        assert torch.allclose(state_of(worker).z.double(), before / 3, atol=close, rtol=0)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [("weight", "weight"), ("negative", "weight"), ("nan weight", "weight"), ("nan", "not_finite"), ("shape", "shape")],
)
def test_spoilt_mass_is_refused_whole_and_goes_home(spoilt: str, reason: str) -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.mailbox.collect().parcels if slot.peer == "ada")
    before, weight = state_of(ada).x.clone(), state_of(ada).weight
    arrays = unpack(parcel.payload, state_of(ada).coordinates.shapes)
    first = next(iter(arrays))
    came = arrival("bo", parcel, 9, 0.0)
    bad = {
        "weight": replace(came, weight=0.0),
        "negative": replace(came, weight=-0.5),
        "nan weight": replace(came, weight=float("nan")),
        "nan": replace(came, payload=pack(arrays | {first: torch.full_like(arrays[first], float("nan"))}, "raw")),
        "shape": replace(came, payload=pack(arrays | {first: torch.zeros(3, 3, 3)}, "raw")),
    }[spoilt]
    ada.mailbox.tell(Neighbourhood(), ())
    ada.mailbox.deliver(bad)
    ada.step(0.1)
    assert torch.equal(state_of(ada).x, before)
    assert state_of(ada).weight == weight
    assert ada.mailbox.collect().settlements == [Settlement(PeerName("bo"), "push_sum", came.version, False, reason)]
    assert ada.learner.ledger.quarantined == {f"bo: {reason}": 1}
    assert ada.learner.ledger.exchanges == 0


def test_what_comes_home_is_mine_again() -> None:
    world = scattered()
    ada = world.workers["ada"]
    before, weight = state_of(ada).x.clone(), state_of(ada).weight
    ada.step(0.0)
    parcels = [parcel for _, parcel in ada.mailbox.collect().parcels]
    assert state_of(ada).weight == pytest.approx(1 / 3)
    ada.mailbox.tell(Neighbourhood(), ())
    for number, parcel in enumerate(parcels):
        ada.mailbox.deliver(replace(arrival(parcel.to[0], parcel, number, 0.0), home=True, reason="it left"))
    ada.step(0.1)
    assert state_of(ada).weight == pytest.approx(weight)
    assert torch.allclose(state_of(ada).x, before, atol=1e-15, rtol=0)
    assert ada.mailbox.collect().settlements == []
    assert ada.learner.ledger.exchanges == 0


def test_a_busy_link_is_passed_over_and_the_mass_stays() -> None:
    world = scattered()
    ada = world.workers["ada"]
    ada.step(0.0)
    assert [slot.peer for slot, _ in ada.mailbox.collect().parcels] == ["bo", "cy"]
    ada.step(0.1)  # neither has settled
    assert ada.mailbox.collect().parcels == []
    assert state_of(ada).weight == pytest.approx(1 / 3)
    ada.mailbox.free([next(slot for slot in [*ada.mailbox._unsettled] if slot.peer == "cy")])
    ada.step(0.2)
    assert [(slot.peer, parcel.weight) for slot, parcel in ada.mailbox.collect().parcels] == [
        ("cy", pytest.approx(1 / 6))
    ]


def test_no_split_takes_the_weight_below_its_floor() -> None:
    ada = still(make_worker("ada", make_strategy("sgp", push_sum_weight_min=0.1)))
    view = View(out_neighbours=(PeerName("bo"),))
    weights = []
    for _ in range(6):
        ada.strategy.publish(ada._state, ada.learner, view)
        weights.append(state_of(ada).weight)
    assert weights == [0.5, 0.25, 0.125, 0.125, 0.125, 0.125]


def test_one_who_is_done_gives_mass_back_and_keeps_what_comes_home() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    world.step(0.0)
    ada.finish(0.1)
    world.carry("ada", 0.1)
    weight, z = state_of(ada).weight, state_of(ada).z.clone()
    ada.publish_final(0.2)
    assert ada.mailbox.collect().parcels == []
    bo.step(0.3)
    world.carry("bo", 0.3)
    ada.serve(0.4)
    world.carry("ada", 0.4)
    assert world.settled[-1].reason == "done training"
    assert state_of(ada).weight == weight
    assert torch.equal(state_of(ada).z, z)
    bo.step(0.5)
    world.carry("bo", 0.5)
    world.workers["cy"].step(0.5)
    world.carry("cy", 0.5)
    assert total_weight(world) == pytest.approx(3.0, abs=1e-12)


def test_nothing_is_sent_to_one_who_is_done() -> None:
    ada = still(make_worker("ada", make_strategy("sgp")))
    alive = frozenset({PeerName("bo"), PeerName("cy")})
    ada.mailbox.tell(Neighbourhood(expected=3, alive=alive, done=frozenset({PeerName("bo")})), ())
    ada.step(0.0)
    assert [slot.peer for slot, _ in ada.mailbox.collect().parcels] == ["cy"]


def test_one_who_has_diverged_sends_mass_back() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    world.carry("bo", 0.0)
    with torch.no_grad():
        next(ada.learner.model.parameters()).fill_(float("inf"))
    ada._mix(ada._arrivals(), 0.1)
    assert ada.mailbox.collect().settlements[0].reason == "diverged"
    assert ada.learner.ledger.quarantined == {}


def test_a_strategy_that_forgets_to_settle_is_caught_and_in_production_refused_for() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.mailbox.collect().parcels if slot.peer == "ada")
    ada.strategy.mix = lambda *_: []  # type: ignore[method-assign]
    ada.mailbox.deliver(arrival("bo", parcel, 1, 0.0))
    with pytest.raises(AssertionError, match="has not settled what came from bo"):
        ada.step(0.0)
    ada.strict = False
    ada.mailbox.deliver(arrival("bo", parcel, 2, 0.0))
    ada.step(0.0)
    (settlement,) = ada.mailbox.collect().settlements
    assert not settlement.absorbed
    assert settlement.reason == "not settled"
    assert any("refused in its stead" in warning for warning in ada.learner.ledger.warnings)


def test_mass_posted_on_a_busy_link_is_given_back() -> None:
    ada = still(make_worker("ada", make_strategy("sgp")))
    view = View(out_neighbours=(PeerName("bo"),))
    ada._publish(view, 0.0)
    parcels = ada.strategy.publish(ada._state, ada.learner, view)  # as if the link were free
    with pytest.raises(AssertionError, match="busy link"):
        ada.post_all(parcels, 0.0)
    ada.strict = False
    ada.post_all(parcels, 0.0)
    assert state_of(ada).weight == pytest.approx(0.25)
    ada.step(0.1)
    assert state_of(ada).weight == pytest.approx(0.5)


def test_a_peer_that_returns_begins_with_its_model_and_weight_one() -> None:
    world = scattered()
    for step in range(3):
        world.step(0.1 * step)
    ada = world.workers["ada"]
    again = ada.strategy.init(ada.learner)
    assert again.weight == 1.0
    assert torch.equal(again.x.float(), state_of(ada).z)


def test_buffers_and_counters_stay_my_own() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    ada = make_worker("ada", make_strategy("sgp"))
    ada.learner.model = model
    (parcel,) = ada.strategy.publish(
        ada.strategy.init(ada.learner), ada.learner, View(out_neighbours=(PeerName("bo"),))
    )
    assert {array.name for array in parcel.payload.layout} == {name for name, _ in model.named_parameters()}
    assert parcel.payload.nbytes == 4 * sum(parameter.numel() for parameter in model.parameters())


def test_an_arrival_of_mine_that_is_malformed_at_home_is_no_reason_to_stop() -> None:
    ada = still(make_worker("ada", make_strategy("sgp")))
    home = Arrival(
        PeerName("bo"), "push_sum", Version(1, 1), 0, 0, pack({"x": torch.ones(2)}, "raw"), 0.0, weight=0.5, home=True
    )
    assert ada.strategy.mix(ada._state, ada.learner, [home], View()) == []
    assert state_of(ada).weight == 1.0


def test_with_little_weight_a_step_is_damped_so_that_the_model_moves_two_steps_at_most() -> None:
    worker = make_worker("ada", make_strategy("sgp"))
    before = flat_parameters(worker.learner.model)
    mass = begin(worker.learner)
    mass.x *= 0.01
    mass.weight *= 0.01
    load_flat(worker.learner.model, before + 0.5)
    follow(mass, worker.learner)
    show(mass, worker.learner)
    assert torch.allclose(flat_parameters(worker.learner.model), before + STRETCH_MAX * 0.5, atol=1e-5)

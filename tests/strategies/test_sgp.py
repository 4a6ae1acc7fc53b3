"""Push-sum in the learning wing: what is conserved, refused and given back, without any network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gossipdistill.ids import PeerName, Version
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.learner import Learner
from gossipdistill.learning.mass import Mass, begin, settle
from gossipdistill.learning.neighbours import Neighbours
from gossipdistill.learning.snapshot import pack, unpack
from gossipdistill.messages import Arrival, Content, Neighbourhood, Returned, Settlement
from gossipdistill.strategies.base import View
from gossipdistill.topology import load_topology
from gossipdistill.training.ending import finish, publish_final, serve
from gossipdistill.training.worker import Worker

from .world import NAMES, World, arrival, make_strategy, make_worker


def state_of(worker: Worker) -> Mass:
    state = worker.gossip.state
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
    total = sum(
        (state_of(worker).whole(worker.learner) for worker in world.workers.values()),
        torch.zeros(1, dtype=torch.float64),
    )
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
        worker.gossip.strategy.exchange = replace(worker.gossip.strategy.exchange, encoding=encoding)
        with torch.no_grad():
            for parameter in worker.learner.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        worker.gossip.state = worker.gossip.strategy.init(worker.learner)
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
        assert torch.allclose(flat_parameters(worker.learner.model).double(), before / 3, atol=close, rtol=0)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [("weight", "weight"), ("negative", "weight"), ("nan weight", "weight"), ("nan", "not_finite"), ("shape", "shape")],
)
def test_spoilt_mass_is_refused_whole_and_goes_home(spoilt: str, reason: str) -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.gossip.endpoint.mailbox.collect().parcels if slot.peer == "ada")
    before, weight = state_of(ada).whole(ada.learner), state_of(ada).weight
    arrays = unpack(parcel.payload, state_of(ada).coordinates.shapes)
    first = next(iter(arrays))
    came = arrival("bo", parcel, 9, 0.0)
    bad = {
        "weight": came.with_content(weight=0.0),
        "negative": came.with_content(weight=-0.5),
        "nan weight": came.with_content(weight=float("nan")),
        "nan": came.with_content(payload=pack(arrays | {first: torch.full_like(arrays[first], float("nan"))}, "raw")),
        "shape": came.with_content(payload=pack(arrays | {first: torch.zeros(3, 3, 3)}, "raw")),
    }[spoilt]
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    ada.gossip.endpoint.mailbox.deliver(bad)
    ada.step(0.1)
    assert torch.equal(state_of(ada).whole(ada.learner), before)
    assert state_of(ada).weight == weight
    assert ada.gossip.endpoint.mailbox.collect().settlements == [
        Settlement(PeerName("bo"), "push_sum", came.version, False, reason)
    ]
    assert ada.learner.ledger.quarantined == {f"bo: {reason}": 1}
    assert ada.learner.ledger.exchanges == 0


def test_what_is_returned_is_mine_again() -> None:
    world = scattered()
    ada = world.workers["ada"]
    before, weight = state_of(ada).whole(ada.learner), state_of(ada).weight
    ada.step(0.0)
    parcels = [parcel for _, parcel in ada.gossip.endpoint.mailbox.collect().parcels]
    assert state_of(ada).weight == pytest.approx(1 / 3)
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    for number, parcel in enumerate(parcels):
        returned = Returned(parcel.to[0], Version(1, number), parcel.content, "it left")
        ada.gossip.endpoint.mailbox.deliver(returned)
    ada.step(0.1)
    assert state_of(ada).weight == pytest.approx(weight)
    assert torch.allclose(state_of(ada).whole(ada.learner), before, atol=1e-15, rtol=0)
    assert ada.gossip.endpoint.mailbox.collect().settlements == []
    assert ada.learner.ledger.exchanges == 0


def test_a_busy_link_is_passed_over_and_the_mass_stays() -> None:
    world = scattered()
    ada = world.workers["ada"]
    ada.step(0.0)
    assert [slot.peer for slot, _ in ada.gossip.endpoint.mailbox.collect().parcels] == ["bo", "cy"]
    ada.step(0.1)  # neither has settled
    assert ada.gossip.endpoint.mailbox.collect().parcels == []
    assert state_of(ada).weight == pytest.approx(1 / 3)
    mailbox = ada.gossip.endpoint.mailbox
    mailbox.room.free([slot for slot in mailbox.room.in_flight() if slot.peer == "cy"])
    ada.step(0.2)
    assert [(slot.peer, parcel.weight) for slot, parcel in ada.gossip.endpoint.mailbox.collect().parcels] == [
        ("cy", pytest.approx(1 / 6))
    ]


def test_no_split_takes_the_weight_below_its_floor() -> None:
    ada = still(make_worker("ada", make_strategy("sgp", push_sum_weight_min=0.1)))
    view = View(out_neighbours=(PeerName("bo"),))
    weights = []
    for _ in range(6):
        ada.gossip.strategy.publish(ada.gossip.state, ada.learner, view)
        weights.append(state_of(ada).weight)
    assert weights == [0.5, 0.25, 0.125, 0.125, 0.125, 0.125]


def test_one_who_is_done_gives_mass_back_and_keeps_what_comes_home() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    world.step(0.0)
    finish(ada.gossip, 0.1)
    world.carry("ada", 0.1)
    weight, z = state_of(ada).weight, flat_parameters(ada.learner.model)
    publish_final(ada.gossip, 0.2)
    assert ada.gossip.endpoint.mailbox.collect().parcels == []
    bo.step(0.3)
    world.carry("bo", 0.3)
    serve(ada.gossip, 0.4)
    world.carry("ada", 0.4)
    assert world.settled[-1].reason == "done training"
    assert state_of(ada).weight == weight
    assert torch.equal(flat_parameters(ada.learner.model), z)
    bo.step(0.5)
    world.carry("bo", 0.5)
    world.workers["cy"].step(0.5)
    world.carry("cy", 0.5)
    assert total_weight(world) == pytest.approx(3.0, abs=1e-12)


def test_nothing_is_sent_to_one_who_is_done() -> None:
    ada = still(make_worker("ada", make_strategy("sgp")))
    alive = frozenset({PeerName("bo"), PeerName("cy")})
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=alive, done=frozenset({PeerName("bo")})), ())
    ada.step(0.0)
    assert [slot.peer for slot, _ in ada.gossip.endpoint.mailbox.collect().parcels] == ["cy"]


def test_one_who_has_diverged_sends_mass_back() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    world.carry("bo", 0.0)
    with torch.no_grad():
        next(ada.learner.model.parameters()).fill_(float("inf"))
    ada.gossip.mix(ada.gossip.endpoint.arrivals(), 0.1)
    assert ada.gossip.endpoint.mailbox.collect().settlements[0].reason == "diverged"
    assert ada.learner.ledger.quarantined == {}


def test_a_strategy_that_forgets_to_settle_is_caught_and_in_production_refused_for() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.gossip.endpoint.mailbox.collect().parcels if slot.peer == "ada")
    ada.gossip.strategy.mix = lambda *_: []  # type: ignore[method-assign]
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 1, 0.0))
    with pytest.raises(AssertionError, match="has not settled what came from bo"):
        ada.step(0.0)
    ada.gossip.endpoint.strict = False
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 2, 0.0))
    ada.step(0.0)
    (settlement,) = ada.gossip.endpoint.mailbox.collect().settlements
    assert not settlement.absorbed
    assert settlement.reason == "not settled"
    assert any("refused in its stead" in warning for warning in ada.learner.ledger.warnings)


def test_mass_posted_on_a_busy_link_is_given_back() -> None:
    ada = still(make_worker("ada", make_strategy("sgp")))
    view = View(out_neighbours=(PeerName("bo"),))
    ada.gossip.publish(view, 0.0)
    parcels = ada.gossip.strategy.publish(ada.gossip.state, ada.learner, view)  # as if the link were free
    with pytest.raises(AssertionError, match="busy link"):
        ada.gossip.endpoint.post(parcels)
    ada.gossip.endpoint.strict = False
    ada.gossip.endpoint.post(parcels)
    assert state_of(ada).weight == pytest.approx(0.25)
    ada.step(0.1)
    assert state_of(ada).weight == pytest.approx(0.5)


def test_a_peer_that_returns_begins_with_its_model_and_weight_one() -> None:
    world = scattered()
    for step in range(3):
        world.step(0.1 * step)
    ada = world.workers["ada"]
    again = ada.gossip.strategy.init(ada.learner)
    assert again.weight == 1.0
    assert torch.equal(again.whole(ada.learner).float(), flat_parameters(ada.learner.model))


def test_buffers_and_counters_stay_my_own() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    ada = make_worker("ada", make_strategy("sgp"))
    ada.learner.model = model
    (parcel,) = ada.gossip.strategy.publish(
        ada.gossip.strategy.init(ada.learner), ada.learner, View(out_neighbours=(PeerName("bo"),))
    )
    assert {array.name for array in parcel.payload.layout} == {name for name, _ in model.named_parameters()}
    assert parcel.payload.nbytes == 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("strategy", ["sgp", "osgp", "async_gradient_push", "adpsgd"])
def test_a_parcel_of_mine_that_is_returned_malformed_is_no_reason_to_stop(strategy: str) -> None:
    ada = still(make_worker("ada", make_strategy(strategy)))
    content = Content(ada.gossip.strategy.topic, pack({"x": torch.ones(2)}, "raw"), 0, 0, weight=0.5)
    view = View(returned=(Returned(PeerName("bo"), Version(1, 1), content, "it left"),))
    assert ada.gossip.strategy.mix(ada.gossip.state, ada.learner, [], view) == []
    assert ada.gossip.state.weight == 1.0


def pressing(overlapped: bool = False, topology: str = "complete") -> Worker:
    """A peer that holds half of all there is, and publishes every hundredth step otherwise."""
    ada = still(make_worker("ada", make_strategy("osgp" if overlapped else "sgp", every_steps=100)))
    ada.gossip.alarms.schedule = load_topology(topology, NAMES)
    ada.gossip.endpoint.neighbours = Neighbours(ada.gossip.alarms.schedule, "ada", 0, True)
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(expected=3, alive=frozenset({PeerName("bo"), PeerName("cy")})), ())
    state_of(ada).weight = 1.6
    state_of(ada).kappa = 1.6
    return ada


@pytest.mark.parametrize("overlapped", [False, True])
def test_whoever_holds_much_weight_publishes_at_its_next_step_and_not_beyond_that(overlapped: bool) -> None:
    ada = pressing(overlapped)
    ada.step(0.0)
    assert {slot.peer for slot, _ in ada.gossip.endpoint.mailbox.collect().parcels} == {"bo", "cy"}
    assert state_of(ada).weight == pytest.approx(1.6 / 3)
    ada.step(0.1)
    assert ada.gossip.endpoint.mailbox.collect().parcels == []
    assert ada.gossip.endpoint.cadence.exchanges == 0, "an exchange of a schedule keeps its number"


def test_it_waits_for_a_free_link_and_for_its_turn() -> None:
    ada = pressing()
    ada.gossip.endpoint.cadence = Cadence(100, 2.0)
    ada.step(0.0)
    parcels = ada.gossip.endpoint.mailbox.collect().parcels
    state_of(ada).weight = 1.6
    ada.step(1.0)  # nobody has settled
    assert ada.gossip.endpoint.mailbox.collect().parcels == []
    ada.gossip.endpoint.mailbox.room.free([slot for slot, _ in parcels])
    ada.step(1.1)
    assert ada.gossip.endpoint.mailbox.collect().parcels != []
    state_of(ada).weight = 1.6
    ada.gossip.endpoint.mailbox.room.free([slot for slot, _ in parcels])
    ada.step(1.2)  # twice a second at most
    assert ada.gossip.endpoint.mailbox.collect().parcels == []


def test_on_a_schedule_of_one_peer_at_a_time_pressing_goes_round_its_neighbours() -> None:
    ada = pressing(topology="one_peer_exponential")
    told = []
    for step in range(4):
        state_of(ada).weight = state_of(ada).kappa = 1.6
        ada.step(0.1 * step)
        posted = ada.gossip.endpoint.mailbox.collect().parcels
        told += [slot.peer for slot, _ in posted]
        ada.gossip.endpoint.mailbox.room.free([slot for slot, _ in posted])
    assert told == ["bo", "cy", "bo", "cy"]


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Rprop])
def test_x_gets_the_whole_step_and_the_model_two_of_them_at_most(kind: type[torch.optim.Optimizer]) -> None:
    """By the rate, and by what the step has done."""
    alone = make_worker("ada", make_strategy("isolated"))
    ada = make_worker("ada", make_strategy("sgp", every_steps=1000))
    alone.learner.model.load_state_dict(ada.learner.model.state_dict())
    for worker in (alone, ada):
        gossip = worker.gossip
        worker.learner = gossip.learner = gossip.endpoint.learner = replace_optimizer(worker.learner, kind)
        worker.gossip.state = worker.gossip.strategy.init(worker.learner)
    mass, start = state_of(ada), flat_parameters(ada.learner.model).double()
    mass.take(
        mass.model(ada.learner), mass.model(ada.learner), 1, 0.9, lossy=True
    )  # as if a share of nearly all had left
    before = mass.whole(ada.learner)
    assert mass.weight == pytest.approx(0.1)
    alone.step(0.0)
    ada.step(0.0)
    whole = flat_parameters(alone.learner.model).double() - start
    assert torch.allclose(mass.whole(ada.learner) - before, whole, atol=1e-6)
    assert torch.allclose(flat_parameters(ada.learner.model).double() - start, 2.0 * whole, atol=1e-6)


def replace_optimizer(learner: Learner, kind: type[torch.optim.Optimizer]) -> Learner:
    return replace(learner, optimizer=kind(learner.model.parameters(), lr=0.1))


@pytest.mark.parametrize("stretch_max", [1.0, 2.0, float("inf")])
def test_an_arrival_shows_what_was_hidden_as_far_as_the_bound_lets_it(stretch_max: float) -> None:
    world = scattered()
    ada = world.workers["ada"]
    mass = begin(ada.learner, stretch_max=stretch_max)
    z, x = mass.model(ada.learner), mass.whole(ada.learner)
    mass.take(z, z, 0, 0.9, lossy=True)  # weight without numerator: x is ten times what the weight asks for
    payload = pack({name: torch.zeros(shape) for name, shape in mass.coordinates.shapes.items()}, "raw")
    model = flat_parameters(ada.learner.model).double()
    came = Arrival(PeerName("bo"), Version(1, 1), Content("push_sum", payload, 0, 0, weight=0.2), 0.0)
    settle(mass, ada.learner, [came])
    shown = min(1.0, stretch_max * 0.3)
    expected = (0.1 * model + shown * (x - 0.1 * model)) / 0.3
    assert torch.allclose(flat_parameters(ada.learner.model).double(), expected, atol=1e-5)
    assert torch.allclose(mass.whole(ada.learner), x, atol=1e-12)


def test_what_could_make_the_model_infinite_is_refused_and_the_rest_is_not() -> None:
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.gossip.endpoint.mailbox.collect().parcels if slot.peer == "ada")
    shapes = state_of(ada).coordinates.shapes
    huge = pack({name: torch.full(shape, 3e38) for name, shape in shapes.items()}, "raw")
    good = arrival("bo", parcel, 2, 0.0)
    for number, one in enumerate((good.with_content(payload=huge), good), start=1):
        ada.gossip.endpoint.mailbox.deliver(replace(one, version=Version(1, number)))
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    ada.step(0.1)
    settled = {s.version.number: (s.absorbed, s.reason) for s in ada.gossip.endpoint.mailbox.collect().settlements}
    assert settled == {1: (False, "range"), 2: (True, "")}
    assert bool(flat_parameters(ada.learner.model).isfinite().all())


@pytest.mark.parametrize(("weight", "taken"), [(6e-4, True), (4e-4, False), (8.9, True), (9.1, False), (1e9, False)])
def test_no_parcel_is_lighter_or_heavier_than_honest_peers_can_make_one(weight: float, taken: bool) -> None:
    """Three peers, so three starts' weight; three times as much is certainly made up."""
    world = scattered()
    ada, bo = world.workers["ada"], world.workers["bo"]
    bo.step(0.0)
    parcel = next(parcel for slot, parcel in bo.gossip.endpoint.mailbox.collect().parcels if slot.peer == "ada")
    arrays = unpack(parcel.payload, state_of(ada).coordinates.shapes)
    payload = pack({name: 2.0 * weight * array for name, array in arrays.items()}, "raw")
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 1, 0.0).with_content(weight=weight, payload=payload))
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    ada.step(0.1)
    (settlement,) = ada.gossip.endpoint.mailbox.collect().settlements
    assert (settlement.absorbed, settlement.reason) == (taken, "" if taken else "weight")
    assert state_of(ada).weight == pytest.approx(1.0 + (weight if taken else 0.0))


def test_peers_must_agree_on_the_least_weight() -> None:
    agreed = {
        make_strategy(name, push_sum_weight_min=least).agreed().get("strategy.push_sum_weight_min")
        for name in ("sgp", "osgp", "async_gradient_push")
        for least in (0.001, 0.01)
    }
    assert agreed == {"0.001", "0.01"}


def drained(topology: str, steps: int) -> tuple[World, list[str]]:
    """Three peers of which cy absorbs what it gets and never publishes; (the world, of whom ada was warned)."""
    world = scattered()
    told: list[str] = []
    for place, (name, worker) in enumerate(world.workers.items()):
        worker.gossip.endpoint.neighbours = Neighbours(load_topology(topology, NAMES), name, place, True)
    cy = world.workers["cy"]
    cy.gossip.endpoint.cadence = Cadence(1, 0.0, _next_s=float("inf"))
    for step in range(steps):
        world.step(0.1 * step)
        told += [event.peer for event in world.workers["ada"].learner.ledger.take_news(0.0)]
    return world, told


def test_a_peer_that_absorbs_and_never_gives_does_not_drain_the_others() -> None:
    world, told = drained("complete", 250)
    assert "bo" not in told
    assert sum(state_of(world.workers[name]).weight for name in ("ada", "bo")) > 0.25
    assert total_weight(world) == pytest.approx(3.0, abs=1e-9)


def test_behind_a_peer_that_never_gives_a_directed_ring_is_not_drained_either() -> None:
    world, told = drained("directed_ring", 250)
    assert "cy" not in told
    assert min(state_of(world.workers[name]).weight for name in ("ada", "bo")) > 0.05

"""What every strategy promises. A new one inherits these by its line in the table `STRATEGIES`."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossipdistill.ids import PeerName
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.learning.pace import FLOOR_S
from gossipdistill.learning.snapshot import layout_of, pack
from gossipdistill.messages import DeliveryClass, Mode, Neighbourhood, Payload
from gossipdistill.strategies import STRATEGIES, Delivery, Extent, Rounds, Strategy, View
from gossipdistill.strategies.base import AsynchronousOptions
from gossipdistill.strategies.push_sum import PushSum
from gossipdistill.training.ending import finish, publish_final, serve

from .world import World, arrival, make_strategy, make_worker

FREE = [name for name, kind in STRATEGIES.items() if kind.delivery is not Delivery.COLLECTIVE]
GOSSIPING = [name for name, kind in STRATEGIES.items() if kind.delivery.gossips]
SETTLED = [name for name, kind in STRATEGIES.items() if kind.delivery.settled]
ASYNCHRONOUS = [name for name, kind in STRATEGIES.items() if issubclass(kind.options_type, AsynchronousOptions)]
STATE = [name for name, kind in STRATEGIES.items() if kind.delivery is Delivery.STATE]


def weights(worker: object) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in worker.learner.model.state_dict().items()}  # type: ignore[attr-defined]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_docstring_says_what_it_publishes_conserves_and_does_when_stale(name: str) -> None:
    kind = STRATEGIES[name]
    text = inspect.getdoc(kind) or ""
    for line in ("Publishes:", "Conserves:", "When stale:"):
        assert line in text, f"{name} lacks {line}"
    assert getattr(kind, "__final__", False), f"{name} is not final"
    assert kind.__bases__ in ((Strategy,), (PushSum,)), f"{name} inherits from more than the one shape"
    assert importlib.import_module(kind.__module__).__name__.endswith(f".{name}"), "one strategy, one file of its name"


@pytest.mark.parametrize("name", FREE)
def test_without_neighbours_it_is_isolated_training_bit_for_bit(name: str) -> None:
    if name == "self_distillation":
        pytest.skip("its teacher is itself: it differs from isolated training by design")
    alone = World({"ada": make_worker("ada", make_strategy("isolated"))})
    strategy = make_strategy(name)
    world = World({"ada": make_worker("ada", strategy)})
    world.workers["ada"].learner.model.load_state_dict(alone.workers["ada"].learner.model.state_dict())
    for step in range(20):
        alone.step(step * 0.1)
        world.step(step * 0.1)
    assert same(weights(alone.workers["ada"]), weights(world.workers["ada"]))
    assert world.workers["ada"].learner.ledger.exchanges == 0


@pytest.mark.parametrize("name", GOSSIPING)
def test_neighbours_change_something_and_are_counted_once_per_version(name: str) -> None:
    # Of another group the newest checkpoint is the teacher, whoever sent it: here everybody is a group.
    options = {"groups": 3} if name == "codistill_groups" else {}
    world = World({peer: make_worker(peer, make_strategy(name, 5, **options)) for peer in ("ada", "bo", "cy")})
    alone = make_worker("ada", make_strategy("isolated"))
    alone.learner.model.load_state_dict(world.workers["ada"].learner.model.state_dict())
    for step in range(20):
        world.step(step * 0.1)
        alone.step(step * 0.1)
    assert not same(weights(world.workers["ada"]), weights(alone))
    # Versions leave after steps 5, 10, 15 and 20; the last has not been used yet.
    for worker in world.workers.values():
        assert {peer: link.exchanges for peer, link in worker.learner.ledger.links.items()} == dict.fromkeys(
            set(world.workers) - {worker.learner.name}, 3
        )


@pytest.mark.parametrize("name", ASYNCHRONOUS)
@pytest.mark.parametrize("every_steps", [1, 5])
def test_steps_that_adapt_to_delays_leave_a_steady_rhythm_alone_and_shorten_a_silence(
    name: str, every_steps: int
) -> None:
    plain, adaptive = (
        World({peer: make_worker(peer, make_strategy(name, every_steps, delay_adaptive=on)) for peer in ("ada", "bo")})
        for on in (False, True)
    )
    for step in range(30):
        for world in (plain, adaptive):
            world.step(0.1 * step)
    assert same(weights(plain.workers["ada"]), weights(adaptive.workers["ada"]))
    walked = {False: 0.0, True: 0.0}
    for world, on in ((plain, False), (adaptive, True)):
        ada = world.workers["ada"]
        ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())  # nobody to send to
        ada.step(3.0)
        for step in range(31, 100):
            before = flat_parameters(ada.learner.model)
            ada.step(0.1 * step)
            walked[on] += float((flat_parameters(ada.learner.model) - before).norm())
    assert 0.0 < walked[True] < 0.9 * walked[False]


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_steps_that_adapt_to_delays_are_whole_without_neighbours_and_beyond_the_horizon(name: str) -> None:
    alone = make_worker("ada", make_strategy("isolated"))
    adaptive = make_worker("ada", make_strategy(name, delay_adaptive=True))
    alone.learner.model.load_state_dict(adaptive.learner.model.state_dict())
    for step in range(20):
        alone.step(0.1 * step)
        adaptive.step(0.1 * step)
    assert same(weights(alone), weights(adaptive))
    learner, horizon_s = adaptive.learner, adaptive.gossip.strategy.exchange.horizon_s(adaptive.learner)
    assert horizon_s > 0
    for step in range(100):
        hold = learner.delays.factor(min(step, 50), step, 0.1 * step, horizon_s, 0)
        assert (hold < 1.0) == (step > 51), step
    assert learner.delays.factor(50, 101, 5.0 + horizon_s, horizon_s, 0) == 1.0


@pytest.mark.parametrize("name", GOSSIPING)
@pytest.mark.parametrize("spoilt", ["nan", "shape", "arrays", "encoding", "truncated"])
def test_what_a_neighbour_spoils_changes_nothing_and_is_counted(name: str, spoilt: str) -> None:
    clean = World({"ada": make_worker("ada", make_strategy(name)), "bo": make_worker("bo", make_strategy(name))})
    clean.workers["bo"].step(0.0)
    ((_, parcel), *_) = clean.workers["bo"].gossip.endpoint.mailbox.collect().parcels
    arrays = {entry.name: torch.rand(entry.shape or (1,)) for entry in parcel.payload.layout}
    first = next(iter(arrays))
    payloads = {
        "nan": lambda: pack(arrays | {first: torch.full_like(arrays[first], float("nan"))}, "raw"),
        "shape": lambda: pack(arrays | {first: torch.rand(2, 7)}, "raw"),
        "arrays": lambda: pack({"something_else": torch.rand(3)}, "raw"),
        "encoding": lambda: Payload(
            tuple(entry._replace(encoding="zip") for entry in parcel.payload.layout), parcel.payload.body
        ),
        "truncated": lambda: Payload(parcel.payload.layout, bytes(parcel.payload.body)[:-1]),
    }
    ada = make_worker("ada", make_strategy(name))
    World({"ada": ada, "bo": clean.workers["bo"]})
    alone = make_worker("ada", make_strategy("isolated"))
    alone.learner.model.load_state_dict(ada.learner.model.state_dict())
    ada.gossip.endpoint.mailbox.tell(Neighbourhood(), ())  # nobody to send to
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel.with_content(payload=payloads[spoilt]()), 7, 0.1))
    for step in range(3):
        ada.step(0.1 * step)
        alone.step(0.1 * step)
    assert same(weights(ada), weights(alone))
    assert sum(ada.learner.ledger.quarantined.values()) == 1
    assert ada.learner.ledger.exchanges == 0
    refused = [(one.sender, one.absorbed) for one in ada.gossip.endpoint.mailbox.collect().settlements]
    assert refused == ([("bo", False)] if parcel.delivery is not DeliveryClass.STATE else [])


@pytest.mark.parametrize("name", GOSSIPING)
def test_it_names_the_topics_of_its_neighbours_before_it_has_posted_anything(name: str) -> None:
    world = World({peer: make_worker(peer, make_strategy(name)) for peer in ("ada", "bo", "cy")})
    before = world.workers["ada"].gossip.endpoint.mailbox.intake
    for step in range(10):
        world.step(step * 0.1)
    assert world.posted
    assert all(before.knows(parcel.topic) for _, parcel in world.posted)
    assert not before.knows("else")


@pytest.mark.parametrize("name", SETTLED)
def test_each_arrival_is_settled_exactly_once(name: str) -> None:
    world = World({peer: make_worker(peer, make_strategy(name)) for peer in ("ada", "bo", "cy")})
    for step in range(10):
        world.step(step * 0.1)
    posted = enumerate((parcel for _, parcel in world.posted), start=1)
    sent = [number for number, parcel in posted if parcel.delivery is not DeliveryClass.STATE]
    settled = [one.version.number for one in world.settled]
    assert len(settled) == len(set(settled))
    assert set(settled) | {one.version.number for one in world.on_the_way} == set(sent)
    assert all(one.absorbed for one in world.settled)


@pytest.mark.parametrize("name", SETTLED)
def test_one_who_is_done_settles_what_comes_and_changes_no_more(name: str) -> None:
    world = World({peer: make_worker(peer, make_strategy(name)) for peer in ("ada", "bo", "cy")})
    for step in range(3):
        world.step(step * 0.1)
    ada = world.workers["ada"]
    finish(ada.gossip, 0.4)
    publish_final(ada.gossip, 0.4)
    world.carry("ada", 0.4)
    before = weights(ada)
    for peer in ("bo", "cy"):
        world.workers[peer].step(0.5)
        world.carry(peer, 0.5)
    serve(ada.gossip, 0.6)
    world.carry("ada", 0.6)
    assert not [one for one in world.on_the_way if one.sender in ("bo", "cy") and one.step == 0]
    assert {one.reason for one in world.settled if not one.absorbed} == {"done training"}
    assert same(weights(ada), before)


@pytest.mark.parametrize("name", FREE)
def test_only_lockstep_waits_and_no_strategy_can(name: str) -> None:
    kind = STRATEGIES[name]
    world = World({peer: make_worker(peer, make_strategy(name)) for peer in ("ada", "bo")})
    world.workers["ada"].step(0.0)
    waits = bool(world.workers["ada"].gossip.awaited(0.0))
    assert waits == (kind.rounds is Rounds.LOCKSTEP)
    tree = ast.parse(inspect.getsource(importlib.import_module(kind.__module__)))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"time", "threading", "asyncio", "socket", "zmq", "select", "queue"}


@pytest.mark.parametrize("name", STATE)
def test_what_is_beyond_the_horizon_changes_nothing(name: str) -> None:
    strategy = make_strategy(name)
    bo = make_worker("bo", make_strategy(name), names=("ada", "bo"))
    World({"ada": make_worker("ada", strategy, names=("ada", "bo")), "bo": bo})
    bo.step(0.0)
    ((_, parcel),) = bo.gossip.endpoint.mailbox.collect().parcels
    ada = make_worker("ada", strategy, names=("ada", "bo"))
    World({"ada": ada, "bo": bo})
    alone = make_worker("ada", make_strategy("isolated"), names=("ada", "bo"))
    alone.learner.model.load_state_dict(ada.learner.model.state_dict())
    ada.gossip.endpoint.mailbox.deliver(arrival("bo", parcel, 1, now=0.0))
    for step in range(3):
        ada.step(FLOOR_S + step)
        alone.step(FLOOR_S + step)
    assert same(weights(ada), weights(alone))
    assert ada.learner.ledger.exchanges == 0


@pytest.mark.parametrize("name", GOSSIPING)
def test_a_diverged_model_is_not_published(name: str) -> None:
    ada = make_worker("ada", make_strategy(name))
    view = View(exchange=0, out_neighbours=(PeerName("bo"),))
    state = ada.gossip.strategy.init(ada.learner)
    assert ada.gossip.strategy.publish(state, ada.learner, view)
    with torch.no_grad():
        next(ada.learner.model.parameters()).fill_(float("nan"))
    ada.learner.now_s = 60.0  # who has not answered meanwhile is asked again
    assert ada.gossip.strategy.publish(state, ada.learner, view) == []
    assert any("not finite" in warning for warning in ada.learner.ledger.warnings)


@pytest.mark.parametrize("name", STATE)
def test_small_payloads_are_pushed_and_large_ones_announced_unless_told_otherwise(name: str) -> None:
    for mode, bytes_max, expected in (
        (None, 10**9, Mode.PUSH),
        (None, 1, Mode.PULL),
        (Mode.PUSH, 1, Mode.PUSH),
        (Mode.PULL, 10**9, Mode.PULL),
    ):
        strategy = make_strategy(name)
        strategy.exchange = replace(strategy.exchange, mode=mode, push_bytes_max=bytes_max)
        ada = make_worker("ada", strategy)
        (parcel,) = strategy.publish(
            strategy.init(ada.learner), ada.learner, View(out_neighbours=(PeerName("bo"), PeerName("cy")))
        )
        assert parcel.mode is expected
        assert parcel.to == ("bo", "cy")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("codistill_predictions", lambda rows, classes, parameters: 2 * rows * classes),
        ("codistill_checkpoints", lambda rows, classes, parameters: 4 * parameters),
        ("codistill_groups", lambda rows, classes, parameters: 4 * parameters),
        ("gossip_averaging", lambda rows, classes, parameters: 4 * parameters),
        ("leader_sgd", lambda rows, classes, parameters: 4 * parameters),
        ("sgp", lambda rows, classes, parameters: 4 * parameters),
        ("osgp", lambda rows, classes, parameters: 4 * parameters),
        ("adpsgd", lambda rows, classes, parameters: 4 * parameters + 4),
        ("async_gradient_push", lambda rows, classes, parameters: 4 * parameters + 4),
        ("dpsgd", lambda rows, classes, parameters: 4 * parameters),
        # One batch of 8 is asked for; the number of its step is 8 bytes more.
        ("concurrent_adversarial", lambda rows, classes, parameters: 4 * parameters + 8 * 1 * 8 + 8),
        ("dmsgd", lambda rows, classes, parameters: 4 * parameters),
        ("decentlam", lambda rows, classes, parameters: 4 * parameters),
    ],
)
def test_bytes_are_as_the_docstring_says(name: str, formula: object) -> None:
    ada = make_worker("ada", make_strategy(name))
    (parcel,) = ada.gossip.strategy.publish(
        ada.gossip.strategy.init(ada.learner), ada.learner, View(out_neighbours=(PeerName("bo"),))
    )
    parameters = sum(parameter.numel() for parameter in ada.learner.model.parameters())
    assert parcel.payload.nbytes == formula(100, 3, parameters)  # type: ignore[operator]


@pytest.mark.parametrize("name", GOSSIPING)
@pytest.mark.parametrize("encoding", ["raw", "half"])
def test_it_says_before_the_first_step_how_large_its_payloads_will_be(name: str, encoding: str) -> None:
    options = {"best_k": 1} if name == "codistill_predictions" else {}
    strategies = {peer: make_strategy(name, 2, **options) for peer in ("ada", "bo")}
    for strategy in strategies.values():
        strategy.exchange = replace(strategy.exchange, encoding=encoding)
    world = World({peer: make_worker(peer, strategy) for peer, strategy in strategies.items()})
    ada = world.workers["ada"]
    assert ada.task.transfer is not None
    batch = (ada.draws.batch_size, *ada.task.train[0].shape[1:])
    extent = Extent(ada.learner.model, len(ada.task.transfer), ada.task.class_count or 0, batch)
    told = {tuple(sorted(layout_of(one.arrays, one.encoding))) for one in ada.gossip.strategy.publications(extent)}
    for step in range(8):
        world.step(step * 0.1)
    posted = {tuple(sorted(parcel.payload.layout)) for _, parcel in world.posted}
    largest = {max(posted, key=lambda layout: sum(array.nbytes for array in layout))}
    assert posted == told if name == "concurrent_adversarial" else largest == told


@pytest.mark.parametrize("name", [name for name in GOSSIPING if STRATEGIES[name].needs.alike_models])
def test_weights_beyond_the_range_of_the_encoding_are_told_by_their_sender(name: str) -> None:
    made = make_strategy(name)
    strategy = type(made)(made.options, replace(made.exchange, encoding="half"))
    bo = make_worker("bo", strategy)
    World({"ada": make_worker("ada", make_strategy(name)), "bo": bo})
    first, parameter = next(iter(bo.learner.model.named_parameters()))
    with torch.no_grad():
        parameter[0, 0] = 2e6
    bo.gossip.state = strategy.init(bo.learner)
    bo.step(0.0)
    array = f"model.{first}" if name == "concurrent_adversarial" else first
    assert bo.learner.ledger.out_of_range[array] >= 1
    assert any(text.startswith(f"{array}, encoded as half") for text in bo.learner.ledger.warnings)

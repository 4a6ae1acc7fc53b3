"""One cell of the zoo's table: a kind of model under a strategy, two peers, in virtual time.

    build        through the run's own checks: refused with the words that are expected, or not at all
    mix          with a learning rate of 0 only mixing changes anything: after some exchanges each floating-point entry
                 of a peer is x + c (y - x), of its start x and the other's start y, with one c for all entries
    train        steps with exchanges: everything stays finite, tied stays tied, modes stay, nothing is quarantined
    resume       from a checkpoint, as bytes and JSON, into new objects: goes on bit for bit
    donate       a newcomer gets the model bit for bit

Whatever one peer says to the other is encoded and decoded as on the wire.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.kinds import ADVERSARIAL, EVERYWHERE, KINDS, REDUCED, WEIGHTS, Kind
from gossipdistill.assembly.building import build_learner, fingerprint_of
from gossipdistill.assembly.worker import Parts
from gossipdistill.config.plan import Asked
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import NeedsError
from gossipdistill.events import EventKind
from gossipdistill.ids import Boot, PeerName, Version
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.model_teachers import ModelTeachers
from gossipdistill.learning.shared_arrays import registered
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import (
    Arrival,
    DeliveryClass,
    Envelope,
    Neighbourhood,
    Parcel,
    ReliableMessage,
    Returned,
    State,
)
from gossipdistill.simulation.run import plan_simulation
from gossipdistill.strategies import STRATEGIES, Delivery, Strategy
from gossipdistill.training.joining import Joining, give_to_newcomers
from gossipdistill.training.worker import Worker
from gossipdistill.wire.crossing import cross

ROUNDS = 5
LATE_S = 20.0
"""When a newcomer comes: a donor has trained for a while by then."""
TOLD = ("extra state", "keeps its own", "left out", "its own value")
"""Words of warnings that are expected of some kinds."""
AVERAGES = ("gossip_averaging", "sgp", "osgp", "async_gradient_push", "adpsgd", "dpsgd", "dmsgd", "decentlam")
"""Strategies under which two models come closer whatever they are worth."""
SLACK = {
    torch.float64: 1e-6,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 3e-3,
    torch.complex64: 2e-5,
    torch.complex128: 1e-6,
    torch.float8_e4m3fn: 0.2,
}
"""By how much an entry may miss its place, as a part of how large it is."""

STRATEGY_KEYS: dict[str, tuple[str, ...]] = {
    "concurrent_adversarial": ("strategy.helpers=['ada','bo']",),
    "decentlam": ("train.momentum=0.9",),
}


def refusal_of(kind: Kind, strategy: type[Strategy]) -> str | None:
    """The words by which this strategy must refuse the kind; None where it must not."""
    groups = [EVERYWHERE]
    if strategy.name == "concurrent_adversarial":
        groups.append(ADVERSARIAL)
    if strategy.delivery is Delivery.COLLECTIVE:
        groups.append(REDUCED)
    elif strategy.needs.alike_models:
        groups.append(WEIGHTS)
    return next((kind.refused[group] for group in groups if group in kind.refused), None)


def specs_of(kind: str, strategy: str, peers: int = 2) -> list[WorkerSpec]:
    """As the command line makes them."""
    settings = (
        f"task.kind={json.dumps(kind)}",
        "task.shards=same",
        "train.lr=0.05",
        "train.batch_size=16",
        "exchange.every_steps=1",
        "exchange.per_second_max=0.0",
        "exchange.encoding=raw",
        *STRATEGY_KEYS.get(strategy, ()),
    )
    asked = Asked(
        task="benchmarks.zoo.kinds:task", peers=str(peers), strategy=strategy, seconds=1000.0, settings=settings
    )
    return plan_simulation(asked)


def worker_of(spec: WorkerSpec, still: bool = False, moved: bool = False, resumed: Checkpoint | None = None) -> Worker:
    """What a process builds. `still`: its steps change nothing. `moved`: away from the common start, by a factor or a
    number for each entry."""
    parts = Parts.of(spec)
    learner = parts.learner
    if still:
        learner.model.eval()
        for group in learner.optimizer.param_groups:
            group["lr"] = 0.0
    if moved:
        generator = torch.Generator().manual_seed(7 + spec.place)
        with torch.no_grad():
            for array in learner.shared.arrays(learner.model).values():
                if array.is_floating_point() and array.dtype is not torch.float8_e4m3fn:
                    array.mul_((1 + 0.5 * torch.rand(array.shape, generator=generator)).to(array.dtype))
                elif array.dtype in (torch.int64, torch.int32, torch.uint8):
                    array.add_(1 + spec.place)
    if resumed is not None:
        resumed.restore(learner.model, learner.optimizer)
    worker = parts.worker(Mailbox(), strict=True)
    if resumed is not None:
        worker.resume(resumed)
    return worker


@dataclass
class Pair:
    """Workers side by side. What one posts is with the other before its next step, over the wire; nothing is lost."""

    workers: dict[str, Worker]
    parcels: list[Parcel] = field(default_factory=list)
    _number: int = 0
    _sent: dict[int, Arrival] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = frozenset(PeerName(name) for name in self.workers)
        for name, worker in self.workers.items():
            worker.gossip.endpoint.mailbox.tell(Neighbourhood(expected=len(names), alive=names - {PeerName(name)}), ())

    def step(self, now: float) -> None:
        """One step of each."""
        for worker in self.workers.values():
            worker.step(now)
        for name in self.workers:
            self.carry(name, now)

    def carry(self, name: str, now: float) -> None:
        """What this peer has posted and settled."""
        collected = self.workers[name].gossip.endpoint.mailbox.collect()
        for settlement in collected.settlements:
            came = self._sent.pop(settlement.version.number)
            if not settlement.absorbed and came.delivery is DeliveryClass.MASS:
                returned = Returned(PeerName(name), came.version, came.content, settlement.reason)
                self.workers[settlement.sender].gossip.endpoint.mailbox.deliver(returned)
        for slot, parcel in collected.parcels:
            self._number += 1
            self.parcels.append(parcel)
            came = _crossed(name, slot.peer, parcel, self._number, now)
            if parcel.delivery is not DeliveryClass.STATE:
                self._sent[self._number] = came
                self.workers[name].gossip.endpoint.mailbox.room.free([slot])
            self.workers[slot.peer].gossip.endpoint.mailbox.deliver(came)


def _crossed(sender: str, to: str, parcel: Parcel, number: int, now: float) -> Arrival:
    kind = State if parcel.delivery is DeliveryClass.STATE else ReliableMessage
    envelope, _ = cross(Envelope(PeerName(sender), Boot(1), to, 1, kind(number, parcel.content)))
    content = envelope.message.content  # type: ignore[union-attr]
    return Arrival(PeerName(sender), Version(Boot(1), number), content, now)


def run_cell(kind: str, strategy: str) -> str:
    """`works`, or `refused: ` and the words.

    Raises:
        AssertionError: where it does neither as it should.
    """
    with _quiet():
        words = refusal_of(KINDS[kind], STRATEGIES[strategy])
        if words is not None:
            return _refused(kind, strategy, words)
        if STRATEGIES[strategy].delivery is Delivery.COLLECTIVE:
            _reduce(kind, strategy)
            return "works"
        _mix(kind, strategy)
        pair = _train(kind, strategy)
        _resume(kind, strategy)
        _donate(kind, strategy, pair)
        return "works"


def _refused(kind: str, strategy: str, words: str) -> str:
    collective = STRATEGIES[strategy].delivery is Delivery.COLLECTIVE
    spec = _collective(kind, strategy, "file:///nowhere") if collective else specs_of(kind, strategy)[0]
    told = ""
    try:
        worker_of(spec)
    except NeedsError as error:  # exit code 6
        told = str(error)
    assert words in told, f"to be refused by {words!r}, and it is {told or 'not refused'}"
    return f"refused: {words.rstrip(': ')}"


# --- mix ----------------------------------------------------------------------------------------------------------


def _mix(kind: str, strategy: str) -> None:
    specs = specs_of(kind, strategy)
    pair = Pair({spec.name: worker_of(spec, still=True, moved=True) for spec in specs})
    starts = {name: _snapshot(worker.learner.model) for name, worker in pair.workers.items()}
    for number in range(ROUNDS):
        pair.step(0.1 * number)
    moving = _moving(kind)
    for name, other in (("ada", "bo"), ("bo", "ada")):
        worker, start, goal = pair.workers[name], starts[name], starts[other]
        averaged = set(_averaged(worker)) if strategy in (*AVERAGES, "leader_sgd") else set()
        now = _snapshot(worker.learner.model)
        share = _share(start, goal, now, averaged - moving)
        if strategy in AVERAGES and _differ(start, goal, averaged):
            assert 0.01 < share < 0.99, f"{name} has gone {share:.3g} of the way to {other}"
        for key, tensor in now.items():
            if key in moving:
                continue
            if key in averaged and share > 0.0:
                _check_place(key, start[key], goal[key], tensor, share)
            else:
                assert _same(tensor, start[key]), f"{name}'s {key} has changed, which nobody mixes"
        _check_teachers(worker, starts, moving)


def _averaged(worker: Worker) -> Iterator[str]:
    """Names of the entries of `state_dict` that the strategy averages, whatever they share their memory with."""
    shared, settled = worker.learner.shared, worker.gossip.strategy.delivery.settled
    for name, tensor in registered(worker.learner.model):
        known = shared.aliases.get(name, name)
        number = tensor.is_floating_point() or tensor.is_complex()
        if number and (known in shared.parameters if settled else known in shared.names):
            yield name


def _share(
    start: Mapping[str, Tensor], goal: Mapping[str, Tensor], now: Mapping[str, Tensor], names: set[str]
) -> float:
    """How far the entries are on their way, from the one that has the longest way in the finest type."""
    best, share = 0.0, 0.0
    for name in names:
        way, gone = _real(goal[name]) - _real(start[name]), _real(now[name]) - _real(start[name])
        if way.numel():
            at = int(way.abs().argmax())
            length = float(way[at].abs()) / SLACK[start[name].dtype]
            if length > best:
                best, share = length, float(gone[at] / way[at])
    return share


def _check_place(name: str, start: Tensor, goal: Tensor, now: Tensor, share: float) -> None:
    expected = _real(start) + share * (_real(goal) - _real(start))
    allowed = SLACK[start.dtype] * (1e-3 + _real(start).abs() + _real(goal).abs())
    missed = (_real(now) - expected).abs() - allowed
    assert not bool((missed > 0).any()), f"{name} is not at {share:.4g} of the way, where all others are"


def _differ(start: Mapping[str, Tensor], goal: Mapping[str, Tensor], names: set[str]) -> bool:
    return any(not torch.equal(_real(start[name]), _real(goal[name])) for name in names)


def _check_teachers(worker: Worker, starts: Mapping[str, Mapping[str, Tensor]], moving: set[str]) -> None:
    """A teacher is the sender's model, bit for bit, in all that is shared."""
    if worker.gossip.strategy.name not in ("codistill_checkpoints", "codistill_groups"):
        return
    state = worker.gossip.state
    teachers: ModelTeachers = state if isinstance(state, ModelTeachers) else state.teachers
    assert teachers.by_key, "no teacher has come"
    for teacher in teachers.by_key.values():
        for name, tensor in _snapshot(teacher.model).items():
            if name not in moving and name not in worker.learner.shared.left_out:
                assert _same(tensor, starts[teacher.sender][name]), f"the teacher's {name} is not what was sent"


@cache
def _moving(kind: str) -> set[str]:
    """Names of what a forward pass changes in evaluation mode, without any step."""
    names: set[str] = set()
    for spec in specs_of(kind, "isolated"):
        worker = worker_of(spec, still=True)
        model, pair = worker.learner.model, Pair({spec.name: worker})
        before = _snapshot(model)
        for number in range(ROUNDS):
            pair.step(0.1 * number)
        names |= {name for name, tensor in _snapshot(model).items() if not _same(tensor, before[name])}
    return names


# --- train --------------------------------------------------------------------------------------------------------


def _train(kind: str, strategy: str) -> Pair:
    specs = specs_of(kind, strategy)
    pair = Pair({spec.name: worker_of(spec) for spec in specs})
    workers = [*pair.workers.values()]
    prints = [_prints(spec, worker) for spec, worker in zip(specs, workers, strict=True)]
    assert prints[0] == prints[1], "peers that begin alike would refuse one another"
    modes = [[module.training for module in worker.learner.model.modules()] for worker in workers]
    starts = [_snapshot(worker.learner.model) for worker in workers]
    ties = [_ties(worker.learner.model) for worker in workers]
    steepest = [_watch_gradients(worker) for worker in workers]
    for number in range(ROUNDS):
        pair.step(0.1 * number)
    for worker, was, start, tie, steep in zip(workers, modes, starts, ties, steepest, strict=True):
        learner, model = worker.learner, worker.learner.model
        assert math.isfinite(worker.task_loss), "the loss is not finite"
        assert [module.training for module in model.modules()] == was, "a module has changed its mode"
        assert _ties(model) == tie, "what was tied is not tied any more"
        assert not learner.ledger.quarantined, f"quarantined: {dict(learner.ledger.quarantined)}"
        odd = [text for text in learner.ledger.warnings if not any(word in text for word in TOLD)]
        assert not odd, f"warned: {odd[0]}"
        now, kept = _snapshot(model), learner.shared
        for name, tensor in now.items():
            constant = not bool(_real(start[name]).isfinite().all())
            assert constant or bool(_real(tensor).isfinite().all()), f"{name} is not finite"
            assert not constant or name in _moving(kind) or _same(tensor, start[name]), f"the constant {name} changed"
        used = {name for name, one in model.named_parameters() if _moves(one, steep.get(name, 0.0))}
        still = [name for name in used if _same(now[name], start[name])]
        assert used, "no parameter has a gradient"
        assert not still, f"{still[:1]} has a gradient and did not move"
        known = set(kept.names) | set(kept.aliases) | set(kept.left_out) | set(kept.unfit)
        assert {name for name, _ in registered(model)} <= known, "an array is neither shared nor named"
        if worker.gossip.strategy.delivery.gossips and strategy != "leader_sgd":
            assert learner.ledger.exchanges >= 2, f"{learner.ledger.exchanges} exchanges"
    if strategy in ("gossip_averaging", "codistill_checkpoints", "codistill_groups", "leader_sgd"):
        told = {array.name for array in pair.parcels[0].payload.layout}
        assert told == set(workers[0].learner.shared.names), "a payload lacks an array, or has one too many"
    figures = workers[0].evaluate()[1]
    assert all(math.isfinite(figure) for figure in figures.values()), f"figures {figures}"
    return pair


def _watch_gradients(worker: Worker) -> dict[str, float]:
    """The largest entry of each parameter's gradient, by name, as of the last step: a step gives gradients back."""
    steepest: dict[str, float] = {}

    def look(*_: object) -> None:
        for name, parameter in worker.learner.model.named_parameters():
            if parameter.grad is not None and parameter.numel():
                steepest[name] = float(_real(parameter.grad).abs().max())

    worker.learner.optimizer.register_step_pre_hook(look)
    return steepest


def _moves(parameter: nn.Parameter, steepest: float) -> bool:
    """Whether its gradient is so large that a step shows in its type."""
    if not steepest:
        return False
    return 0.05 * steepest > SLACK[parameter.dtype] * float(_real(parameter).abs().max())


def _prints(spec: WorkerSpec, worker: Worker) -> dict[str, str]:
    return fingerprint_of(spec, worker.gossip.strategy, worker.task, worker.learner.model)


def _ties(model: nn.Module) -> list[tuple[str, ...]]:
    """Names that have one memory."""
    names: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in registered(model):
        if tensor.layout is torch.strided and tensor.numel():
            names.setdefault((tensor.data_ptr(), tensor.dtype, tensor.shape), []).append(name)
    return [tuple(one) for one in names.values() if len(one) > 1]


# --- resume, donate, reduce ---------------------------------------------------------------------------------------


def _resume(kind: str, strategy: str) -> None:
    """Alone, so that no link tells the two lives apart."""
    spec = specs_of(kind, strategy)[0]
    torch.manual_seed(5)
    first = Pair({"ada": worker_of(spec)})
    for number in range(3):
        first.step(0.1 * number)
    checkpoint = _saved(first.workers["ada"])
    end = _lived_on(first, 3)
    again = Pair({"ada": worker_of(spec, resumed=checkpoint)})
    found = _snapshot(again.workers["ada"].learner.model)
    for name, tensor in checkpoint.tensors.items():
        at = name.removeprefix("model.")
        if at in found and found[at].layout is torch.strided and not found[at].is_quantized:
            assert torch.equal(_bits(found[at]), _bits(tensor.view(found[at].dtype).view(found[at].shape))), at
    resumed = _lived_on(again, 3)
    if KINDS[kind].resumes:
        for name, tensor in end.items():
            assert _same(resumed[name], tensor), f"{name} goes on differently after a checkpoint"


def _saved(worker: Worker) -> Checkpoint:
    """As it is read from a disk."""
    parts, content = worker.checkpoint().encode()
    return Checkpoint.decode(b"".join(parts), json.loads(json.dumps(content)))


def _lived_on(pair: Pair, step: int) -> dict[str, Tensor]:
    for number in range(step, step + 3):
        pair.step(0.1 * number)
    return _snapshot(pair.workers["ada"].learner.model)


def _donate(kind: str, strategy: str, pair: Pair) -> None:
    donor = pair.workers["ada"]
    specs = specs_of(kind, strategy)
    if not give_to_newcomers(donor.gossip, specs[0].config.exchange.given_bytes_per_s):
        return
    donor.gossip.endpoint.mailbox.tell(Neighbourhood(), ())
    for number in range(10):  # further than a newcomer, and better
        donor.step(1.0 + 0.1 * number)
    donor.gossip.endpoint.mailbox.collect()  # verdicts on what came before are nobody's matter any more
    newcomer = worker_of(specs[1])
    give_to_newcomers(newcomer.gossip, specs[1].config.exchange.given_bytes_per_s)
    meeting = Pair({"ada": donor, "bo": newcomer})
    given = _snapshot(donor.learner.model)
    joining, now = Joining(newcomer.gossip, LATE_S, 60.0), LATE_S
    while not joining.look(now):
        meeting.carry("bo", now)
        donor.gossip.endpoint.state_chunks()
        donor.gossip.give(now)
        meeting.carry("ada", now)
        now += 0.05
    told = [f"{event.kind}: {event.reason}" for event in newcomer.learner.ledger.news]
    assert joining.adopted, f"nothing was adopted: {told}"
    assert EventKind.ADOPTED in {event.kind for event in newcomer.learner.ledger.news}
    for name, tensor in _snapshot(newcomer.learner.model).items():
        if name not in newcomer.learner.shared.left_out and name not in _moving(kind):
            assert _same(tensor, given[name]), f"the newcomer's {name} is not the donor's"
    newcomer.step(now)
    assert math.isfinite(newcomer.task_loss), "the newcomer's loss is not finite"


def _collective(kind: str, strategy: str, rendezvous: str) -> WorkerSpec:
    """One peer alone, whose strategy brings its own transport, which no simulation has."""
    (spec,) = specs_of(kind, "isolated", peers=1)
    keys = type(spec.config.strategy).model_validate({"name": strategy, "rendezvous": rendezvous})
    config = spec.config.model_copy(update={"strategy": keys})
    return replace(spec, resolved=replace(spec.resolved, config=config))


def _reduce(kind: str, strategy: str) -> None:
    """One process alone: that there are others changes what torch.distributed does, not with what."""
    with tempfile.TemporaryDirectory() as folder:
        spec = _collective(kind, strategy, f"file://{os.path.join(folder, 'meet')}")
        worker = worker_of(spec)
        try:
            pair = Pair({"ada": worker})
            start = _snapshot(worker.learner.model)
            for number in range(3):
                pair.step(0.1 * number)
            assert math.isfinite(worker.task_loss), "the loss is not finite"
            now = _snapshot(worker.learner.model)
            assert any(not _same(tensor, start[name]) for name, tensor in now.items()), "nothing has been learned"
            checkpoint = _saved(worker)
        finally:
            torch.distributed.destroy_process_group()
        learner, _ = build_learner(spec, worker.gossip.strategy, worker.task)
        checkpoint.restore(learner.model, learner.optimizer)
        for name, tensor in _snapshot(learner.model).items():
            assert _same(tensor, now[name]), f"{name} is not what the checkpoint was made of"


# --- values -------------------------------------------------------------------------------------------------------


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all arrays, by name."""
    return {name: tensor.detach().clone() for name, tensor in registered(model)}


def _real(tensor: Tensor) -> Tensor:
    """The entries as real numbers of float64, in one row."""
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.detach().double().reshape(-1)


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bits(one), _bits(other))


def _bits(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch warns of many kinds of module that they are old, or new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

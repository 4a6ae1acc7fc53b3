"""From a specification to schedule, task and learner."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossipdistill.assembly.batches import rows_of_step
from gossipdistill.config.origins import TYPED, Source
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.events import EventKind
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.fitness import (
    ROWS_TRIED,
    extra_state,
    materialise,
    refuse_sparse_gradients,
    refuse_unfit,
    refuse_untrainable,
    sparse_gradients,
)
from gossipdistill.learning.gradients import wants_closure
from gossipdistill.learning.keeping import UnkeptError
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.snapshot import architecture_hash, weights_hash
from gossipdistill.machine.devices import choose_device
from gossipdistill.optimizers import build_optimizer
from gossipdistill.strategies import Delivery, Initialisation, Strategy
from gossipdistill.tasks import Shard, Task, fingerprint, load_task
from gossipdistill.topology import Schedule, groups_of, judge, load_topology
from gossipdistill.user_code import users_setup

_JUDGED_PEERS_MAX = 512
_SEEDS_ITSELF = (
    "Task.model seeds torch's generator itself (torch.manual_seed), so peers may begin with the same weights; {} "
    "teaches by their differences: leave the seed to the run (--seed)"
)


def build_schedule(spec: WorkerSpec, strategy: Strategy) -> Schedule:
    """The schedule, which says which peer sends to which. Without a roster its labels are places. The reference worker
    on all data is alone. For a single peer the topology is not used: it may name others, or need more peers.

    Raises:
        NeedsError: when the strategy needs news to get round, and it does not.
    """
    if spec.pooled:
        return load_topology("complete", (spec.name,))
    labels = spec.names or tuple(f"place-{place + 1}" for place in range(spec.count))
    schedule = load_topology(spec.config.topology, labels, base=spec.topology_base)
    if (strategy.needs.strongly_connected or strategy.needs.symmetric) and 1 < len(labels) <= _JUDGED_PEERS_MAX:
        judgement = judge(schedule)
        if strategy.needs.strongly_connected and not judgement.strongly_connected:
            groups = "; ".join(", ".join(group) for group in judgement.groups)
            raise NeedsError(
                f"strategy {strategy.name} needs a strongly connected topology, and {spec.config.topology} "
                f"is not: news does not get round between {groups}"
            )
        if strategy.needs.symmetric and not judgement.symmetric:
            raise NeedsError(
                f"strategy {strategy.name} needs a topology in which each link has its reverse, and "
                f"{spec.config.topology} has some one way only; ring, complete, torus and random_regular are symmetric"
            )
    _refuse_groups_apart(spec, strategy, schedule)
    return schedule


def _refuse_groups_apart(spec: WorkerSpec, strategy: Strategy, schedule: Schedule) -> None:
    """Members of one group average their weights: news must get round among them."""
    if strategy.needs.initialisation is not Initialisation.GROUPS or not spec.names:
        return
    members: dict[int, set[str]] = {}
    for place, name in enumerate(spec.names):
        members.setdefault(strategy.start_of(name, place, spec.count), set()).add(name)
    for group in members.values():
        parts = groups_of(schedule, group) or ()
        if len(parts) > 1:
            apart = "; ".join(", ".join(part) for part in parts)
            raise NeedsError(
                f"strategy {strategy.name} needs links inside each group, and in {spec.config.topology} news does not "
                f"get round, inside one group, between {apart}; complete has them, or give strategy.groups by names"
            )


def fewer_will_do(spec: WorkerSpec) -> bool:
    """Whether `task.examples_per_peer` was written for other peers than there are now: by the ready-made run, or by a
    run file whose peers the command line or the environment has replaced."""
    written, peers = map(spec.resolved.origins.get, ("task.examples_per_peer", "peers"))
    changed = (peers is not None and peers.source in TYPED) or not spec.names
    source = written.source if written is not None else None
    return source is Source.FIRST_LIGHT or (source is Source.RUN_FILE and changed)


def build_task(spec: WorkerSpec, strategy: Strategy) -> Task:
    """The task with this peer's shard of the data.

    Raises:
        ConfigError, DataMissingError, NeedsError: as the user is to read it.
    """
    index, count = spec.shard or (spec.place, spec.count)
    keys = spec.config.task
    shard = Shard(
        index,
        count,
        keys.shards,
        keys.examples_per_peer,
        spec.config.seed,
        spec.data_dir,
        spec.pooled,
        keys.skew,
        keys.classes_per_peer,
        fewer_will_do(spec),
    )
    task = load_task(keys.name, shard, spec.config.task_options(), spec.user_folder)
    if strategy.needs.class_outputs and not task.distillable:
        raise NeedsError(
            f"strategy {strategy.name} compares class probabilities, and the outputs of task {keys.name} are none; "
            "use gossip_averaging, or a task whose labels are class numbers"
        )
    if strategy.needs.transfer_set and task.transfer is None:
        raise NeedsError(
            f"strategy {strategy.name} exchanges predictions on a transfer set, and task {keys.name} has none; "
            "give Task(transfer=...) unlabelled inputs, or use codistill_checkpoints"
        )
    return task


def build_model(spec: WorkerSpec, strategy: Strategy, task: Task, model: nn.Module | None = None) -> nn.Module:
    """The peer's model on its device: `model`, or one of the task's, which under a strategy that needs no identical
    start has the same weights for the same peer."""
    torch.manual_seed(_seed_of_model(spec, strategy))
    device = choose_device(spec.device, spec.place)
    with users_setup("Task.model", home=task.made_at):
        model = task.model() if model is None else model
        if not isinstance(model, nn.Module):
            found = type(model).__name__
            raise ConfigError(f"must return a torch.nn.Module, returned a {found}", key="Task.model")
        refuse_untrainable(model)
        model = model.to(device)
        materialise(model, _few(task, device)[0])
    refuse_unkept(model)
    task.check_model(model)
    shares = strategy.delivery.gossips and strategy.needs.alike_models
    refuse_unfit(model, strategy.name, shares, strategy.delivery is Delivery.COLLECTIVE)
    return model


def build_learner(
    spec: WorkerSpec, strategy: Strategy, task: Task, model: nn.Module | None = None, optimizer: Optimizer | None = None
) -> tuple[Learner, Draws]:
    """The model with its optimizer, both made unless they are given, and the order in which this peer goes through its
    examples."""
    config = spec.config
    model = build_model(spec, strategy, task, model)
    seeds_itself = torch.initial_seed() != _seed_of_model(spec, strategy)
    device = choose_device(spec.device, spec.place)
    step_rows = rows_of_step(spec, task, model, device)
    train = config.train
    options = train.optimizer_options
    optimizer = optimizer or build_optimizer(
        train.optimizer,
        model,
        train.lr,
        train.momentum,
        train.weight_decay,
        options,
        asked="train.momentum" in spec.resolved.origins,
        folder=spec.user_folder,
    )
    refuse_sparse_gradients(model, optimizer, sparse_gradients(model, task.loss, *_few(task, device)))
    _refuse_closure(strategy, optimizer)
    refuse_unkept(optimizer=optimizer)
    transfer_draws = None
    if task.transfer is not None:
        size = getattr(strategy.options, "transfer_batch_size", train.batch_size)
        rows = len(task.transfer)
        transfer_draws = Draws(rows, min(size, rows), config.seed + 7919 * (spec.place + 1))
    learner = Learner(
        name=spec.name,
        place=spec.place,
        peers=tuple(spec.names) or (spec.name,),
        model=model,
        optimizer=optimizer,
        device=device,
        seed=config.seed,
        transfer=task.transfer.to(device) if task.transfer is not None else None,
        transfer_draws=transfer_draws,
        classes=task.class_count,
        count=spec.count,
        refuse_unusual=config.exchange.refuse_unusual,
        steps_total=config.steps if config.seconds is None else None,
    )
    if step_rows.notice:
        _tell(learner, step_rows.notice)
    if strategy.delivery.gossips and strategy.needs.alike_models:
        _tell_extra_state(learner)
    if seeds_itself and strategy.needs.initialisation in (Initialisation.DISTINCT, Initialisation.GROUPS):
        _tell(learner, _SEEDS_ITSELF.format(strategy.name))
    return learner, Draws(len(task.train[0]), step_rows.count, config.seed + 104_729 * (spec.place + 1))


def refuse_unkept(model: nn.Module | None = None, optimizer: Optimizer | None = None) -> None:
    """Refuse a model, or an optimizer, that a checkpoint cannot hold: by copying it, as each checkpoint will.

    Raises:
        NeedsError: naming the entry, and what it is.
    """
    no_optimizer = torch.optim.SGD([torch.zeros(1)])
    try:
        Checkpoint.of(model if model is not None else nn.Module(), optimizer or no_optimizer, {})
    except UnkeptError as error:
        raise NeedsError(f"a peer is to go on from its checkpoints, and {error}") from None


def _tell_extra_state(learner: Learner) -> None:
    """Warn of the entries of the model that do not travel with its weights, because they are neither parameters nor
    buffers."""
    names = extra_state(learner.model)
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        told = f"{', '.join(names[:3])}{more}: extra state of a module is not shared; each peer keeps its own"
        _tell(learner, told)


def _tell(learner: Learner, warning: str) -> None:
    """Give a warning in the table and among the events."""
    learner.ledger.warn(warning)
    learner.ledger.note(EventKind.WARNING, "", warning)


def _seed_of_model(spec: WorkerSpec, strategy: Strategy) -> int:
    return spec.config.seed + 1000 * strategy.start_of(spec.name, spec.place, spec.count)


def _refuse_closure(strategy: Strategy, optimizer: Optimizer) -> None:
    """An optimiser that evaluates the loss as often as it likes does not go in step with others."""
    if strategy.delivery is Delivery.COLLECTIVE and wants_closure(optimizer):
        kind = type(optimizer).__name__
        raise NeedsError(
            f"strategy {strategy.name} averages the gradients of all peers once a step, and {kind} decides by its own "
            "loss how often it needs one; use another train.optimizer, or gossip_averaging"
        )


def _few(task: Task, device: torch.device) -> tuple[Tensor, Tensor]:
    """A few rows of the validation data, on which a model is tried."""
    x, y = task.validation
    return x[:ROWS_TRIED].to(device), y[:ROWS_TRIED].to(device)


def fingerprint_of(spec: WorkerSpec, strategy: Strategy, task: Task, model: nn.Module) -> dict[str, str]:
    """What two peers compare at first contact; they must agree on all of it. The model is as it begins."""
    prints = {"run": spec.config.name, "strategy": strategy.name, **strategy.agreed()}
    prints |= fingerprint(task, spec.config.task.name)
    if strategy.needs.alike_models:
        prints["model"] = architecture_hash(model)
    if strategy.needs.initialisation is Initialisation.IDENTICAL:
        prints["initial weights"] = weights_hash(model)
    elif strategy.needs.initialisation is Initialisation.GROUPS:
        # Other groups have other weights, so theirs cannot be compared; what all of them are made from can.
        prints["seed of the initial weights"] = str(spec.config.seed)
    return prints

"""A real worker as a learner of the simulated world: built as in a worker process, stepped in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gossipdistill.assembly.blaming import in_training
from gossipdistill.assembly.building import build_task
from gossipdistill.assembly.examining import Examiner
from gossipdistill.assembly.publishing import refuse_unsendable
from gossipdistill.assembly.worker import Given, Parts
from gossipdistill.config.schema import RunConfig
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import UserCodeError
from gossipdistill.events import Event
from gossipdistill.faults import FaultPlan
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.mailbox import Mailbox
from gossipdistill.messages import Payload
from gossipdistill.sim.compute import Pace
from gossipdistill.strategies import Strategy
from gossipdistill.strategies.base import Delivery
from gossipdistill.tasks import Task
from gossipdistill.topology import Schedule
from gossipdistill.training.joining import give_to_newcomers, is_newcomer
from gossipdistill.training.lifecycle import Lifecycle, Phase
from gossipdistill.training.worker import Worker

_LOOK_AGAIN_S = 0.02
"""A peer that waits or serves looks for messages at this interval in seconds, as the worker process does."""


@dataclass(slots=True)
class SimulatedPeer:
    """Steps a worker until its limit in steps or seconds, then serves the others."""

    worker: Worker
    config: RunConfig
    examiner: Examiner
    pace: Pace
    seconds: float | None
    steps: int | None
    checkpoint_every_s: float = 0.0
    finished_s: float | None = None
    """The world time (s) of its last step; None while it trains."""
    steps_before: int = 0
    checkpoint: Checkpoint | None = None
    """The checkpoint that a worker process would find on its disk."""
    world_s: Callable[[], float] = lambda: 0.0
    """It stands for the time of day (s), and goes on over restarts."""
    tell: Callable[[Event], None] = lambda event: None
    """It takes the events of the learner."""
    joins_within_s: float | None = None
    """A newcomer asks for a model for this many seconds before its first step; None: it is not a newcomer."""
    began_s: float | None = None
    """The world time (s) of its first step."""
    _life: Lifecycle = field(init=False)
    _saved_s: float = 0.0

    def __post_init__(self) -> None:
        self._life = Lifecycle(self.worker, self.steps)

    def step(self, now: float) -> float | None:
        """Do one step; in lockstep, check the peers that it waits for; after the last step, handle what has arrived."""
        worker = self.worker
        for event in worker.gossip.endpoint.mailbox.drain_events():  # the world records them
            self.examiner.hear(event)
        try:
            out = self._step(now)
        except UserCodeError as error:
            cause, of = error.__cause__ or error, f", at peer {worker.learner.name}"
            raise in_training(cause, error.what, worker.task, worker.learner, self.config, of) from cause
        for event in worker.learner.ledger.take_news(now):
            self.tell(event)
        left = self._life.event(now) if out is None else None
        if left is not None:
            self.tell(left)
        return out

    def part(self, now: float) -> None:
        """End on request: mass is handed over to a neighbour first, as by a worker process."""
        if self._life.phase in (Phase.LEAVING, Phase.GONE):
            return
        self._life.leave(now)
        if not self.finished:
            self._save()

    def _step(self, now: float) -> float | None:
        life = self._life
        if self.joins_within_s is not None and life.phase is Phase.TRAINING:
            life.catch_up(now, self.joins_within_s)
            self.joins_within_s = None
        wait_s = life.look(now, self._share())
        if wait_s == 0.0 and life.phase is Phase.TRAINING:  # it has just caught up
            wait_s = life.look(now, self._share())
        if self.began_s is None and life.phase in (Phase.TRAINING, Phase.FINISHED):
            self.began_s, self._saved_s = self.world_s(), now
        if life.phase is Phase.FINISHED:
            self._finish(now)
        elif wait_s is None and self.checkpoint_every_s and now - self._saved_s >= self.checkpoint_every_s:
            self._saved_s = now
            self._save()
        if life.phase in (Phase.LEAVING, Phase.GONE):
            return wait_s if life.phase is Phase.LEAVING else None
        return self.pace.next_s() if wait_s is None else _LOOK_AGAIN_S

    def _save(self) -> None:
        self.checkpoint = self.worker.checkpoint(saved_unix_s=self.world_s())

    @property
    def catches_up(self) -> bool:
        """Whether it asks the others for their model, before its first step."""
        return self._life.phase is Phase.CATCHING_UP

    @property
    def finished(self) -> bool:
        """Whether it has done its steps and serves the others."""
        return self.finished_s is not None

    def trained_s(self, now_s: float) -> float:
        """World seconds from its first step to its last, or to `now_s`."""
        end_s = self.finished_s if self.finished_s is not None else now_s
        return end_s - self.began_s if self.began_s is not None else 0.0

    def _finish(self, now: float) -> None:
        self.finished_s = self.world_s()
        self._save()
        self._life.serve(now)

    def _share(self) -> float:
        """The share of the run that is over. A restarted process ends with the others, so all count from the start of
        the run."""
        shares = [self.worker.learner.step / self.steps] if self.steps else []
        if self.seconds:
            shares.append(self.world_s() / self.seconds)
        return min(max(shares, default=0.0), 1.0)


class MassOfPeer(SimulatedPeer):
    """A simulated peer of a strategy with mass: it reports the weight that it holds."""

    __slots__ = ()

    def mass(self) -> tuple[float, ...]:
        """(push-sum weight)."""
        return (self.worker.gossip.held_weight(),)

    def mass_of(self, payload: Payload, weight: float) -> tuple[float, ...]:
        """(push-sum weight) that a parcel carries."""
        return (weight,)


@dataclass(slots=True)
class PeerFactory:
    """Builds the peers of one run. Equal data are built once and shared. It does not set `wall_s`."""

    specs: Mapping[str, WorkerSpec]
    schedule: Schedule
    tasks: dict[str, Task] = field(default_factory=dict)
    plan: FaultPlan | None = None
    _shared: Task | None = None

    def task_of(self, spec: WorkerSpec, strategy: Strategy) -> Task:
        """This peer's task. Validation and transfer data are equal on all peers by contract, and are kept once."""
        if spec.name not in self.tasks:
            task = build_task(spec, strategy)
            if self._shared is None:
                self._shared = task
            else:
                task = _sharing(task, self._shared)
            self.tasks[spec.name] = task
        return self.tasks[spec.name]

    def born(
        self, name: str, mailbox: Mailbox, pace: Pace, before: SimulatedPeer | None, world_s: Callable[[], float]
    ) -> SimulatedPeer:
        """The learner of a process that starts. It resumes from the checkpoint of the process `before`, if there is
        one. Without a checkpoint, or with one that is too old, it starts from a donor."""
        spec = self.specs[name]
        config = spec.config
        strategy = config.make_strategy()
        task = self.task_of(spec, strategy)
        parts = Parts.of(spec, Given(strategy=strategy, schedule=self.schedule, task=task))
        learner = parts.learner
        refuse_unsendable(spec, strategy, task, learner.model)
        kept = before.checkpoint if before is not None else None
        if kept is not None:
            kept.restore(learner.model, learner.optimizer)
        worker = parts.worker(mailbox)
        if kept is not None:
            worker.resume(kept, generators=False)  # all peers of this process share them
        gives = give_to_newcomers(worker.gossip, config.exchange.given_bytes_per_s)
        joins = gives and before is not None and is_newcomer(kept, world_s(), config.exchange.fetch_if_older_s)
        kind = MassOfPeer if strategy.delivery is Delivery.MASS else SimulatedPeer
        examiner = Examiner(worker, config.train, plan=self.plan)
        examiner.begin(config.steps, kept is not None)
        made = kind(
            worker,
            config,
            examiner,
            pace,
            config.seconds,
            config.steps,
            config.train.checkpoint_every_s,
            steps_before=learner.step,
        )
        made.checkpoint, made.world_s = kept, world_s
        made.joins_within_s = config.exchange.fetch_within_s if joins else None
        return made


def _sharing(task: Task, first: Task) -> Task:
    """`task` with the tensors of the first peer's task where they are equal."""

    def one(mine: Tensor, theirs: Tensor) -> Tensor:
        return theirs if mine.shape == theirs.shape and torch.equal(mine, theirs) else mine

    validation = (one(task.validation[0], first.validation[0]), one(task.validation[1], first.validation[1]))
    transfer = task.transfer
    if transfer is not None and first.transfer is not None:
        transfer = one(transfer, first.transfer)
    shared = replace(task, validation=validation, transfer=transfer)
    object.__setattr__(shared, "dealt", task.dealt)
    return shared

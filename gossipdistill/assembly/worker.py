"""How all programs make a worker: a process, the simulator, benchmarks, experiments and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from gossipdistill.assembly.building import build_learner, build_schedule, build_task, fingerprint_of
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import Strategy
from gossipdistill.tasks import Task
from gossipdistill.topology import Schedule
from gossipdistill.training.worker import Worker


@dataclass(frozen=True, slots=True)
class Given:
    """Parts that are there already. The others are made from the specification."""

    strategy: Strategy | None = None
    schedule: Schedule | None = None
    task: Task | None = None
    model: nn.Module | None = None
    optimizer: Optimizer | None = None
    """It moves the parameters of `model`."""
    draws: Draws | None = None
    """The draws give the order of the examples."""


NOTHING = Given()


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one peer, before it has a network. A checkpoint is restored into the learner at this point."""

    spec: WorkerSpec
    strategy: Strategy
    schedule: Schedule
    task: Task
    learner: Learner
    draws: Draws

    @classmethod
    def of(cls, spec: WorkerSpec, given: Given = NOTHING, tell: Callable[[str], None] = lambda phase: None) -> Parts:
        """Make what is not given. `tell` is called with a text before each part that takes long.

        Raises:
            ConfigError, DataMissingError, NeedsError, UserCodeError: for the user to read.
        """
        if given.task is None:
            tell(f"reading the data of {spec.config.task.name}")
        strategy = given.strategy or spec.config.make_strategy()
        schedule = given.schedule or build_schedule(spec, strategy)
        task = given.task or build_task(spec, strategy)
        tell("building its model")
        learner, draws = build_learner(spec, strategy, task, given.model, given.optimizer)
        return cls(spec, strategy, schedule, task, learner, given.draws or draws)

    def worker(self, mailbox: Mailbox, strict: bool = False) -> Worker:
        """The peer with its network. `strict`: a strategy that breaks a rule is an exception, as in tests."""
        exchange, config = self.strategy.exchange, self.spec.config
        cadence = Cadence(exchange.every_steps, exchange.per_second_max)
        cosine, drops = config.train.lr_schedule == "cosine", config.train.rate_drops()
        return Worker(
            self.learner,
            self.task,
            self.strategy,
            self.schedule,
            mailbox,
            cadence,
            self.draws,
            cosine,
            config.gradient_rules(),
            drops,
            strict,
        )

    def fingerprint(self) -> dict[str, str]:
        """What two peers compare at first contact, of the model as it is now."""
        return fingerprint_of(self.spec, self.strategy, self.task, self.learner.model)


def build_worker(spec: WorkerSpec, mailbox: Mailbox, given: Given = NOTHING, strict: bool = False) -> Worker:
    """The worker of this peer: the same keys have the same effect in a process, a simulation and an experiment.

    Raises:
        ConfigError, DataMissingError, NeedsError, UserCodeError: for the user to read.
    """
    return Parts.of(spec, given).worker(mailbox, strict)

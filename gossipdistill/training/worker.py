"""One peer's training, stepped from outside: batches, gradients and the learning rate; the gossip half does the rest.

The owner calls `step(now)` and decides how time passes between the calls (real processes sleep, a simulator jumps).
Where a strategy goes in lockstep, the owner first asks `gossip.awaited(now)`, and lets time pass until no peer is.
"""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field, replace

from torch import Tensor

from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.fitness import unscaled
from gossipdistill.learning.gradients import ONE_BATCH, Evaluation, GradientRules, make_gradient, make_step
from gossipdistill.learning.holding_out import hold_out
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.learning.nesterov import finite_sum_risk
from gossipdistill.learning.outcome import LossTrace
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies.base import Strategy
from gossipdistill.tasks import Task, figures
from gossipdistill.topology import Schedule
from gossipdistill.training.gossip import Gossip
from gossipdistill.user_code import called, users_code


@dataclass(slots=True)
class Worker:
    """Trains a learner on a task, beside its `gossip` half, which is made of the arguments that are no fields."""

    learner: Learner
    task: Task
    strategy: InitVar[Strategy]
    schedule: InitVar[Schedule]
    """The schedule says which peer sends to which: over places, as texts "0", "1", ..., or over names."""
    mailbox: InitVar[Mailbox]
    cadence: InitVar[Cadence]
    draws: Draws
    cosine: bool = False
    gradient: GradientRules = ONE_BATCH
    rate_drops: tuple[float, ...] = ()
    """At these shares of the run the learning rate falls tenfold; not together with the cosine."""
    strict: InitVar[bool] = False
    """Whether a strategy that leaves an arrival unsettled is an exception, as in tests, or only a warning."""
    gossip: Gossip = field(init=False)
    task_loss: float = float("nan")
    trace: LossTrace = field(default_factory=LossTrace)

    def __post_init__(
        self, strategy: Strategy, schedule: Schedule, mailbox: Mailbox, cadence: Cadence, strict: bool
    ) -> None:
        x, y = (part.to(self.learner.device) for part in self.task.train)
        self.learner.criterion = called(self.task.loss, "Task.loss")
        self.learner.examples = (x, y)
        if strategy.held_out > 0.0:
            self.draws = hold_out(self.learner, self.draws, strategy.held_out, self.gradient.accumulate)
        # A strategy that looks ahead gets draws of its own: these keep the order of one epoch.
        self.learner.draws = replace(self.draws)
        self.gossip = Gossip.of(self.learner, strategy, schedule, mailbox, cadence, strict)

    def step(self, now: float, progress: float = 0.0) -> None:
        """One optimizer step at clock reading `now` (s); posts and takes on the way.

        `progress` is how much of the run is over, 0 to 1, by steps or by time: what learning rates follow.
        """
        learner, gossip = self.learner, self.gossip
        if self.cosine or self.rate_drops:
            with users_code("train.optimizer"):  # the groups of a user's optimizer may lack a rate
                self._set_rate(progress)
        if gossip.alarms.began_s is None:
            self._tell_risks()
        gossip.begin_step(now)
        rows = self.draws.at(learner.step)

        def evaluate() -> Evaluation:
            return make_gradient(learner, self.gradient, rows, gossip.loss)

        first = evaluate()
        self.task_loss = first.task_loss
        self.trace.look(self.task_loss, learner.step + 1)
        gossip.adjust()
        if not gossip.strategy.owns_step:
            make_step(learner, first, evaluate)
        gossip.end_step(now)

    def checkpoint(self, **progress: float) -> Checkpoint:
        """A copy of what this peer remembers of its training, `progress` included, while it waits."""
        learner, gossip = self.learner, self.gossip
        counted = {"step": learner.step, "exchanges": gossip.endpoint.cadence.exchanges, **progress}
        memory = gossip.remember()
        return Checkpoint.of(learner.model, learner.optimizer, counted, gossip.strategy.name, memory, learner.built)

    def resume(self, checkpoint: Checkpoint, generators: bool = True) -> None:
        """Go on from a checkpoint whose model and optimizer are restored already. Where nothing is exchanged, training
        goes on as if uninterrupted; where something is, no state of a link is restored. `generators`: restore the
        global ones as well."""
        self.learner.step = int(checkpoint.progress["step"])
        if not self.cosine and not self.rate_drops:
            self._leave_schedule()
        memory = checkpoint.recalled(self.gossip.strategy.name)
        self.gossip.recall(memory, int(checkpoint.progress.get("exchanges", 0)))
        if generators:
            checkpoint.restore_generators(self.learner.device)

    def evaluate(self) -> tuple[Tensor, dict[str, float]]:
        """(outputs [V, ...] for the validation inputs on the CPU, {"loss": ..., and the task's metrics})."""
        x, y = self.task.validation
        outputs = self.learner.predict(self.learner.model, x.to(self.learner.device)).cpu()
        return outputs, figures(self.task, outputs, y)

    def _tell_risks(self) -> None:
        constant = not self.cosine and not self.rate_drops
        learner = self.learner
        assert learner.examples is not None
        risk = finite_sum_risk(learner.optimizer, self.draws.batch_size, len(self.task.train[0]), constant)
        learner.ledger.tell(risk or "")
        learner.ledger.tell(unscaled(learner.examples[0]))

    def _set_rate(self, progress: float) -> None:
        """lr = initial lr * (1 + cos(pi * progress)) / 2 (Loshchilov and Hutter 2017, 1608.03983, equation 5); or
        initial lr / 10^(drops so far)."""
        share = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        if not self.cosine:
            share = 10.0 ** -sum(progress >= drop for drop in self.rate_drops)
        for group in self.learner.optimizer.param_groups:
            rate = group["lr"]
            if isinstance(rate, Tensor):  # compiled and captured steps read this very tensor
                rate.copy_(group.setdefault("initial_lr", rate.clone()) * share)
            else:
                group["lr"] = group.setdefault("initial_lr", rate) * share

    def _leave_schedule(self) -> None:
        """The checkpoint is of a run in which `_set_rate` moved the rates, and in this one nothing does."""
        for group, built in zip(self.learner.optimizer.param_groups, self.learner.built, strict=True):
            if "initial_lr" in group and "initial_lr" not in built:
                group["lr"] = group.pop("initial_lr")

"""One peer's model before its first step and after its last, and the verdict on the difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from gossipdistill.config.schema import TrainKeys
from gossipdistill.events import Event, EventKind
from gossipdistill.faults import FaultPlan
from gossipdistill.learning.answers import class_answers, spread_rows
from gossipdistill.learning.clipping import largest
from gossipdistill.learning.company import Unexchanged, unexchanged
from gossipdistill.learning.evaluation import untouched
from gossipdistill.learning.outcome import COMPARED_AFTER_STEPS, Answers, Ending, Look, Outcome, Settings, judge
from gossipdistill.learning.snapshot import not_finite
from gossipdistill.strategies import Delivery
from gossipdistill.tasks import figures
from gossipdistill.training.worker import Worker

ROWS_MAX = 256
"""This number of rows, evenly spread over the validation set, and this number of the own examples are compared."""
_ENTRIES_MAX = 1 << 24
"""One table of outputs has at most this number of entries; fewer rows are looked at where one row has many."""
_SAID = (EventKind.WARNING, EventKind.MUTED, EventKind.UNREACHABLE, EventKind.REFUSED_BY, EventKind.REFUSED)
"""Events of these kinds about a neighbour may be the reason why nothing comes from it."""
_SAID_MAX = 4
_KINDS = {
    Ending.FINISHED: EventKind.FINISHED,
    Ending.DIVERGED: EventKind.DIVERGED,
    Ending.COLLAPSED: EventKind.COLLAPSED,
}


_WELL = Outcome()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a peer's training, and of its exchange."""

    outcome: Outcome = _WELL
    unexchanged: Unexchanged | None = None

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why this is no success although the model may be sound."""
        one = self.unexchanged
        return (one.reason,) if one is not None and one.failure else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that the user should read, the most important first."""
        one = self.unexchanged
        return (*self.outcome.warnings, *([one.reason] if one is not None else []))

    def events(self, now: float, steps: int) -> list[Event]:
        """The events for `story`: how training ended, and the warnings."""
        ending = self.outcome.ending
        told = self.warnings[1:] if self.outcome.reason else self.warnings
        last = Event(_KINDS[ending], now, "", self.outcome.reason or f"after {steps} steps")
        return [*(Event(EventKind.WARNING, now, "", line) for line in told), last]


@dataclass(slots=True)
class Examiner:
    """Looks at a worker's model, which stays as it is."""

    worker: Worker
    train: TrainKeys
    start: Look | None = None
    plan: FaultPlan | None = None
    """This fault plan says what goes wrong in this run on purpose."""
    steps_before: int = 0
    exchanges_before: int = 0
    _heard: dict[str, str] = field(default_factory=dict)
    _said: bool = False

    def begin(self, steps: int | None, resumed: bool) -> None:
        """Before the first step of a run of `steps` steps (None: by time). A process that goes on from a checkpoint has
        no start to look at any more."""
        worker = self.worker
        self.steps_before, self.exchanges_before = worker.learner.step, worker.gossip.endpoint.cadence.exchanges
        if resumed or (steps is not None and steps < COMPARED_AFTER_STEPS):
            return
        try:
            self.start = self._look(None).kept()
        except Exception:  # from the user's code: it will occur again in the first step, and is reported there
            self.start = None

    def hear(self, event: Event) -> None:
        """Take in what the network reports of a peer."""
        if event.peer and event.kind in _SAID:
            self._heard.pop(event.peer, None)
            self._heard[event.peer] = event.reason

    def divergence(self, now: float) -> Event | None:
        """An event, given once, when the loss has not been finite for some steps."""
        trace = self.worker.trace
        if self._said or not trace.diverged:
            return None
        self._said = True
        reason = f"the training loss has not been finite since step {self.worker.learner.step - trace.in_a_row + 1}"
        return Event(EventKind.WARNING, now, "", f"{reason} (a smaller train.lr may help)")

    def end(self, outputs: Tensor, figures: Mapping[str, float], now: float, confirmed_by: Sequence[str]) -> Verdict:
        """The verdict, from the outputs [V, ...] for the whole validation set (CPU) and what was measured on them."""
        worker = self.worker
        steps = worker.learner.step - self.steps_before
        if not worker.learner.step:
            return Verdict()
        bound = largest(worker.gradient.clip_norm, worker.learner.norms)
        settings = Settings(self.train.lr, bound, worker.learner.step)
        labels = (worker.task.validation[1], worker.task.train[1])
        alone = not worker.learner.ledger.exchanges and worker.gossip.strategy.delivery is not Delivery.COLLECTIVE
        outcome = judge(
            self._look(outputs),
            self.start if steps >= COMPARED_AFTER_STEPS else None,
            worker.trace,
            steps=worker.learner.step,
            broken=self._broken(outputs),
            figures=figures,
            labels=labels,
            alone=alone,
            settings=settings,
            whole=class_answers(outputs, labels[0]),
        )
        if outcome.ending is Ending.DIVERGED or not steps:
            return Verdict(outcome)  # what is not finite is not published either
        return Verdict(outcome, self._unexchanged(steps, now, confirmed_by))

    def _unexchanged(self, steps: int, now: float, confirmed_by: Sequence[str]) -> Unexchanged | None:
        alarms = self.worker.gossip.alarms
        if not alarms.gossips:
            return None
        alarms.notice_company(now, last=True)
        there = alarms.company.senders | alarms.company.recipients
        said = [f"{name}: {reason}" for name, reason in self._heard.items() if name in there]
        due = self.worker.gossip.endpoint.cadence.exchanges - self.exchanges_before
        plan = self.plan.name or "of this run" if self.plan is not None and self.plan.fault else ""
        confirmed = bool(there.intersection(confirmed_by))
        return unexchanged(alarms.attempt(steps, due, confirmed=confirmed, network=said[-_SAID_MAX:], plan=plan))

    def _broken(self, outputs: Tensor) -> str:
        model, shared = self.worker.learner.model, self.worker.learner.shared
        # What was not finite before the first step either is left out, such as a mask of -inf.
        odd = {*shared.left_out, *shared.unfit}
        parameters = {name: p for name, p in model.named_parameters(remove_duplicate=False) if name not in odd}
        # A buffer that is not shared may hold any value.
        name = not_finite(shared.arrays(model) if self.worker.gossip.strategy.needs.alike_models else parameters)
        if name is not None:
            return f"{'parameter' if name in parameters else 'buffer'} {name[:80]} is not finite"
        return "its outputs for the validation set hold NaN" if bool(outputs.isnan().any()) else ""

    def _look(self, outputs: Tensor | None) -> Look:
        """The model on the rows that are compared; `outputs` [V, ...] where they are known."""
        worker, task = self.worker, self.worker.task
        x, y = task.validation
        with untouched(worker.learner.model):
            rows = spread_rows(len(x), ROWS_MAX)
            given = self._outputs(x[rows]) if outputs is None else outputs[rows]
            validation = self._answers(x[rows], given, y[rows])
            per_row = max(given[:1].numel(), 1)
            x, y = task.train
            rows = spread_rows(len(x), min(ROWS_MAX, max(_ENTRIES_MAX // per_row, 2)))
            own = self._answers(x[rows], self._outputs(x[rows]), y[rows], metrics=False)
        return Look(validation, own)

    def _outputs(self, x: Tensor) -> Tensor:
        learner = self.worker.learner
        return learner.predict(learner.model, x.to(learner.device)).cpu()

    def _answers(self, x: Tensor, outputs: Tensor, y: Tensor, metrics: bool = True) -> Answers:
        measured = figures(self.worker.task, outputs, y, lenient=True, metrics=metrics)
        return Answers.of(x, outputs, y, measured.pop("loss", math.nan), measured)

"""The life of a worker once it is ready: wait, train, write the result, serve."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gossipdistill.assembly.examining import Examiner, Verdict
from gossipdistill.assembly.results import Process, peer_result
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.drivers.network_thread import NetworkThread
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.errors import GossipdistillError, UserCodeError
from gossipdistill.events import Event, EventKind
from gossipdistill.learning.live_validation import LiveValidation
from gossipdistill.observe.recorder import Recorder
from gossipdistill.observe.records import PeerRecord
from gossipdistill.observe.told import Done, Progress, Report, Result
from gossipdistill.runtime.injected_faults import InjectedFaults
from gossipdistill.runtime.peer_files import PeerFiles
from gossipdistill.runtime.run_clock import RunClock
from gossipdistill.runtime.saving import Checkpoints
from gossipdistill.runtime.stopping import GRACE_S, StopRequest
from gossipdistill.runtime.welcome import Welcome
from gossipdistill.training.lifecycle import Lifecycle, Phase
from gossipdistill.training.worker import Worker

_REPORT_EVERY_S = 0.25
_LOOK_EVERY_S = 0.02
_LAST_WRITING_S = 10.0
"""A process that is superseded has this long to write its checkpoint and result; then it ends in any case."""
_LAST_WORDS_S = 0.3
"""The seconds of a stopped process's time that are reserved for writing and reporting its result."""


@dataclass
class Session:
    """Owns the training loop. `report` receives records for the launcher or the display."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    worker: Worker
    network: NetworkThread
    driver: Driver
    recorder: Recorder
    start_count: int
    injected: InjectedFaults
    clock: RunClock
    checkpoints: Checkpoints
    files: PeerFiles
    examiner: Examiner
    live: LiveValidation
    welcome: Welcome
    _reported_s: float = 0.0
    _looked_s: float = 0.0
    _fatal: GossipdistillError | None = None
    _life: Lifecycle = field(init=False)

    def __post_init__(self) -> None:
        self._life = Lifecycle(self.worker, self.spec.config.steps)

    def catch_up(self, within_s: float) -> None:
        """Ask other peers for a model before a newcomer's first step. Ends once it has one, or no peer can give one."""
        self._life.catch_up(self.injected.clock(), within_s)
        while self.stop.reason is None and self._life.phase is Phase.CATCHING_UP:
            time.sleep(self._life.look(self.injected.clock()) or 0.0)
            self.look()

    def train_and_serve(self) -> PeerRecord:
        """Train to the limit, write the result, then serve until the others are done."""
        worker, learner = self.worker, self.worker.learner
        self.clock.begin(learner.step)
        self.checkpoints.begin(self.clock.began_s)
        self.recorder.record(Event(EventKind.STARTED, self.clock.began_s, "", f"training at step {learner.step}"))
        steps = self.spec.config.steps
        if learner.step and steps is not None and learner.step >= steps:
            learner.ledger.warn(f"its checkpoint is at step {learner.step} of {steps} already: nothing left to do")
        self._train()
        self.report(self._progress(time.monotonic()))
        wall_s, cpu_s = time.monotonic() - self.clock.began_s, self.clock.cpu_s()
        status = {None: "finished", "interrupted": "interrupted"}.get(self.stop.reason, "left")
        # First without figures: they may take longer than a stopped process has, and a checkpoint may fill the disk.
        ending = "left" if self.stop.reason is None else status  # also for a superseded process
        self.files.write_result(self._result(ending, wall_s, cpu_s, None, Verdict()))
        self.checkpoints.save()
        if self._life.phase is Phase.LEAVING:
            self._leave()
        self.checkpoints.settle()
        for event in self.checkpoints.news(time.monotonic()):
            self.recorder.record(event)
        self._end_for_cause(self._result(ending, wall_s, cpu_s, None, Verdict()))
        for line in () if self.welcome.accepted else self.driver.unanswered():
            learner.ledger.warn(line)
        self.files.write_result(self._result(ending, wall_s, cpu_s, None, Verdict()))
        outputs, figures = worker.evaluate()
        verdict = Verdict()
        if self.stop.reason is None:  # a stopped process has little time, and is not a success anyway
            verdict = self.examiner.end(outputs, figures, self.injected.clock(), self._confirmed_by())
            status = verdict.outcome.ending.value
        result = self._result(status, wall_s, cpu_s, figures, verdict)
        if self.stop.reason is None:
            self.files.write_result(result)
            self.files.write_outputs(_real(outputs), _real(worker.task.validation[1]))
            self._life.serve(self.injected.clock())
            for event in verdict.events(time.monotonic(), learner.step):
                self.recorder.record(event)
            result = self._result(status, wall_s, cpu_s, figures, verdict)
            self.report(Done(result))
            self.files.write_result(result.but(serving=True))
            self._serve()
        for event in worker.gossip.endpoint.mailbox.drain_events(math.inf):
            self.recorder.record(event)
        self._end_for_cause(self._result(status, wall_s, cpu_s, figures, verdict))
        self.files.write_result(self._result(status, wall_s, cpu_s, figures, verdict), last=True)
        result = self._result(status, wall_s, cpu_s, figures, verdict)
        self.report(Result(result))
        return result

    def _train(self) -> None:
        life, clock = self._life, self.clock
        while life.phase is Phase.TRAINING and not self._ends():
            started_s = time.monotonic()
            share = clock.share(started_s, self.worker.learner.step)
            try:
                wait_s = life.look(self.injected.clock(), share, clock.is_over(started_s))
            except (RuntimeError, UserCodeError):
                if self._ends():
                    break  # a neighbour in lockstep has just been stopped
                raise
            if wait_s is None:
                self.checkpoints.stepped(self.worker.task_loss)
                self.look()
                wait_s = self._padding_s(time.monotonic() - started_s)
            elif started_s - self._looked_s >= _LOOK_EVERY_S:  # it waits for a peer
                self.look()
            if wait_s > 0:
                time.sleep(wait_s)
        if life.phase is not Phase.FINISHED:
            self._stop_training()

    def _padding_s(self, spent_s: float) -> float:
        """Seconds to wait after a step that took `spent_s`, for a peer that a fault or a setting slows down."""
        step_time_s, slowdown = self.spec.config.train.step_time_s, self.spec.slowdown * self.injected.slowdown()
        return step_time_s * slowdown - spent_s if step_time_s > 0 else (slowdown - 1) * spent_s

    def _stop_training(self) -> None:
        """End training. A process that has made no step holds no mass of the run."""
        now, has_mass = self.injected.clock(), self.worker.learner.step > self.clock.steps_before
        if self.stop.reason is not None:
            self._life.leave(now, has_mass)
        else:
            self._life.finish(now)

    def _end_for_cause(self, result: PeerRecord) -> None:
        """End for the process's own reason: write the result and report why."""
        if self._fatal is not None and self.stop.reason is None:
            self.files.write_result(result, last=True)
            self.stop.be_gone_in(GRACE_S, self._fatal.exit_code)  # an interpreter with torch may take seconds to end
            raise self._fatal

    def _serve(self) -> None:
        """Answer the peers that still train, until they are done or `linger_s` is over."""
        deadline_s = time.monotonic() + self.spec.config.linger_s
        while not self._ends() and time.monotonic() < deadline_s:
            self._life.look(self.injected.clock())
            self.look()
            neighbourhood = self.worker.gossip.endpoint.mailbox.neighbourhood()
            over = neighbourhood.done | neighbourhood.gone | neighbourhood.unheard
            if over.issuperset(neighbourhood.statuses):
                return
            time.sleep(_LOOK_EVERY_S)

    def _leave(self) -> None:
        """End on request while others train: hand over what is conserved, and write the checkpoint meanwhile."""
        wait_s = self._life.look(self.injected.clock())
        while self._life.phase is Phase.LEAVING and self.stop.left_s() > _LAST_WORDS_S:
            for event in self.worker.gossip.endpoint.mailbox.drain_events():
                self.recorder.record(event)
            time.sleep(wait_s or 0.0)
            wait_s = self._life.look(self.injected.clock())
        told = self._life.event(time.monotonic())
        if told is not None:
            self.recorder.record(told)

    def look(self) -> None:
        """Called between two steps: record events, report, save, and act on a refusal."""
        now = self._looked_s = time.monotonic()
        failure = self.network.failure()
        if failure is not None:
            raise failure  # training on without a network would look like a healthy run
        for event in self.worker.gossip.endpoint.mailbox.drain_events(now):
            self.recorder.record(event)
            self.welcome.hear(event, now)
            self.examiner.hear(event)
        self._mind_the_welcome(now)
        replaced = self.stop.keep()
        if replaced:
            reason = (
                f"handlers of {', '.join(replaced)} were replaced, by the task or what it imports; ours are set again"
            )
            self.worker.learner.ledger.warn(reason)
            self.recorder.record(Event(EventKind.WARNING, now, "", reason))
        for event in self.injected.news():
            self.recorder.record(event)
        for event in self.worker.learner.ledger.take_news(now):
            self.recorder.record(event)
        alarms = self.worker.gossip.alarms
        serves = self._life.phase is Phase.SERVING
        checks = () if serves else (alarms.check_exchange, alarms.check_connection)
        for alarm in [check(self.injected.clock()) for check in checks]:
            if alarm is not None:
                self.recorder.record(alarm)
        if now - self._reported_s >= _REPORT_EVERY_S and self.clock.began_s:
            self._reported_s = now
            diverging = self.examiner.divergence(now)
            if diverging is not None:
                self.recorder.record(diverging)
            if not serves and self.stop.reason is None:
                self.live.look(now)
            self.report(self._progress(now))
        if self.clock.began_s and not serves:
            wanted, self.stop.checkpoint_wanted = self.stop.checkpoint_wanted, False
            self.checkpoints.look(now, wanted)
        for event in self.checkpoints.news(now):
            self.recorder.record(event)

    def _mind_the_welcome(self, now: float) -> None:
        """End if there is a reason to: at once before the first step, else after writing what has been trained."""
        others = [
            name for name in self.worker.gossip.endpoint.mailbox.neighbourhood().statuses if name != self.spec.name
        ]
        reason = None if self._ends() else self.welcome.end(others, bool(self.clock.began_s), now)
        if reason is not None and not self.clock.began_s:
            raise reason
        if reason is not None:
            self._fatal = reason
            self.stop.be_gone_in(_LAST_WRITING_S, reason.exit_code)

    def _ends(self) -> bool:
        """Whether this process was asked to end, or has a reason of its own."""
        return self.stop.reason is not None or self._fatal is not None

    def _progress(self, now: float) -> Progress:
        learner, neighbourhood = self.worker.learner, self.worker.gossip.endpoint.mailbox.neighbourhood()
        clock, step, looked = self.clock, learner.step, self.live.found
        links = learner.ledger.links
        return Progress(
            step=step,
            share=clock.share(now, step),
            elapsed_s=now - clock.began_s,
            steps_per_s=clock.steps_per_s(now, step),
            loss=self.worker.task_loss if math.isfinite(self.worker.task_loss) else None,
            exchanges=learner.ledger.exchanges,
            alive=1 + len(neighbourhood.alive),
            expected=max(neighbourhood.expected, 1),
            left_s=clock.left_s(now, step),
            links={name: link.exchanges for name, link in links.items()},
            ages={name: {str(age): count for age, count in link.ages.bins.items()} for name, link in links.items()},
            faults={str(number): count for number, count in self.injected.fired().items()},
            weight=self.worker.gossip.held_weight(),
            cpu_s=clock.cpu_s(),
            val_loss=looked.loss,
            val_accuracy=looked.accuracy,
            val_rows=looked.rows,
            val_step=looked.step,
        )

    def _confirmed_by(self) -> list[str]:
        return [str(name) for name in self.driver.peer.states.sender.confirmed_by]

    def _result(
        self, status: str, wall_s: float, cpu_s: float, figures: dict[str, float] | None, verdict: Verdict
    ) -> PeerRecord:
        unwritten = [*self.checkpoints.unwritten(), *filter(None, [self.recorder.problem]), *self.files.problems()]
        process = Process(self.start_count, self.clock.steps_before, wall_s, cpu_s, self.clock.began_s)
        result = peer_result(self.worker, self.driver, status, process, figures, verdict)
        told = [f"not written: {problem}" for problem in unwritten]
        troubles, warnings = [*told, *result.troubles], [*told, *result.warnings]
        return result.but(troubles=troubles, warnings=warnings, unwritten=unwritten)


def _real(tensor: Tensor) -> Tensor:
    """The same numbers in a type that every reader of the file supports: complex numbers as pairs [..., 2]."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.contiguous()

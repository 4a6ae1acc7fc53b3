"""The life of a worker between ready and gone: wait, train, write the result, serve on."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gossipdistill.drivers.handoff import NetworkThread
from gossipdistill.drivers.zeromq import Driver
from gossipdistill.errors import ConfigError, IdentityError, NeedsError, UserCodeError
from gossipdistill.events import Event, EventKind
from gossipdistill.launch.afflicted import Afflicted
from gossipdistill.launch.examining import Examiner, Verdict
from gossipdistill.launch.joining import LOOK_S as JOINING_LOOK_S
from gossipdistill.launch.joining import Joining
from gossipdistill.launch.parting import LOOK_S, Parting
from gossipdistill.launch.peer_files import PeerFiles
from gossipdistill.launch.release import Release
from gossipdistill.launch.results import peer_result
from gossipdistill.launch.resuming import settings_of
from gossipdistill.launch.saving import Saver
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.launch.stopping import StopRequest
from gossipdistill.learning.live_validation import LiveValidation
from gossipdistill.learning.teachers import RunningLoss
from gossipdistill.observe.clock_words import left_s
from gossipdistill.observe.recorder import Recorder, Report
from gossipdistill.presence import RefusalCode
from gossipdistill.strategies import Delivery
from gossipdistill.worker import Worker

_REPORT_EVERY_S = 0.25
_LOOK_EVERY_S = 0.02
_ROUND_LOOK_EVERY_S = 0.0005
"""A round of a lockstep strategy ends at most so much late; neighbours on one machine answer within a millisecond."""
_IN_PROGRESS_AFTER_S = 1.0
_LAST_CHECKPOINT_S = 60.0
_LAST_WORDS_S = 0.3
"""So much of the time that a stopped process has is left for its result and its last word."""
_SAY_WAITING_AFTER_S, _SAY_WAITING_EVERY_S = 0.5, 2.0


class SupersededError(IdentityError):
    """A newer process of the same name has taken over; this one ends."""


@dataclass
class Session:
    """Owns the training loop. `report` receives records for whoever watches; `released` is the launcher's "go"."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    released: Release
    worker: Worker
    network: NetworkThread
    driver: Driver
    recorder: Recorder
    incarnation: int
    afflicted: Afflicted
    saver: Saver
    files: PeerFiles
    examiner: Examiner
    live: LiveValidation
    began_s: float = 0.0
    cpu_began_s: float = 0.0
    steps_before: int = 0
    elapsed_before_s: float = 0.0
    """Seconds of the run that were over when the checkpoint was written from which this process goes on."""
    _reported_s: float = 0.0
    _looked_s: float = 0.0
    _saved_s: float = 0.0
    _ever_alive: bool = False
    _loss: RunningLoss = field(default_factory=RunningLoss)
    _serving: bool = False

    def wait_for_release(self) -> None:
        """Until the launcher says go; or, alone, until `start_when` peers are there or `start_within_s` is over."""
        if not self.spec.released_by_launcher:
            self._wait_for_peers()
            return
        while self.stop.reason is None and not self.released.wait(_LOOK_EVERY_S):
            self._look()

    def _wait_for_peers(self) -> None:
        spec, mailbox = self.spec, self.worker.mailbox
        began_s = time.monotonic()
        deadline_s, say_at_s = began_s + spec.start_within_s, began_s + _SAY_WAITING_AFTER_S
        while self.stop.reason is None:
            self._look()
            neighbourhood, now = mailbox.neighbourhood(), time.monotonic()
            here = 1 + len(neighbourhood.alive)
            if here >= spec.start_when:
                return
            missing = sorted(map(str, set(neighbourhood.statuses) - neighbourhood.alive)) or ["peers not known yet"]
            if now >= deadline_s:
                reason = f"starting with {here} of {spec.start_when} peers; did not come: {', '.join(missing)}"
                self.recorder.record(Event(EventKind.WARNING, now, "", reason))
                return
            if now >= say_at_s:
                say_at_s = now + _SAY_WAITING_EVERY_S
                names = ", ".join(missing)
                text = f"{here} of {spec.start_when} peers here; waiting {deadline_s - now:.0f} s more for {names}"
                self.report({"type": "waiting", "text": text, "for": names})
            time.sleep(_LOOK_EVERY_S)

    def join_run(self, joining: Joining) -> None:
        """A newcomer's time before its first step; over when it has a model, or nobody has one for it."""
        while self.stop.reason is None and not joining.look(self.afflicted.clock()):
            self._look()
            time.sleep(JOINING_LOOK_S)
        self._look()

    def run_is_in_progress(self) -> bool:
        """Whether others began to train a while before me, as far as my launcher has told."""
        released_s = self.released.began_s
        return released_s is None or time.monotonic() - released_s >= _IN_PROGRESS_AFTER_S

    def train_and_serve(self) -> dict[str, Any]:
        """Train to the limit, write the result, then serve on until the others are done."""
        worker, learner = self.worker, self.worker.learner
        self.began_s = self._saved_s = time.monotonic()
        self.cpu_began_s, self.steps_before = time.process_time(), learner.step
        self.recorder.record(Event(EventKind.STARTED, self.began_s, "", f"training at step {learner.step}"))
        steps = self.spec.config.steps
        if learner.step and steps is not None and learner.step >= steps:
            learner.ledger.warn(f"its checkpoint is at step {learner.step} of {steps} already: nothing left to do")
        self._train()
        self.worker.finish(self.afflicted.clock())
        self.report(self._progress(time.monotonic()))
        wall_s, cpu_s = time.monotonic() - self.began_s, time.process_time() - self.cpu_began_s
        status = {None: "finished", "interrupted": "interrupted"}.get(self.stop.reason, "left")
        # First without its figures: they may take longer than a stopped process has, and a checkpoint all of the disk.
        ending = "left" if self.stop.reason is None else status
        self.files.write_result(self._result(ending, wall_s, cpu_s, None, Verdict()))
        self._save()
        if self.stop.reason is not None:
            self._hand_over()
        self._settle_checkpoint()
        for line in () if self._ever_alive else self.driver.unanswered():
            learner.ledger.warn(line)
        self.files.write_result(self._result(ending, wall_s, cpu_s, None, Verdict()))
        outputs, figures = worker.evaluate()
        verdict = Verdict()
        if self.stop.reason is None:  # a stopped process has little time, and is no success anyway
            verdict = self.examiner.end(outputs, figures, self.afflicted.clock(), self._confirmed_by())
            status = verdict.outcome.ending.value
        result = self._result(status, wall_s, cpu_s, figures, verdict)
        if self.stop.reason is None:
            self.files.write_result(result)
            self.files.write_outputs(_real(outputs), _real(worker.task.validation[1]))
            worker.publish_final(self.afflicted.clock())
            worker.mailbox.report_progress(learner.step, done=True)
            for event in verdict.events(time.monotonic(), learner.step):
                self.recorder.record(event)
            result = self._result(status, wall_s, cpu_s, figures, verdict)
            self.report({"type": "done", "result": result})
            self.files.write_result(result | {"serving": True})
            self._serve()
        self.files.write_result(self._result(status, wall_s, cpu_s, figures, verdict), last=True)
        result = self._result(status, wall_s, cpu_s, figures, verdict)
        self.report({"type": "result", "result": result})
        return result

    def _train(self) -> None:
        config, learner = self.spec.config, self.worker.learner
        while True:
            started_s = time.monotonic()
            ended = self.stop.reason is not None
            ended |= config.steps is not None and learner.step >= config.steps
            ended |= config.seconds is not None and started_s - self._run_began_s >= config.seconds
            if learner.stop_wanted or (ended and not self._lockstep_by_time()):
                return
            learner.stop_wanted = ended
            if not self._in_step(started_s):
                return
            started_s = time.monotonic()
            try:
                self.worker.step(self.afflicted.clock(), self._share(started_s))
            except (RuntimeError, UserCodeError):
                if self.stop.reason is not None:
                    return  # a neighbour in lockstep was stopped a moment before this one
                raise
            self._loss.look(self.worker.task_loss)
            self._look()
            spent_s = time.monotonic() - started_s
            slowdown = self.spec.slowdown * self.afflicted.slowdown()
            pause_s = config.train.step_time_s * slowdown - spent_s
            if config.train.step_time_s == 0 and slowdown > 1:
                pause_s = (slowdown - 1) * spent_s
            if pause_s > 0:
                time.sleep(pause_s)

    def _in_step(self, now: float) -> bool:
        """Let a strategy in lockstep wait for its neighbours; False when the run is over meanwhile."""
        seconds, waiting = self.spec.config.seconds, False
        while self.worker.awaited(self.afflicted.clock()):
            if waiting and now - self._looked_s >= _LOOK_EVERY_S:
                self._look()
            if self.stop.reason is not None or (seconds is not None and now - self._run_began_s >= seconds):
                return False
            time.sleep(_ROUND_LOOK_EVERY_S)
            waiting, now = True, time.monotonic()
        return True

    def _lockstep_by_time(self) -> bool:
        """A collective run by time ends by agreement, one step after the first peer wants to."""
        strategy, config = self.worker.strategy, self.spec.config
        return strategy.delivery is Delivery.COLLECTIVE and config.seconds is not None and self.stop.reason is None

    def _serve(self) -> None:
        """Answer those who still learn, until they are done or `linger_s` is over."""
        self._serving = True
        deadline_s = time.monotonic() + self.spec.config.linger_s
        while self.stop.reason is None and time.monotonic() < deadline_s:
            self.worker.serve(self.afflicted.clock())
            self._look()
            neighbourhood = self.worker.mailbox.neighbourhood()
            waiting_for = set(neighbourhood.statuses) - neighbourhood.done - neighbourhood.gone
            waiting_for = {n for n in waiting_for if not neighbourhood.statuses[n].startswith("unheard")}
            if not waiting_for:
                return
            time.sleep(_LOOK_EVERY_S)

    def _hand_over(self) -> None:
        """Asked to end while others go on: what is conserved stays with them. The checkpoint is written meanwhile."""
        if self.worker.strategy.delivery is not Delivery.MASS or self.worker.learner.step == self.steps_before:
            return
        parting = Parting(self.worker, self.afflicted.clock())
        while not parting.look(self.afflicted.clock()) and self.stop.left_s() > _LAST_WORDS_S:
            for event in self.worker.mailbox.drain_events():
                self.recorder.record(event)
            time.sleep(LOOK_S)
        told = parting.event(time.monotonic())
        if told is not None:
            self.recorder.record(told)

    def _look(self) -> None:
        """Between two steps: record what happened, report, save, and act on a refusal."""
        now = self._looked_s = time.monotonic()
        failure = self.network.failure()
        if failure is not None:
            raise failure  # training on without a network would look like a healthy run
        for event in self.worker.mailbox.drain_events():
            self.recorder.record(event)
            self._act_on(event)
            self.examiner.hear(event)
        replaced = self.stop.keep()
        if replaced:
            reason = (
                f"handlers of {', '.join(replaced)} were replaced, by the task or what it imports; ours are set again"
            )
            self.worker.learner.ledger.warn(reason)
            self.recorder.record(Event(EventKind.WARNING, now, "", reason))
        for event in self.afflicted.news():
            self.recorder.record(event)
        for event in self.worker.learner.ledger.take_news(now):
            self.recorder.record(event)
        checks = () if self._serving else (self.worker.check_exchange, self.worker.check_connection)
        for alarm in [check(self.afflicted.clock()) for check in checks]:
            if alarm is not None:
                self.recorder.record(alarm)
        if now - self._reported_s >= _REPORT_EVERY_S and self.began_s:
            self._reported_s = now
            diverging = self.examiner.divergence(now)
            if diverging is not None:
                self.recorder.record(diverging)
            if not self._serving and self.stop.reason is None:
                self.live.look(now)
            self.report(self._progress(now))
        every_s = self.spec.config.train.checkpoint_every_s
        due = every_s > 0 and now - self._saved_s >= every_s
        if self.began_s and not self._serving and (due or self.stop.checkpoint_wanted):
            self._saved_s, self.stop.checkpoint_wanted = now, False
            self._save()
        for problem in self.saver.news():
            self.recorder.record(Event(EventKind.WARNING, now, "", problem))

    def _act_on(self, event: Event) -> None:
        self._ever_alive |= event.kind is EventKind.JOINED
        if event.kind is EventKind.SUPERSEDED:
            raise SupersededError(f"{self.spec.name}: {event.reason}; this process ends")
        # The one who came later goes: else a newcomer with a wrong setting could end a run that is under way.
        comes_late = event.detail.get("i_am_newer") and not self._ever_alive
        if event.kind is EventKind.REFUSED and comes_late and event.detail.get("code") == RefusalCode.WIRE_VERSION:
            raise ConfigError(event.reason)  # a release before wire version 3 could only say so in its own version
        if event.kind is EventKind.REFUSED_BY and comes_late:
            text = f"refused by {event.peer}: {_from_my_side(event.reason, event.peer)}"
            if event.detail.get("code") == RefusalCode.ENROLMENT:
                raise IdentityError(text)
            if "strategy:" not in event.reason and ("model:" in event.reason or "initial weights:" in event.reason):
                raise NeedsError(text)
            raise ConfigError(text)

    def _progress(self, now: float) -> dict[str, Any]:
        learner, neighbourhood = self.worker.learner, self.worker.mailbox.neighbourhood()
        config, steps_per_s = self.spec.config, (learner.step - self.steps_before) / max(now - self.began_s, 1e-9)
        steps_left = config.steps - learner.step if config.steps else None
        seconds_left = config.seconds - (now - self._run_began_s) if config.seconds else None
        return {
            "type": "progress",
            **self.live.record(),
            "left_s": left_s(steps_left, steps_per_s, seconds_left),
            "step": learner.step,
            "share": self._share(now),
            "elapsed_s": now - self.began_s,
            "steps_per_s": steps_per_s,
            "loss": self.worker.task_loss if math.isfinite(self.worker.task_loss) else None,
            "exchanges": learner.ledger.exchanges,
            "links": {name: link.exchanges for name, link in learner.ledger.links.items()},
            "ages": {name: dict(link.ages.bins) for name, link in learner.ledger.links.items()},
            "faults": self.afflicted.fired(),
            "weight": self.worker.held_weight(),
            "cpu_s": time.process_time() - self.cpu_began_s,
            "alive": 1 + len(neighbourhood.alive),
            "expected": max(neighbourhood.expected, 1),
        }

    def _share(self, now: float) -> float:
        """How much of the run is over, 0 to 1, by the limit that is nearer."""
        config = self.spec.config
        shares = [self.worker.learner.step / config.steps] if config.steps else []
        if config.seconds:
            shares.append((now - self._run_began_s) / config.seconds)
        return min(max(shares), 1.0)

    @property
    def _run_began_s(self) -> float:
        """A peer that is restarted while the others go on ends with them; a run that is resumed, after the rest of its
        seconds."""
        began_s = self.began_s if self.released.began_s is None else self.released.began_s
        return min(began_s, self.began_s - self.elapsed_before_s)

    def _save(self) -> None:
        elapsed_s = time.monotonic() - self._run_began_s
        progress = {"elapsed_s": elapsed_s, "starts": self.incarnation, "saved_unix_s": time.time()}
        try:
            checkpoint = replace(self.worker.checkpoint(**progress), settings=settings_of(self.spec.config))
        except Exception as error:  # whatever it is (a state that cannot be kept): the training goes on
            self.saver.failed(error)
            return
        self.saver.save(checkpoint, self._loss.value if self._loss.looks else None)

    def _settle_checkpoint(self) -> None:
        """The last one is to lie on the disk before anybody hears that this peer is done."""
        if not self.saver.settle(_LAST_CHECKPOINT_S):
            reason = f"the disk has not taken it within {_LAST_CHECKPOINT_S:.0f} s"
            self.saver.failed(TimeoutError(reason))
        for problem in self.saver.news():
            self.recorder.record(Event(EventKind.WARNING, time.monotonic(), "", problem))

    def _confirmed_by(self) -> list[str]:
        return [str(name) for name in self.driver.peer.confirmed_by]

    def _result(
        self, status: str, wall_s: float, cpu_s: float, figures: dict[str, float] | None, verdict: Verdict
    ) -> dict[str, Any]:
        unwritten = [f"the last checkpoint: {self.saver.problem}"] if self.saver.problem else []
        unwritten += [self.recorder.problem] if self.recorder.problem else []
        unwritten += self.files.problems()
        result = peer_result(
            self.worker, self.driver, status, self.incarnation, self.steps_before, wall_s, cpu_s, self.began_s, figures,
            verdict,
        )  # fmt: skip
        told = [f"not written: {problem}" for problem in unwritten]
        both = {key: [*told, *result[key]] for key in ("troubles", "warnings")}
        return result | both | {"unwritten": unwritten}


def carried_over_s(elapsed_s: float, seconds: float | None) -> float:
    """Of a run of so many seconds that was cut short, what is over; one that had ended has all of them once more."""
    return elapsed_s if seconds is not None and elapsed_s < seconds else 0.0


def _from_my_side(reason: str, other: str) -> str:
    """A refusal speaks of "here" and "there" as its sender sees them: name the two instead. Without a roster the place
    of a peer is its shard."""
    reason = re.sub(
        r"^place (\d+/(\d+)) is (.*)'s$", r"shard \1 is \3's already; give this peer another: --shard K/\2", reason
    )
    reason = re.sub(
        r"^place (\d+/(\d+)) does not exist$", r"there are \2 shards, and \1 is none of them: --shard K/\2", reason
    )
    return re.sub(r"(: [^;]*?) here, ([^;]*?) there", rf"\1 at {other}, \2 at this peer", reason)


def _real(tensor: Tensor) -> Tensor:
    """The same numbers in a type that every reader of the file knows: complex ones as pairs [..., 2]."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.contiguous()

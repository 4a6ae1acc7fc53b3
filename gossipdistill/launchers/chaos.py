"""The launcher's side of a fault plan: it sends signals, restarts peers, and judges the plan's expectations.

A peer that the plan stops does not count as lost. A peer that the plan starts again resumes from its checkpoint.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gossipdistill.config.origins import chosen
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.events import Event, EventKind
from gossipdistill.faults import ActKind, FaultPlan, ProcessAct, ProcessFaults, load_fault_plan
from gossipdistill.faults.measuring import Measurements
from gossipdistill.launchers.injection import Do, Injection, NoFaults, SignalTo, StartAgain
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.records import FaultRecord, PeerRecord, VerdictRecord
from gossipdistill.observe.told import Done, Progress, Ready, Told
from gossipdistill.strategies import Delivery

CHECKPOINT_EVERY_S = 2.0
"""The seconds between checkpoints in a run whose plan restarts peers: the default is too long for a short run."""
_CHECKPOINTS = "train.checkpoint_every_s"
_SIGNALS = {
    ActKind.PAUSE: signal.SIGSTOP,
    ActKind.RESUME: signal.SIGCONT,
    ActKind.KILL: signal.SIGKILL,
    ActKind.LEAVE: signal.SIGTERM,
}


@dataclass
class _Course:
    """The course of one fault of the plan."""

    began_s: float | None = None
    ended_s: float | None = None
    acts: int = 0


def afflict(specs: Sequence[WorkerSpec], where: str | Path | None) -> list[WorkerSpec]:
    """The same run under the fault plan `where` (a name or a file); unchanged without one.

    Raises:
        ConfigError: when the plan does not fit this run.
        NeedsError: when the strategy's traffic or processes cannot be treated so.
    """
    if where is None:
        return list(specs)
    first = specs[0]
    if not first.names:
        raise ConfigError(
            "names peers, so it needs a roster", key="--faults", value=str(where), accepted="--peers ROSTER"
        )
    plan = load_fault_plan(where, first.names)
    seconds = first.config.seconds
    late = [n for n, fault in enumerate(plan.fault, 1) if seconds is not None and fault.begin_s >= seconds]
    if late:
        begin_s = plan.fault[late[0] - 1].begin_s
        problem = f"fault {late[0]} begins at {begin_s:g} s, and the run ends after {seconds:g} s; give more --seconds"
        raise ConfigError(problem, key="--faults", value=str(where))
    strategy = first.config.strategy_class()
    if strategy.delivery is Delivery.COLLECTIVE:
        if plan.link_faults():
            raise NeedsError(f"strategy {strategy.name} has a transport of its own, which no fault of links can bend")
        if plan.restarted(first.names):
            raise NeedsError(f"strategy {strategy.name} cannot take a lost peer back: leave restarts out of the plan")
    return [replace(_with_checkpoints(spec) if plan.restarted(spec.names) else spec, faults=plan) for spec in specs]


def _with_checkpoints(spec: WorkerSpec) -> WorkerSpec:
    """Save checkpoints more often, so that a restarted peer has one; not where the user has set the interval."""
    if _CHECKPOINTS in spec.resolved.origins:
        return spec
    values = {_CHECKPOINTS: CHECKPOINT_EVERY_S}
    return replace(spec, resolved=spec.resolved.changed(values, chosen("chosen for the fault plan")))


def injection_of(specs: Sequence[WorkerSpec]) -> Injection:
    """The policy for the fault plan of these peers; `NoFaults` without a plan."""
    first = specs[0]
    return NoFaults() if first.faults is None else Chaos(first.faults, first.names, [spec.name for spec in specs])


class Chaos:
    """Applies a fault plan to the processes of one run. `names` are the peers in roster order. `here` are those of this
    launcher (default: all); other launchers act on theirs."""

    def __init__(self, plan: FaultPlan, names: Iterable[str], here: Iterable[str] | None = None) -> None:
        self.plan, self._names = plan, tuple(names)
        self._here = frozenset(self._names if here is None else here)
        self.measured = Measurements(plan, self._names)
        self._schedule = ProcessFaults(plan, self._names)
        self._courses = [_Course() for _ in plan.fault]
        self._down: set[str] = set()
        self._paused: set[str] = set()
        self._postponed: list[ProcessAct] = []
        self._fired: dict[tuple[str, int], dict[int, int]] = {}

    # --- as time passes --------------------------------------------------------------------------------------------

    def next_s(self) -> float:
        """When the next action or event is due."""
        borders = [
            at_s
            for fault, course in zip(self.plan.fault, self._courses, strict=True)
            for at_s, noted in ((fault.begin_s, course.began_s), (fault.end_s, course.ended_s))
            if noted is None
        ]
        return min([self._schedule.next_s(), *borders])

    def due(self, now_s: float, children: Mapping[str, Child]) -> list[Do]:
        """The faults that begin or end by now, and the actions on processes."""
        todo: list[Do] = [*self._borders(now_s)]
        due, self._postponed = [*self._postponed, *self._schedule.due(now_s)], []
        living = [name for name, child in children.items() if child.lives]
        for act in due:
            if act.peer in self._here:
                todo += self._acted(act, children[act.peer])
        everybody = self._here.issuperset(self._names)
        if living and everybody and self._paused.issuperset(living):  # the others are done: do not wait for the plan
            todo += [SignalTo(name, signal.SIGCONT) for name in living]
            self._paused.difference_update(living)
        return todo

    def _acted(self, act: ProcessAct, child: Child) -> list[Do]:
        if act.kind is ActKind.RESTART:
            if child.lives:
                self._postponed.append(act)  # its process has not ended yet
            elif child.result is None or child.result.status != "finished":
                self._down.discard(act.peer)
                return [StartAgain(act.peer)]
        elif act.kind in _SIGNALS and child.lives and child.result is None:  # a peer that is done only serves
            self._courses[act.fault].acts += act.kind is not ActKind.RESUME
            if act.kind in (ActKind.KILL, ActKind.LEAVE):
                self._down.add(act.peer)
                self._paused.discard(act.peer)
            elif act.kind is ActKind.PAUSE:
                self._paused.add(act.peer)
            else:
                self._paused.discard(act.peer)
            return [SignalTo(act.peer, _SIGNALS[act.kind])]
        elif act.kind in (ActKind.SLOW, ActKind.CLOCK_JUMP):  # the worker does it to itself
            self._courses[act.fault].acts += act.amount != 1.0 or act.kind is ActKind.CLOCK_JUMP
        return []

    def _borders(self, now_s: float) -> Iterator[Event]:
        for number, (fault, course) in enumerate(zip(self.plan.fault, self._courses, strict=True), start=1):
            detail: dict[str, str | int | float] = {"fault": number, "kind": fault.kind}
            if course.began_s is None and fault.begin_s <= now_s:
                course.began_s = now_s
                yield Event(EventKind.FAULT, now_s, "", f"{number} begins: {fault.words()}", detail)
            if course.ended_s is None and fault.end_s <= now_s:
                course.ended_s = now_s
                if fault.end_s > fault.begin_s:
                    yield Event(EventKind.FAULT, now_s, "", f"{number} is over: {fault.words()}", detail)

    # --- what the launcher sees ------------------------------------------------------------------------------------

    def heard(self, child: Child, record: Told, now_s: float) -> None:
        """Notes progress and results."""
        name = child.spec.name
        match record:
            case Progress():
                self.measured.report(name, now_s, record.step, record.links)
                fired = {int(number): count for number, count in record.faults.items()}
                self._fired[name, child.restarts] = fired
            case Ready() if child.restarts:
                self.measured.returned(name, now_s, record.step)
            case Done():
                self.measured.done(name, now_s)

    def stopped(self, name: str) -> bool:
        """Whether the plan has ended this peer and has not started it again. Such a peer is neither lost nor
        restarted."""
        return name in self._down

    def awaits_restart(self) -> bool:
        """Whether a restart is still pending, so that the run is not over although no process lives."""
        left = [act for act in self._schedule.left() if act.peer in self._here]
        return bool(self._postponed) or any(act.kind is ActKind.RESTART for act in left)

    # --- the end ---------------------------------------------------------------------------------------------------

    def faults(self) -> list[FaultRecord]:
        """The course of each fault, as in `summary.json`. `fired` counts the messages or the processes that it
        affected."""
        bent: Counter[int] = Counter()
        for counts in self._fired.values():
            bent.update(counts)
        entries = []
        for number, (fault, course) in enumerate(zip(self.plan.fault, self._courses, strict=True)):
            began_s = None if course.began_s is None else round(course.began_s, 3)
            ended_s = None if course.ended_s is None else round(course.ended_s, 3)
            entries.append(FaultRecord.of(fault, began_s, ended_s, course.acts + bent[number]))
        return entries

    def expectations(self, peers: Iterable[PeerRecord], trouble: str | None) -> list[VerdictRecord]:
        """The verdicts, as in `summary.json`, from the entries of the peers. `trouble` says why the run was cut
        short."""
        accuracies = {peer.name: peer.val_accuracy for peer in peers if peer.status == "finished"}
        return [VerdictRecord.of(verdict) for verdict in self.measured.verdicts(accuracies, trouble)]

"""Runs several strategies one after another on the same data and budget, and shows them in one table.

With a fault plan, the strategies that gossip are run a second time. That run lasts as many seconds as the run without
faults took, because the plan may slow peers down so that they do not finish all steps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from gossipdistill.config.layers import Layer, Resolved
from gossipdistill.config.origins import chosen
from gossipdistill.config.plan import Asked, new_run_folder, plan_local, settle, with_roster_entry
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import Cpus, Threads, choose
from gossipdistill.errors import EXIT_LOST, ConfigError, GossipdistillError, nearest
from gossipdistill.launchers.chaos import afflict, injection_of
from gossipdistill.launchers.local import LocalRun
from gossipdistill.launchers.preflight import Findings, check
from gossipdistill.observe.endings import trouble_of, warnings_of
from gossipdistill.observe.notices import merged
from gossipdistill.observe.records import Budget, CompareRecord, CompareRow, SettingRecord, SummaryRecord
from gossipdistill.observe.report import noted, write_json
from gossipdistill.observe.told import Watch
from gossipdistill.roster import load_roster
from gossipdistill.strategies import STRATEGIES, strategy_of

POOLED = "pooled"
"""The reference row is one worker on the union of the shards, with n times the batch."""

_MODEL_KEYS = ("task.model", "task.hidden")

Announce = Callable[[str], Watch]
"""It is called with the title of each run, and returns the run's observer."""


class Row(NamedTuple):
    """One run of a comparison; `faults` is a plan's name or file, or None."""

    strategy: str
    seed: int
    faults: str | None = None

    @property
    def plan(self) -> str | None:
        """The plan's name, for display."""
        return Path(self.faults).stem if self.faults else None


class _StoppedError(Exception):
    """A signal came while no run was under way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@dataclass
class Comparison:
    """Runs `strategies` x `seeds`; those that gossip run a second time under `faults` (a plan's name or file).

    `summary` is written to `compare.json` after each row.
    """

    asked: Asked
    strategies: Sequence[str]
    seeds: Sequence[int]
    announce: Announce
    faults: str | None = None
    summary: CompareRecord = field(init=False, repr=False)
    cpus: Cpus = field(default_factory=Cpus.read)
    """They are read once, so that the load of earlier rows does not reduce the threads of later ones."""

    def run(self) -> int:
        """Do all runs. Returns the largest exit code; after an interruption, its exit code at once.

        Raises:
            GossipdistillError: before the first run, when one of the runs is not possible.
        """
        for name in self.strategies:
            if name != POOLED:
                check_name(name)
        self._refuse_unknown_options()
        rows = self.rows()
        first = [row for row in rows if row.seed == self.seeds[0]]
        findings = {row.strategy: check(afflict(self.plan(row), row.faults)) for row in first}
        common = resolve(self._asked(None).layers())
        folder = new_run_folder(self.asked.out, f"{common.config.name}-compare")
        of_peers = [found for name, found in findings.items() if name != POOLED]
        self.summary = self._head(common, folder, of_peers[0] if of_peers else None)
        self._note(0, None, folder)  # from now on `show` finds it
        try:
            with _signals():
                for number, row in enumerate(rows, start=1):
                    code, entry = self._one(row, folder, f"{number} of {len(rows)}")
                    self._note(code, entry, folder)
                    if code > 127:
                        break
        except _StoppedError as stopped:
            self._note(stopped.exit_code, None, folder)
        return self.summary.exit_code

    def rows(self) -> list[Row]:
        """The runs, in order.

        Raises:
            ConfigError: when a fault plan is given and none of the strategies gossips.
        """
        fair = [Row(name, seed) for seed in self.seeds for name in self.strategies]
        if self.faults is None:
            return fair
        if not any(map(_gossips, self.strategies)):
            accepted = "a strategy that gossips among --strategies, for example codistill_predictions"
            raise ConfigError("disturbs none of these strategies", key="--faults", value=self.faults, accepted=accepted)
        twice = [(row, row._replace(faults=self.faults)) for row in fair]
        return [row for pair in twice for row in pair if row.faults is None or _gossips(row.strategy)]

    def _refuse_unknown_options(self) -> None:
        """An option that belongs to none of the strategies is an error; those of other strategies are left out."""
        known = set().union(*map(_options_of, self.strategies))
        for layer in self.asked.layers():
            for key, value in layer.values.items():
                if key.startswith("strategy.") and key not in {"strategy.name"} | _options_but_of(None):
                    raise ConfigError(f"unknown key; {nearest(key, known)}", file=layer.where, key=key, value=value)

    def _head(self, common: Resolved, folder: Path, findings: Findings | None) -> CompareRecord:
        config, examples = common.config, findings.examples if findings else None
        return CompareRecord(
            version=1,
            name=folder.name,
            task=config.task.name,
            budget=Budget(steps=config.steps, seconds=config.seconds),
            step_time_s=config.train.step_time_s,
            examples_per_peer=examples.used if examples else config.task.examples_per_peer,
            transfer_examples=examples.transfer if examples else 0,
            examples=examples,
            classes=findings.classes if findings else True,
            config={key: SettingRecord.model_validate(entry) for key, entry in common.as_json().items()},
            peers=len(load_roster(config.peers, self.asked.base_of(common, "peers")).peer),
            strategies=list(self.strategies),
            seeds=list(self.seeds),
            runs=[],
            exit_code=0,
        )

    def _note(self, code: int, entry: CompareRow | None, folder: Path) -> None:
        runs = [*self.summary.runs, *([entry] if entry is not None else [])]
        self.summary = self.summary.but(runs=runs, exit_code=max(self.summary.exit_code, code))
        unwritten: list[str] = []
        with noted(unwritten):
            write_json(folder / "compare.json", self.summary)
        self.summary = self.summary.without("unwritten")
        if unwritten:
            if not runs and code == 0:
                raise ConfigError(f"cannot be written: {unwritten[0]}", file=folder)
            self.summary = self.summary.but(unwritten=unwritten, exit_code=self.summary.exit_code or EXIT_LOST)

    def _one(self, row: Row, folder: Path, place: str) -> tuple[int, CompareRow]:
        # The same strategy and seed without faults went just before.
        seconds = self.summary.runs[-1].trained_s if row.faults else None
        specs = self.plan(row, folder, seconds)
        under = f", under {row.plan}" if row.faults else ""
        watch = self.announce(f"{place}: {row.strategy}, seed {row.seed}{under}")
        try:
            specs = settle(afflict(specs, row.faults))
            run = LocalRun(specs, specs[0].folder.parent, watch, injection=injection_of(specs))
            code = run.run()
        except GossipdistillError as error:
            # An error in one row does not end the others: it is reported in its row.
            return error.exit_code, entry_of(row, None, specs, str(error))
        return code, entry_of(row, run.summary, specs, "")

    def plan(self, row: Row, folder: Path | None = None, seconds: float | None = None) -> list[WorkerSpec]:
        """The workers of this row. The run is written to `folder`, by default to the folder of all runs."""
        name, pooled = row.strategy, row.strategy == POOLED
        strategy = "isolated" if pooled else name
        values: dict[str, object] = {
            "strategy.name": strategy,
            "seed": row.seed,
            "name": f"{name.replace('_', '-')}-s{row.seed}" + ("-faults" if row.faults else ""),
        }
        values |= {"seconds": seconds} if seconds else {}
        asked = replace(self._asked(strategy), out=folder or self.asked.out)
        extra, dropped = [Layer(chosen("compare"), values)], _options_but_of(strategy)
        if strategy_of(strategy).needs.alike_models or pooled:
            extra.insert(0, Layer(chosen("compare: one architecture"), self._first_model(asked, extra)))
            dropped |= set(_MODEL_KEYS)

        def threads(peers: int) -> Threads:
            alone = 1 if pooled else peers
            return choose(alone, alone, self.cpus, os.environ)

        specs = plan_local(asked, extra, dropped, threads=threads)
        return [_pooled(specs)] if pooled else specs

    def _asked(self, strategy: str | None) -> Asked:
        """The request, without the options of other strategies."""
        return replace(self.asked, strategy=None, without=frozenset(_options_but_of(strategy)))

    def _first_model(self, asked: Asked, extra: Sequence[Layer]) -> dict[str, object]:
        """The model of the first peer, for strategies that need the same model on all peers."""
        layers = [*asked.layers(), *extra]
        common = resolve(layers)
        first = load_roster(common.config.peers, asked.base_of(common, "peers")).peer[0]
        own = {key: value for key, value in first.set.items() if not key.startswith("strategy.")}
        options = resolve(with_roster_entry(layers, first.name, own)).config.task_options()
        chosen = {key: options.get(key.removeprefix("task.")) for key in _MODEL_KEYS}
        return {key: value for key, value in chosen.items() if value is not None}


def entry_of(row: Row, summary: SummaryRecord | None, specs: Sequence[WorkerSpec], problem: str) -> CompareRow:
    """One run as an entry of `compare.json`. Without a summary it never began, and `problem` says why."""
    peers = summary.peers if summary else []
    finished = [peer for peer in peers if peer.status == "finished"]
    troubles = [trouble for peer in peers if (trouble := trouble_of(peer))]

    def mean(figures: Iterable[float | None]) -> float | None:
        values = [figure for figure in figures if figure is not None]
        return sum(values) / len(values) if values else None

    return CompareRow(
        strategy=row.strategy,
        seed=row.seed,
        faults=row.plan,
        run=summary.name if summary else None,
        exit_code=summary.exit_code if summary else None,
        peers=len(specs),
        finished=len(finished),
        troubles=[problem] if problem else troubles,
        warnings=merged([(peer.name, text) for peer in finished for text in warnings_of(peer)], len(specs)),
        models=[str(spec.config.task_options().get("model", "")) for spec in specs],
        val_accuracy=summary.val_accuracy if summary else None,
        val_loss=mean(peer.val_loss for peer in finished),
        bytes_sent_per_peer=mean(peer.bytes_sent for peer in finished),
        bytes_are_computed=any(peer.bytes_are_computed for peer in finished),
        cpu_s_per_step=mean(peer.cpu_s_per_step for peer in finished),
        steps=mean(peer.steps for peer in finished),
        wall_s=summary.wall_s if summary else None,
        trained_s=max((peer.wall_s for peer in finished if peer.wall_s is not None), default=None),
        expectations=summary.expectations if summary else [],
    )


def check_name(name: str) -> None:
    """Refuse a name that `compare --strategies` does not accept."""
    known = [*STRATEGIES, POOLED]
    if name not in known:
        raise ConfigError(f"unknown strategy; {nearest(name, known)}", key="--strategies", value=name)


@contextmanager
def _signals() -> Iterator[None]:
    """Between two runs, Ctrl-C and SIGTERM end the comparison and keep its results (a run has its own handlers)."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _StoppedError(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gossips(strategy: str) -> bool:
    return strategy != POOLED and strategy_of(strategy).delivery.gossips


def _options_of(strategy: str) -> set[str]:
    return (
        {f"strategy.{option}" for option in STRATEGIES[strategy].options_type.model_fields}
        if strategy in STRATEGIES
        else set()
    )


def _options_but_of(strategy: str | None) -> set[str]:
    """Keys such as strategy.weight are for the strategies that have them, and are left out for the others."""
    return set().union(*map(_options_of, STRATEGIES)) - _options_of(strategy or "")


def _pooled(specs: Sequence[WorkerSpec]) -> WorkerSpec:
    """One worker on the union of the shards. Its configuration names no topology, since it is the only peer."""
    first = specs[0]
    resolved = first.resolved.changed({"topology": "complete"}, chosen("compare: one worker alone"))
    return replace(
        first,
        resolved=resolved,
        names=(first.name,),
        addresses=(first.listen,),
        pooled=True,
        slowdown=1.0,
    )

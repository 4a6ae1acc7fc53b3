"""What is done to one of four workers, and what the other three do meanwhile: the runs behind `pace.py`.

One run of four workers goes through healthy, stop and kill as windows of time, then the killed one is started again.
The straggler is slow from its start, so it has a run of its own.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import Said, WorkerHandle, Workers, stderr_lines
from benchmarks.kit.plans import plan
from benchmarks.kit.series import Rates, age_quantiles_s, rates
from gossipdistill.config.spec import WorkerSpec

HEALTHY, STRAGGLER, STOP, KILL, RESTART = "healthy", "straggler", "stop", "kill", "restart"
SCENES = (HEALTHY, STRAGGLER, STOP, KILL, RESTART)
STEP_TIME_S = 0.02
SLOWDOWN = 10.0
BATCH_SIZE = 32
TRANSFER_EXAMPLES = 128
EVERYBODY, ONE_PEER = "complete", "one_peer_exponential"
COMMON = (
    "task.model=mlp",
    "task.hidden=[512, 512]",
    f"task.transfer_examples={TRANSFER_EXAMPLES}",
    "task.shards=disjoint",
    "task.examples_per_peer=200",
    f"train.batch_size={BATCH_SIZE}",
    "train.lr_schedule=constant",
    f"train.step_time_s={STEP_TIME_S}",
)
LINKED_FROM_PER_S = 1.0
"""A pair that exchanges less often is not linked by the topology: it met when somebody was missing."""
TRANSFER_BATCH = f"strategy.transfer_batch_size={BATCH_SIZE}"
EACH_STEP = ("exchange.every_steps=1", "exchange.per_second_max=0")


@dataclass(frozen=True)
class Windows:
    """Lengths in seconds. `rejoin_s` is the longest wait for a restarted worker's exchanges, from ready on."""

    warm_up_s: float = 2.0
    window_s: float = 4.0
    recover_s: float = 2.0
    rejoin_s: float = 8.0


@dataclass(frozen=True)
class Row:
    """One line of the comparison: a strategy, where its news goes, and which scenes make sense for it."""

    key: str
    strategy: str
    topology: str
    settings: tuple[str, ...]
    scenes: tuple[str, ...]
    peers: int = 4
    common: tuple[str, ...] = COMMON


ISOLATED_SCENES = (HEALTHY, STRAGGLER, STOP, KILL)
ROWS = {
    row.key: row
    for row in (
        Row("isolated", "isolated", EVERYBODY, (), ISOLATED_SCENES),
        Row("isolated again", "isolated", EVERYBODY, (), (HEALTHY,)),
        Row("codistill_predictions", "codistill_predictions", EVERYBODY, (*EACH_STEP, TRANSFER_BATCH), SCENES),
        Row("gossip_averaging", "gossip_averaging", ONE_PEER, EACH_STEP, SCENES),
        Row("codistill_checkpoints", "codistill_checkpoints", ONE_PEER, EACH_STEP, SCENES),
        # Nobody can return to a collective: no restart.
        Row("all_reduce", "all_reduce", EVERYBODY, (), ISOLATED_SCENES),
    )
}

Found = dict[str, dict[str, Any]]
"""Figures by scene, as they go into `pace.json`."""


def run_row(row: Row, scenes: Sequence[str], windows: Windows) -> Found:
    """All the asked scenes of one row, in one or two runs."""
    wanted = [scene for scene in row.scenes if scene in scenes]
    found: Found = {}
    if any(scene != STRAGGLER for scene in wanted):
        with tempfile.TemporaryDirectory(prefix="pace-") as folder, Workers() as workers:
            run = _Run(row, workers, _specs(row, Path(folder), 1.0), windows)
            found |= run.faults(wanted)
    if STRAGGLER in wanted:
        with tempfile.TemporaryDirectory(prefix="pace-") as folder, Workers() as workers:
            run = _Run(row, workers, _specs(row, Path(folder), SLOWDOWN), windows)
            run.begin()
            found[STRAGGLER] = run.window(time.monotonic())
    return found


def _specs(row: Row, folder: Path, slowdown: float) -> list[WorkerSpec]:
    settings = [*row.common, *row.settings]
    if row.strategy == "all_reduce":
        settings.append(f"strategy.rendezvous={(folder / 'rendezvous').as_uri()}")
    return plan(folder, row.strategy, row.topology, settings, slowdown, peers=row.peers)


@dataclass
class _Run:
    """Workers under way; the last of them is the one to which things happen."""

    row: Row
    workers: Workers
    specs: list[WorkerSpec]
    windows: Windows

    @property
    def touched(self) -> str:
        return self.specs[-1].name

    @property
    def untouched(self) -> list[str]:
        return [spec.name for spec in self.specs[:-1]]

    @property
    def may_fall(self) -> bool:
        """Whether the others may end with the touched one."""
        return self.row.strategy == "all_reduce"

    def begin(self) -> None:
        """All started and warm."""
        self.workers.start_all(self.specs)
        time.sleep(self.windows.warm_up_s)

    def faults(self, wanted: Sequence[str]) -> Found:
        """Healthy, stop, kill, restart, as far as wanted; healthy always."""
        self.begin()
        found: Found = {HEALTHY: self.window(time.monotonic())}
        if STOP in wanted:
            at_s = self.workers.signal(self.touched, signal.SIGSTOP)
            found[STOP] = self.window(at_s)
            thawed_s = self.workers.signal(self.touched, signal.SIGCONT)
            time.sleep(self.windows.recover_s)
            found[STOP] |= self._told(at_s)
            after_s = thawed_s + self.windows.recover_s / 2
            found[STOP]["after_thaw_steps_per_s"] = {
                name: rates(self.workers.handles[name].samples, after_s, time.monotonic()).steps_per_s
                for name in self.untouched
            }
        if KILL in wanted or RESTART in wanted:
            at_s = self.workers.signal(self.touched, signal.SIGKILL)
            found[KILL] = self.window(at_s)
            found[KILL] |= self._told(at_s)
            found[KILL]["ended"] = [n for n in self.untouched if self.workers.handles[n].ended_s is not None]
        if RESTART in wanted:
            found[RESTART] = self._restart()
        return found

    # --- one window ----------------------------------------------------------------------------------------------

    def window(self, from_s: float) -> dict[str, Any]:
        """Figures of the untouched ones in one window that begins now."""
        time.sleep(max(from_s + self.windows.window_s - time.monotonic(), 0.0))
        to_s = time.monotonic()
        if not self.may_fall:
            self.workers.demand_running(self.untouched)
        every = {name: rates(self.workers.handles[name].samples, from_s, to_s) for name in self.untouched}
        return {
            "steps_per_s": {name: one.steps_per_s for name, one in every.items()},
            "cores": {name: one.cores for name, one in every.items()},
            "exchanges_per_s": self._pairs(every),
            "taken_in_per_s": {name: sum(one.exchanges_per_s.values()) for name, one in every.items()},
            "age_s": age_quantiles_s(
                bins
                for one in every.values()
                for sender, bins in one.age_bins.items()
                if sender in every and one.exchanges_per_s[sender] >= LINKED_FROM_PER_S
            ),
        }

    def _pairs(self, every: dict[str, Rates]) -> dict[str, float]:
        """Exchanges per second by `sender > receiver`, both untouched; pairs that the topology links."""
        return {
            f"{sender} > {receiver}": per_s
            for receiver, one in every.items()
            for sender, per_s in sorted(one.exchanges_per_s.items())
            if sender in every
        }

    # --- what was said, and the return ---------------------------------------------------------------------------

    def _told(self, fault_s: float) -> dict[str, Any]:
        """Seconds until each untouched one suspected the touched one, and the lines it wrote about it since."""
        if self.row.strategy == "all_reduce":
            return {}
        lines = self._lines(fault_s)
        first = {said.by: said.at_s - fault_s for said in reversed(lines) if said.kind == "suspect"}
        counts = Counter((said.by, said.kind) for said in lines)
        return {
            "suspect_s": {name: first.get(name) for name in self.untouched},
            "lines_per_change_max": max(counts.values(), default=0),
            "lines": [f"{said.by}: {said.line}" for said in lines],
            "stderr_lines": sum(stderr_lines(spec.folder) for spec in self.specs[:-1]),
        }

    def _lines(self, from_s: float) -> list[Said]:
        told = [said for said in self.workers.said if said.at_s >= from_s and said.by in self.untouched]
        return [said for said in told if said.about == self.touched]

    def _restart(self) -> dict[str, Any]:
        """Start the killed one anew on its checkpoint; seconds until exchanges happen again, in both directions."""
        before = {name: self._taken_from(name, self.touched) for name in self.untouched}
        senders = {name for name, count in self.workers.handles[self.touched].samples[-1].exchanges.items() if count}
        handle = self.workers.start(replace(self.specs[-1], resume=True))
        self.workers.wait_ready(handle)
        self.workers.release(handle)
        ready_s = handle.ready_s or time.monotonic()
        uses: dict[str, float] = {}
        used: dict[str, float] = {}

        def all_linked() -> bool:
            now = time.monotonic()
            for sender in senders:
                if _count(handle, sender) > 0:
                    uses.setdefault(sender, now - ready_s)
            for name, count in before.items():
                if self._taken_from(name, self.touched) > count:
                    used.setdefault(name, now - ready_s)
            return uses.keys() >= senders and used.keys() >= {name for name, count in before.items() if count}

        self.workers.wait(all_linked, self.windows.rejoin_s)
        self.workers.demand_running(self.untouched)
        return {
            "up_s": ready_s - handle.spawned_s,
            "rejoin_s": max(min(uses.values()), min(used.values())) if uses and used else None,
            "all_links_s": max([*uses.values(), *used.values()], default=None),
            "uses_s": uses,
            "used_by_s": used,
        }

    def _taken_from(self, name: str, sender: str) -> int:
        return _count(self.workers.handles[name], sender)


def _count(handle: WorkerHandle, sender: str) -> int:
    return handle.samples[-1].exchanges.get(sender, 0) if handle.samples else 0

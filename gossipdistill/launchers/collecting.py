"""The results of ended workers: an entry for each peer, the exit code, and the summary of the run."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import EXIT_NONE_FINISHED, EXIT_UNMET, ConfigError
from gossipdistill.launchers.injection import Injection
from gossipdistill.launchers.lost_work import SHORT
from gossipdistill.launchers.processes import Child, how_it_ended
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.record import read_record
from gossipdistill.observe.records import PeerRecord, SummaryRecord
from gossipdistill.observe.report import summarise, unknown_peer


@dataclass(frozen=True)
class Ended:
    """A run whose processes have all ended."""

    specs: Sequence[WorkerSpec]
    folder: Path
    children: Mapping[str, Child]
    injection: Injection
    stopped_by: int | None
    """This signal ended the run early."""
    wall_s: float

    def summary(self) -> SummaryRecord:
        """The summary of the whole run, as in `summary.json`, with the exit code."""
        peers = [self.judged(child) for child in self.children.values()]
        code = exit_code_of(peers, [peer.name for peer in peers if self.stopped_as_asked(peer)])
        if code == EXIT_NONE_FINISHED:
            code = self._code_of_none()
        if self.stopped_by is not None:
            code = 128 + self.stopped_by
        trouble = "the run was interrupted" if self.stopped_by is not None else None
        faults, expectations = self.injection.faults(), self.injection.expectations(peers, trouble)
        if code == 0 and not all(verdict.met for verdict in expectations):
            code = EXIT_UNMET
        return summarise(self.specs[0].config, peers, self.wall_s, code, self.folder, faults, expectations)

    def stopped_as_asked(self, peer: PeerRecord) -> bool:
        """Whether the fault plan ended this peer."""
        return self.injection.stopped(peer.name) and peer.status in ("lost", "left")

    def judged(self, child: Child) -> PeerRecord:
        """The entry of this peer. Its status says so where a restarted peer has done less than its share of the
        steps."""
        entry, config = self.entry(child), child.spec.config
        others = [other.work.rate() for other in self.children.values() if other is not child]
        problem = child.work.problem(entry.steps, config.seconds, config.steps, others)
        if entry.status != "finished" or not problem:
            return entry
        return entry.but(status=SHORT, reason=problem, warnings=[*entry.warnings, f"{SHORT}: {problem}"])

    def entry(self, child: Child) -> PeerRecord:
        """The peer's own result; without one, what the launcher knows of the peer."""
        if child.result is not None:
            return child.result
        with contextlib.suppress(ConfigError):  # written, but not sent in time
            return read_record(child.spec.folder / "result.json", PeerRecord)
        interrupted = "interrupted" if self.stopped_by == signal.SIGINT else "left"
        status = "failed" if child.error else interrupted if self.stopped_by is not None else "lost"
        message = child.error.message if child.error else child.how or how_it_ended(child.exit_code)
        if self.injection.stopped(child.spec.name):
            message += ", as the fault plan asked"
        return unknown_peer(child.spec.name).but(
            status=status,
            pid=child.process.pid,
            incarnations=child.restarts + 1,
            steps=child.progress.step,
            steps_per_s=round(child.progress.steps_per_s, 3),
            parcels_used=child.progress.exchanges,
            warnings=[message],
        )

    def _code_of_none(self) -> int:
        """The exit code where no peer finished: that of the refusal, if all were refused alike before their first
        step."""
        codes = {child.error.exit_code if child.error else EXIT_NONE_FINISHED for child in self.children.values()}
        return codes.pop() if codes == {ConfigError.exit_code} else EXIT_NONE_FINISHED

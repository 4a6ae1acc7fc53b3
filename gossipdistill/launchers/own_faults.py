"""One worker of a cluster under a fault plan: its own launcher kills, stops and restarts it.

Each machine applies the plan to its own peer, so no machine needs access to the processes of another. The plan's
seconds count from the start of this peer's training; `--start-when` has all peers begin together. Expectations are
judged only by `run`, which sees all peers.
"""

from __future__ import annotations

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.launchers.beginning import ByItself
from gossipdistill.launchers.chaos import injection_of
from gossipdistill.launchers.collecting import Ended
from gossipdistill.launchers.local import LocalRun, WorkerError
from gossipdistill.observe.endings import exit_code_of
from gossipdistill.observe.records import FaultsRecord, SummaryRecord
from gossipdistill.observe.report import FAULTS_FILE, summarise
from gossipdistill.observe.told import Failure, Told, Watch


def worker_under_plan(spec: WorkerSpec, watch: Watch) -> LocalRun:
    """The launcher that runs the worker of `spec` under the plan `spec.faults`."""

    def told(name: str, record: Told) -> None:
        if not isinstance(record, Failure):  # `of_one_peer` raises it
            watch(name, record)

    return LocalRun(
        [spec],
        spec.folder / "plan",
        told,
        injection=injection_of([spec]),
        beginning=ByItself(),
        summarise=of_one_peer,
        file=spec.folder / FAULTS_FILE,
    )


def of_one_peer(ended: Ended) -> tuple[SummaryRecord, FaultsRecord]:
    """The summary of one peer, with exit code 0 also where the plan has ended it; and the course of the plan's faults.

    Raises:
        WorkerError: when it could not go on, with its exit code.
    """
    (spec,), (child,) = ended.specs, ended.children.values()
    if child.error is not None and ended.stopped_by is None:
        raise WorkerError(child.error.message, child.error.exit_code)
    peer = ended.entry(child)
    code = 0 if ended.stopped_as_asked(peer) else exit_code_of([peer])
    code = 128 + ended.stopped_by if ended.stopped_by is not None else code
    faults = ended.injection.faults()
    return summarise(spec.config, [peer], ended.wall_s, code, spec.folder.parent, faults), FaultsRecord(faults=faults)

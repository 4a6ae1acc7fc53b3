"""Judges the expectations of a fault plan in a simulated run, by the same measurements as in a real run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gossipdistill.faults import FaultPlan
from gossipdistill.faults.measuring import Measurements
from gossipdistill.observe.records import PeerRecord, VerdictRecord
from gossipdistill.sim.host import Host
from gossipdistill.sim.observer import Observer
from gossipdistill.simulation.peer import SimulatedPeer

_REPORT_EVERY_S = 0.25
"""A simulated peer reports at this interval in virtual seconds, as a real worker does in seconds."""


class Judge(Observer):
    """Collects the reports of each simulated peer, in virtual time."""

    def __init__(self, plan: FaultPlan, names: Sequence[str]) -> None:
        self._measured = Measurements(plan, names)
        self._reported_s: dict[str, float] = {}

    def on_start(self, now_s: float, host: Host) -> None:
        self._reported_s[host.name] = now_s
        if host.incarnation > 1 and isinstance(host.stepper, SimulatedPeer):
            self._measured.returned(host.name, now_s, host.stepper.worker.learner.step)

    def on_step(self, now_s: float, host: Host, pause_s: float | None) -> None:
        simulated = host.stepper
        if now_s - self._reported_s[host.name] < _REPORT_EVERY_S or not isinstance(simulated, SimulatedPeer):
            return
        self._reported_s[host.name] = now_s
        learner = simulated.worker.learner
        links = {sender: link.exchanges for sender, link in learner.ledger.links.items()}
        self._measured.report(host.name, now_s, learner.step, links)
        if simulated.finished:
            self._measured.done(host.name, now_s)

    def verdicts(self, peers: Iterable[PeerRecord], interrupted: bool) -> list[VerdictRecord]:
        """The verdicts, as in `summary.json`, from the entries of the peers."""
        accuracies = {peer.name: peer.val_accuracy for peer in peers if peer.status == "finished"}
        trouble = "the simulation was interrupted" if interrupted else None
        return [VerdictRecord.of(verdict) for verdict in self._measured.verdicts(accuracies, trouble)]

"""The results of a simulated run: the same `summary.json` as of a real run, and figures that only a simulation has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossipdistill.assembly.examining import Verdict
from gossipdistill.assembly.results import Process, peer_result
from gossipdistill.drivers.zeromq.sending import Traffic
from gossipdistill.faults import FaultPlan
from gossipdistill.observe.records import FaultRecord, PeerRecord, Spans, SummaryRecord
from gossipdistill.protocol.peer import Peer
from gossipdistill.sim.host import Host
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.training.ending import finish

_LINKS_MAX = 20_000
"""Links are left out of the summary if there are more than this: a complete graph of 1,000 peers has a million."""


@dataclass(frozen=True)
class _Host:
    """A simulated host with the interface of a driver, for `peer_result`. It counts all messages, not only data."""

    host: Host

    @property
    def peer(self) -> Peer:
        return self.host.peer

    @property
    def traffic(self) -> Mapping[str, Traffic]:
        host = self.host
        return {
            "": Traffic(host.bytes_sent, host.bytes_received, host.messages_sent, host.messages_received, 0),
        }


def peer_entry(simulated: SimulatedPeer, host: Host, now_s: float, interrupted: bool, ended: bool) -> PeerRecord:
    """One peer's entry. A process that the plan has ended for good is `lost`, and is not judged."""
    worker = simulated.worker
    status = "lost" if ended else "interrupted" if interrupted else "finished"
    if not ended:
        finish(worker.gossip, host.local(now_s))
    figures, verdict = None, Verdict()
    if not ended:
        outputs, figures = worker.evaluate()
        confirmed = [str(name) for name in host.peer.states.sender.confirmed_by]
        verdict = simulated.examiner.end(outputs, figures, host.local(now_s), confirmed)
        status = verdict.outcome.ending.value if status == "finished" else status
    began_s = simulated.began_s if simulated.began_s is not None else host.started_s
    trained_s = simulated.trained_s(now_s)
    process = Process(host.incarnation, simulated.steps_before, trained_s, 0.0, host.local(began_s))
    entry = peer_result(worker, _Host(host), status, process, figures, verdict)
    return entry.but(pid=None, cpu_s_per_step=None, cores=None, lived_s=round(now_s - host.started_s, 3))


def faults_of(plan: FaultPlan | None, virtual_s: float, fired: Mapping[int, int]) -> list[FaultRecord]:
    """The course of the faults of a plan; `fired` counts bent messages by the fault's index in the plan."""
    faults = []
    for number, fault in enumerate(plan.fault if plan else ()):
        began_s = fault.begin_s if fault.begin_s <= virtual_s else None
        end_s = fault.end_s if began_s is not None and fault.end_s <= virtual_s else None
        what = {"kind": fault.kind, "what": fault.words(), "began_s": began_s, "ended_s": end_s}
        faults.append(FaultRecord.model_validate(what | {"fired": fired.get(number)}))
    return faults


def per_peer(entries: Sequence[PeerRecord]) -> dict[str, Spans | None]:
    """The spread of figures over the peers that finished; over all peers if none has."""
    ended = [entry for entry in entries if entry.status == "finished"] or entries
    figures: dict[str, list[float | None]] = {
        "val_loss": [entry.val_loss for entry in ended],
        "steps_per_s": [entry.steps_per_s for entry in ended],
        "exchanges_per_s": [entry.parcels_used / max(entry.wall_s or 0.0, 1e-9) for entry in ended],
        "messages_per_s": [(entry.messages_sent or 0) / max(entry.lived_s or 0.0, 1e-9) for entry in ended],
        "bytes_per_s": [(entry.bytes_sent or 0) / max(entry.lived_s or 0.0, 1e-9) for entry in ended],
    }
    metrics = sorted({name for entry in ended for name in entry.metrics})
    figures |= {name: [entry.metrics.get(name) for entry in ended] for name in metrics}
    return {name: spread(values) for name, values in figures.items()}


def without_too_many_links(summary: SummaryRecord) -> SummaryRecord:
    """The same summary, without links if there are too many."""
    return summary.but(links=[]) if len(summary.links) > _LINKS_MAX else summary


def spread(values: Sequence[float | None]) -> Spans | None:
    """Mean, minimum and maximum of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return Spans(mean=round(mean, 6), least=round(min(known), 6), most=round(max(known), 6))

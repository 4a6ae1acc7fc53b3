"""What a simulated run leaves: the same `summary.json` as a real one, and what only a simulation knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossipdistill.assembly.examining import Verdict
from gossipdistill.assembly.results import peer_result
from gossipdistill.config.schema import RunConfig
from gossipdistill.drivers.zeromq.sending import Traffic
from gossipdistill.faults import FaultPlan
from gossipdistill.observe.report import summarise
from gossipdistill.protocol.peer import Peer
from gossipdistill.sim.host import Host
from gossipdistill.simulation.peer import SimulatedPeer
from gossipdistill.training.ending import finish

_LINKS_MAX = 20_000
"""More are left out of the summary: a complete graph of 1,000 peers has a million."""


@dataclass(frozen=True)
class _Host:
    """A simulated host as `peer_result` wants to see a driver. Messages are all messages, not data alone."""

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


def peer_entry(simulated: SimulatedPeer, host: Host, now_s: float, interrupted: bool, ended: bool) -> dict[str, Any]:
    """One peer's entry. A process that the plan ended for good is `lost`, and is not judged."""
    worker = simulated.worker
    status = "lost" if ended else "interrupted" if interrupted else "finished"
    if not ended:
        finish(worker.gossip, host.local(now_s))
    figures, verdict = None, Verdict()
    if not ended:
        outputs, figures = worker.evaluate()
        confirmed = [str(name) for name in host.peer.confirmed_by]
        verdict = simulated.examiner.end(outputs, figures, host.local(now_s), confirmed)
        status = verdict.outcome.ending.value if status == "finished" else status
    began_s = simulated.began_s if simulated.began_s is not None else host.started_s
    entry = peer_result(
        worker, _Host(host), status, host.incarnation, simulated.steps_before, simulated.trained_s(now_s), 0.0,
        host.local(began_s), figures, verdict,
    )  # fmt: skip
    return entry | {"pid": None, "cpu_s_per_step": None, "cores": None, "lived_s": round(now_s - host.started_s, 3)}


def summarise_simulation(
    config: RunConfig,
    folder: Path,
    entries: list[dict[str, Any]],
    wall_s: float,
    code: int,
    figures: dict[str, Any],
    plan: FaultPlan | None,
    fired: Mapping[int, int],
) -> dict[str, Any]:
    """The one object of `summary.json`, with `simulation` in it. `fired` counts bent messages by place in the plan."""
    faults: list[dict[str, Any]] = []
    for number, fault in enumerate(plan.fault if plan else ()):
        began_s = fault.begin_s if fault.begin_s <= figures["virtual_s"] else None
        end_s = fault.end_s if began_s is not None and fault.end_s <= figures["virtual_s"] else None
        what = {"kind": fault.kind, "what": fault.words(), "began_s": began_s, "ended_s": end_s}
        faults.append(what | {"fired": fired.get(number)})
    summary = summarise(config, entries, wall_s, code, folder, faults)
    if len(summary["links"]) > _LINKS_MAX:
        summary["links"] = []
    ended = [entry for entry in entries if entry["status"] == "finished"] or entries
    metrics: dict[str, Any] = {}
    for name in sorted({name for entry in ended for name in entry["metrics"]}):
        metrics[name] = spread([entry["metrics"].get(name) for entry in ended])
    per_peer = {
        "val_loss": spread([entry["val_loss"] for entry in ended]),
        "steps_per_s": spread([entry["steps_per_s"] for entry in ended]),
        "exchanges_per_s": spread([entry["parcels_used"] / max(entry["wall_s"], 1e-9) for entry in ended]),
        "messages_per_s": spread([entry["messages_sent"] / max(entry["lived_s"], 1e-9) for entry in ended]),
        "bytes_per_s": spread([entry["bytes_sent"] / max(entry["lived_s"], 1e-9) for entry in ended]),
    }
    return summary | {"simulation": figures | {"per_peer": per_peer | metrics}}


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Mean and both ends of what is not null; None where all is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    return {"mean": round(mean, 6), "least": round(min(known), 6), "most": round(max(known), 6)}

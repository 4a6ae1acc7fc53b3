"""A simulated run as a table and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.observe.endings import reasons_of, warnings_of
from gossipdistill.observe.records import PeerRecord, SimulationRecord, SummaryRecord
from gossipdistill.observe.report import size

_LINES_MAX, _NAMES_MAX = 12, 3
_NAMES = {
    "steps_per_s": "steps per second",
    "exchanges_per_s": "exchanges per second",
    "messages_per_s": "messages sent per second",
    "val_loss": "validation loss",
}


def render(summary: SummaryRecord) -> RenderableType:
    """The figures of a simulated run, per peer and in all, for a rich console."""
    summary = summary.printable()
    sim, peers = _figures(summary), summary.peers
    head = (
        f"{summary.name}: {summary.task}, {summary.strategy}, {summary.topology}, {len(peers)} peers, "
        f"seed {summary.seed}, {sim.virtual_s:g} virtual seconds in {summary.wall_s:.1f} s"
    )
    table = Table(box=None, pad_edge=False)
    finished = sum(peer.status == "finished" for peer in peers)
    over = "per peer" if finished in (0, len(peers)) else f"per peer ({finished} that finished)"
    for column in (over, "mean", "least", "most"):
        table.add_column(column, justify="left" if column == over else "right")
    for name, spans in sim.per_peer.items():
        if spans is None:
            continue
        if name == "bytes_per_s":
            row = [f"{figure / 1e3:.2f} kB" for figure in (spans.mean, spans.least, spans.most)]
            table.add_row("bytes sent per second", *row)
        else:
            row = [f"{figure:.4g}" for figure in (spans.mean, spans.least, spans.most)]
            table.add_row(_NAMES.get(name, name.replace("_", " ")), *row)
    data = [Text(f"data: {summary.data}")] if summary.data else []
    return Group(Text(head, style="bold"), *data, table, *_notes(summary))


def _figures(summary: SummaryRecord) -> SimulationRecord:
    assert summary.simulation is not None
    return summary.simulation


def _notes(summary: SummaryRecord) -> list[Text]:
    sim = _figures(summary)
    lines = []
    if sim.consensus_distance is not None:
        lines.append(f"consensus distance {sim.consensus_distance:.3g} (root mean square over peers)")
    if sim.mass_error is not None:
        lines.append(f"mass: the weights held, under way and lost add up to within {sim.mass_error:.1g}")
    statuses: dict[str, int] = {}
    for peer in summary.peers:
        statuses[peer.status] = statuses.get(peer.status, 0) + 1
    lines.append("peers: " + ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))
    for fault in summary.faults:
        if fault.began_s is None:
            lines.append(f"{fault.what}: did not begin before the end")
            continue
        until = "the end" if fault.ended_s is None else f"{fault.ended_s:g} s"
        bent = "" if fault.fired is None else f" ({fault.fired} messages)"
        lines.append(f"{fault.began_s:g} s to {until}: {fault.what}{bent}")
    lines.append(
        f"{sim.events} events, {sim.events_per_s:.0f} per second; {sim.protocol_us_per_event:.1f} us each "
        f"without the {sim.learner_s:.1f} s of the learners; {sim.memory_mib:.0f} MiB"
    )
    lines += sim.notes
    styled = [Text(line) for line in lines]
    styled += [Text(line, style="bold red") for line in _said(summary, reasons_of)]
    styled += [Text(line) for line in _said(summary, warnings_of)]
    for verdict in summary.expectations:
        styled.append(Text(verdict.line, style="" if verdict.met else "bold red"))
    if sim.violations:
        styled += [Text(f"VIOLATED: {violation}", style="bold red") for violation in sim.violations]
    else:
        styled.append(Text("no checker found a violation"))
    return styled


def _said(summary: SummaryRecord, of: Callable[[PeerRecord], list[str]]) -> list[str]:
    """The lines of the peers, each text once, with the names of the first few peers."""
    names: dict[str, list[str]] = {}
    for peer in summary.peers:
        for text in of(peer):
            names.setdefault(text, []).append(peer.name)
    lines = []
    for text, by in list(names.items())[:_LINES_MAX]:
        more = f" and {len(by) - _NAMES_MAX} more" if len(by) > _NAMES_MAX else ""
        lines.append(f"{', '.join(by[:_NAMES_MAX])}{more}: {text}")
    return lines + ([f"... and {len(names) - _LINES_MAX} more lines"] if len(names) > _LINES_MAX else [])


def plot(summary: SummaryRecord, path: Path) -> None:
    """Draw loss, consensus distance and exchange rate over virtual time: .png, .svg or .pdf."""
    # Imported here, as it takes longer to import than everything else.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curve = _figures(summary).curve
    sent = size(sum(peer.bytes_sent or 0 for peer in summary.peers) / max(len(summary.peers), 1))
    figure = Figure(figsize=(8, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True)
    rows: list[tuple[Sequence[float | None], str, bool]] = [
        (curve.consensus, "consensus distance", True),
        (curve.loss, "training loss, mean over peers", False),
        (curve.exchanges_per_s, "exchanges per second and peer", False),
    ]
    for axis, (values, label, logarithmic) in zip(axes, rows, strict=True):
        points = [(at_s, value) for at_s, value in zip(curve.at_s, values, strict=True) if value is not None]
        if points:
            axis.plot(*zip(*points, strict=True), color="tab:blue", linewidth=1.5)
        if logarithmic and any(value > 0 for _, value in points):
            axis.set_yscale("log")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        for fault in summary.faults:
            if fault.began_s is None:
                continue
            ended_s = curve.at_s[-1] if fault.ended_s is None and curve.at_s else fault.ended_s
            if ended_s is not None:
                axis.axvspan(fault.began_s, max(ended_s, fault.began_s), color="tab:red", alpha=0.08, linewidth=0)
    axes[-1].set_xlabel("virtual seconds (shaded: a fault of the plan lasts)")
    axes[0].set_title(
        f"{summary.strategy} on {summary.task}, {len(summary.peers)} peers, {summary.topology}; {sent} sent by each"
    )
    figure.savefig(path, dpi=120)

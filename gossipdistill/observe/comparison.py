"""A comparison as a table: one row per strategy, means over seeds with standard errors."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.observe.report import size

LABELS = {
    "isolated": "alone",
    "self_distillation": "alone, learning from its own past predictions",
    "codistill_predictions": "by predictions",
    "codistill_checkpoints": "by stale checkpoints",
    "gossip_averaging": "by averaging weights",
    "all_reduce": "all_reduce",
    "pooled": "pooled: one machine sees all labels",
}
REMARKS = {
    "gossip_averaging": "needs one architecture",
    "codistill_checkpoints": "needs one architecture",
    "all_reduce": "waits for the slowest; bytes by formula",
}


def rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Per strategy: figures as (mean over seeds, standard error or None), in the order that was asked for."""
    table = []
    for name in dict.fromkeys(run["strategy"] for run in summary["runs"]):
        runs = [run for run in summary["runs"] if run["strategy"] == name]
        table.append(
            {
                "strategy": name,
                "models": runs[0]["models"],
                "finished": f"{sum(r['finished'] for r in runs)} of {sum(r['peers'] for r in runs)}",
                "all_finished": all(r["finished"] == r["peers"] for r in runs),
                "mean": spread([100 * r["val_accuracy"]["mean"] for r in runs if r["val_accuracy"]]),
                "worst": spread([100 * r["val_accuracy"]["worst"] for r in runs if r["val_accuracy"]]),
                "loss": spread([r["val_loss"] for r in runs if r["val_loss"] is not None]),
                "bytes": spread([r["bytes_sent_per_peer"] for r in runs if r["bytes_sent_per_peer"] is not None]),
                "cpu_s": spread([r["cpu_s_per_step"] for r in runs if r["cpu_s_per_step"] is not None]),
            }
        )
    return table


def spread(values: list[float]) -> tuple[float, float | None] | None:
    """(mean, standard error of the mean; None for a single value); None without values."""
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def render(summary: dict[str, Any]) -> RenderableType:
    """The table of a comparison, for a rich console."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for title in ("accuracy %: mean", "worst", "loss", "sent per peer", "CPU per step"):
        table.add_column(title, justify="right")
    table.add_column("")
    figures = rows(summary)
    base = next((row["cpu_s"][0] for row in figures if row["strategy"] == "isolated" and row["cpu_s"]), None)
    for row in figures:
        remark = REMARKS.get(row["strategy"], "")
        if not row["all_finished"]:
            remark = f"{row['finished']} peers finished; {remark}".rstrip("; ")
        alone = row["strategy"] == "pooled"
        cpu = "-" if alone or row["cpu_s"] is None else _relative(row["cpu_s"][0], base)
        sent = "-" if alone or row["bytes"] is None else size(row["bytes"][0])
        table.add_row(
            LABELS.get(row["strategy"], row["strategy"]) + _models(row), _text(row["mean"], 1), _text(row["worst"], 1),
            _text(row["loss"], 3), sent, cpu, Text(remark, style="dim"),
        )  # fmt: skip
    return Group(Text(_head(summary), style="bold"), Text(""), table)


def _head(summary: dict[str, Any]) -> str:
    config = {key: entry["value"] for key, entry in summary["config"].items()}
    shards = {
        "label_skew": f", mostly of {config.get('task.classes_per_peer')} classes",
        "same": ", the same for all",
        "disjoint": "",
    }[str(config.get("task.shards"))]
    examples = config.get("task.examples_per_peer")
    budget = summary["budget"]
    parts = [f"{summary['task']}, {summary['peers']} peers"]
    if examples:
        parts[0] += f": {examples} labelled examples each{shards}"
    limit = [f"{budget['steps']} steps"] if budget["steps"] else []
    limit += [f"{budget['seconds']:g} s"] if budget["seconds"] else []
    pace = f" of {1000 * summary['step_time_s']:g} ms (padded)" if summary["step_time_s"] else ""
    parts.append(" or ".join(limit) + pace)
    seeds = summary["seeds"]
    parts.append(f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds, mean ± standard error")
    return "; ".join(parts)


def _models(row: dict[str, Any]) -> str:
    counted = Counter(model for model in row["models"] if model)
    if row["strategy"] == "pooled" or not counted:
        return ""
    return (
        " ("
        + ", ".join(f"{n} {m.upper()}{'s' if n > 1 else ''}" for m, n in sorted(counted.items(), reverse=True))
        + ")"
    )


def _text(value: tuple[float, float | None] | None, digits: int) -> str:
    if value is None:
        return "-"
    mean, error = value
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def _relative(cpu_s: float, base: float | None) -> str:
    return f"{cpu_s / base:.2f} x" if base else f"{1000 * cpu_s:.2f} ms"

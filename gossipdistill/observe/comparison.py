"""A comparison as a table: one row per strategy, means over seeds with standard errors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.console import Group, RenderableType
from rich.text import Text

from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.fitting import Column, Fitting
from gossipdistill.observe.records import CompareRecord, CompareRow, ExamplesRecord, VerdictRecord
from gossipdistill.observe.report import size

LABELS = {
    "isolated": "alone",
    "self_distillation": "alone, learning from its own past predictions",
    "codistill_predictions": "by predictions",
    "codistill_checkpoints": "by stale checkpoints",
    "gossip_averaging": "by averaging weights",
    "leader_sgd": "by following the best neighbour",
    "sgp": "by push-sum of weights",
    "osgp": "by push-sum of weights, overlapped",
    "async_gradient_push": "by push-sum of weights, steps by time",
    "adpsgd": "by averaging weights in pairs",
    "dpsgd": "by averaging weights in rounds",
    "dmsgd": "by averaging weights in rounds, after the step",
    "decentlam": "by averaging weights in rounds, momentum corrected",
    "all_reduce": "all_reduce",
    "pooled": "pooled: one machine sees all labels",
}
REMARKS = {
    "gossip_averaging": "needs one architecture",
    "codistill_checkpoints": "needs one architecture",
    "leader_sgd": "needs one architecture",
    "sgp": "needs one architecture",
    "osgp": "needs one architecture",
    "async_gradient_push": "needs one architecture",
    "adpsgd": "needs one architecture",
    "dpsgd": "waits for the slowest neighbour",
    "dmsgd": "waits for the slowest neighbour",
    "decentlam": "waits for the slowest neighbour",
    "all_reduce": "waits for the slowest",
}


Mean = tuple[float, float | None]
"""A figure is (mean over seeds, standard error); the error is None for a single seed."""


@dataclass(frozen=True)
class Row:
    """The row of the table for one strategy, under one fault plan or without."""

    strategy: str
    faults: str | None
    begun: Sequence[CompareRow]
    """The runs of this row include those that were cut short."""
    seeds_wanted: int

    @cached_property
    def runs(self) -> list[CompareRow]:
        """The runs whose figures count."""
        return [run for run in self.begun if not is_cut_short(run)]

    @property
    def cut_short(self) -> bool:
        """Whether a signal ended one of its runs."""
        return len(self.runs) < len(self.begun)

    @property
    def expectations(self) -> list[VerdictRecord]:
        """The verdicts of all its runs."""
        return [verdict for run in self.runs for verdict in run.expectations]

    @property
    def seeds(self) -> int:
        """The number of seeds with at least one finished peer."""
        return sum(run.finished > 0 for run in self.runs)

    @property
    def finished(self) -> str:
        """The number of peers that have finished, in words."""
        return f"{sum(run.finished for run in self.runs)} of {sum(run.peers for run in self.runs)}"

    @property
    def said(self) -> list[str]:
        """The troubles and warnings of its runs, and whether its expectations were met."""
        troubles = [trouble for run in self.runs for trouble in run.troubles]
        warnings = dict.fromkeys(text for run in self.runs for text in run.warnings)
        return [*troubles, *warnings, *(verdict.line for verdict in self.expectations)]

    @cached_property
    def mean(self) -> Mean | None:
        """The peers' mean accuracy, in percent."""
        return spread([100 * run.val_accuracy.mean for run in self.runs if run.val_accuracy])

    @property
    def worst(self) -> Mean | None:
        """The worst accuracy of a peer, in percent."""
        return spread([100 * run.val_accuracy.worst for run in self.runs if run.val_accuracy])

    @property
    def loss(self) -> Mean | None:
        """The validation loss."""
        return spread([run.val_loss for run in self.runs if run.val_loss is not None])

    @property
    def sent(self) -> Mean | None:
        """The bytes sent per peer."""
        return spread([run.bytes_sent_per_peer for run in self.runs if run.bytes_sent_per_peer is not None])

    @property
    def cpu_s(self) -> Mean | None:
        """The processor time per step, in seconds."""
        return spread([run.cpu_s_per_step for run in self.runs if run.cpu_s_per_step is not None])


def rows(summary: CompareRecord) -> list[Row]:
    """One row per strategy and fault plan, in the requested order."""
    kinds: dict[tuple[str, str | None], list[CompareRow]] = {}
    for run in summary.runs:
        kinds.setdefault((run.strategy, run.faults), []).append(run)
    return [Row(strategy, faults, begun, len(summary.seeds)) for (strategy, faults), begun in kinds.items()]


def is_cut_short(run: CompareRow) -> bool:
    """Whether a signal ended this run before all its peers had finished, so that its figures do not count."""
    return (run.exit_code or 0) > 127 and run.finished < run.peers


def spread(values: Sequence[float]) -> Mean | None:
    """(mean, standard error of the mean; None for a single value); None without values."""
    if not values:
        return None
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def render(summary: CompareRecord) -> RenderableType:
    """The table of a comparison, for a rich console."""
    summary = summary.printable()
    figures = rows(summary)
    base = next((row.cpu_s[0] for row in figures if row.strategy == "isolated" and row.cpu_s), None)
    scored = any(row.mean for row in figures)
    columns = [
        Column("", folding=True),
        *(
            [Column("accuracy %\nmean", right=True), Column("\nworst", right=True)]
            if scored
            else [Column("validation\nloss", right=True)]
        ),
        Column("sent per\npeer", right=True),
        Column("CPU per\nstep", right=True),
        Column("", folding=True, dispensable=1),
    ]
    lines: list[list[RenderableType]] = []
    for row in figures:
        alone = row.strategy == "pooled"
        scores = [_text(row.mean, 1), _text(row.worst, 1)] if scored else [_text(row.loss, 4)]
        cpu = "-" if alone or row.cpu_s is None else _relative(row.cpu_s[0], base)
        sent = "-" if alone or row.sent is None else size(row.sent[0])
        label = f"  the same, under {row.faults}" if row.faults else _label(row) + _models(row)
        lines.append([label + _seeds(row), *scores, sent, cpu, Text(_remark(row), style="dim")])
    parts: list[RenderableType] = [Text(_head(summary), style="bold"), Text(""), Fitting(columns, lines), Text("")]
    return Group(*parts, *(Text(note) for note in [*_interruption(summary), *_notes(figures)]))


def _interruption(summary: CompareRecord) -> list[str]:
    """Notes on what a signal has left undone; empty for a complete comparison."""
    if summary.exit_code <= 127:
        return []
    cut = [f"{run.strategy} with seed {run.seed}" for run in summary.runs if is_cut_short(run)]
    begun = {run.strategy for run in summary.runs}
    missing = [name for name in summary.strategies if name not in begun]
    parts = [f"cut short and not counted: {', '.join(cut)}"] if cut else []
    parts += [f"not begun: {', '.join(missing)}"] if missing else []
    return ["; ".join(["interrupted", *parts])]


def _label(row: Row) -> str:
    return LABELS.get(row.strategy, row.strategy)


def _seeds(row: Row) -> str:
    """The number of seeds of a row if it is not all of them; shown beside the label, which is never left out."""
    if row.seeds >= row.seeds_wanted or not (row.cut_short or row.seeds_wanted > 1):
        return ""
    return f", over {row.seeds} of {row.seeds_wanted} seeds" if row.seeds else ", no seed finished"


def _remark(row: Row) -> str:
    remarks = [] if all(run.finished == run.peers for run in row.runs) else [f"{row.finished} peers finished"]
    if verdicts := row.expectations:
        remarks.append(f"{sum(verdict.met for verdict in verdicts)} of {len(verdicts)} expectations met")
    remarks += [REMARKS[row.strategy]] if row.strategy in REMARKS and not row.faults else []
    remarks += ["bytes by formula"] if any(run.bytes_are_computed for run in row.runs) else []
    return "; ".join(remarks)


def _notes(figures: list[Row]) -> list[str]:
    """Notes on the problems of each row, and on how to read the table."""
    notes = []
    for row in figures:
        label = _label(row) + (f", under {row.faults}" if row.faults else "")
        notes += [f"{label}: {text}" for text in row.said]
    if any(row.strategy == "codistill_predictions" for row in figures):
        notes.append(
            'In the rows "by predictions" no example, label or weight left a peer. '
            "(What predictions can reveal: docs/privacy.md)"
        )
    return notes


def _head(summary: CompareRecord) -> str:
    config = {key: entry.value for key, entry in summary.config.items()}
    peers, budget, seeds = summary.peers, summary.budget, summary.seeds
    first = f"{summary.task}, {peers} peer{'s' * (peers != 1)}"
    classes = config.get("task.classes_per_peer") if summary.classes else None
    examples = summary.examples or ExamplesRecord.model_validate(
        {
            "used": max(summary.examples_per_peer or 0, 0),
            "pool": None,
            "asked": None,
            "transfer": summary.transfer_examples,
        }
    )
    if ":" not in summary.task and (examples.asked or 0) <= examples.used:
        examples = examples.but(pool=None)  # a ready-made task with as many examples as requested: do not show its pool
    dealt = data_words([examples], str(config.get("task.shards")), classes) if examples.used else ""
    parts = [f"{first}: {dealt}" if dealt else first]
    pace = f" of {1000 * summary.step_time_s:g} ms (padded)" if summary.step_time_s else ""
    limits = [f"{budget.steps} steps{pace}"] if budget.steps else []
    limits += [f"{budget.seconds:g} s"] if budget.seconds else []
    parts.append(", at most ".join(limits))
    whole = all(row.seeds == len(seeds) for row in rows(summary))
    of_seeds = f"{len(seeds)} seeds" if whole else f"over the seeds of {len(seeds)} that finished"
    parts.append(f"seed {seeds[0]}" if len(seeds) == 1 else f"{of_seeds}, mean ± standard error")
    return "; ".join(parts)


def _models(row: Row) -> str:
    counted = Counter(model for model in row.begun[0].models if model)
    if row.strategy in ("pooled", "isolated") or not counted:
        return ""
    return (
        " ("
        + ", ".join(f"{n} {m.upper()}{'s' if n > 1 else ''}" for m, n in sorted(counted.items(), reverse=True))
        + ")"
    )


def _text(value: Mean | None, digits: int) -> str:
    if value is None:
        return "-"
    mean, error = value
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def _relative(cpu_s: float, base: float | None) -> str:
    return f"{cpu_s / base:.2f} x" if base else f"{1000 * cpu_s:.2f} ms"

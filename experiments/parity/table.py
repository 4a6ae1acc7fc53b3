"""The tables of `parity`. Pure: no run in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from experiments.common.cells import Cell
from experiments.common.command import line
from experiments.common.spread import interval

MARGIN = -0.5
"""Points. Fixed before anything was measured: codistillation is no worse if it loses less than this."""


class Row(NamedTuple):
    """One comparison: cells by seed of all_reduce and of codistillation, in the same order. `alone` may be left out."""

    words: Sequence[str]
    base: Sequence[Cell]
    cells: Sequence[Cell]
    alone: Sequence[Cell] = ()


def verdict(low: float, high: float) -> str:
    """What an interval of the difference says about the margin."""
    if low >= MARGIN:
        return "parity" if low <= 0 else "better"
    return "worse" if high < MARGIN else "open"


def comparison(heads: Sequence[str], rows: Sequence[Row]) -> str:
    """One line per comparison; differences are paired by seed."""
    columns = [
        *heads,
        "alone %",
        "all_reduce %",
        "codistilled %",
        "difference",
        "95 % interval",
        "verdict",
        "worst peer %",
        "rate, decay",
        "steps",
        "CPU",
    ]
    lines = [line(columns), line("---" for _ in columns)]
    for row in rows:
        differences = [one["accuracy"] - base["accuracy"] for one, base in zip(row.cells, row.base, strict=True)]
        mean, low, high = interval(differences)
        cpu = _least(row.cells, "cpu_s") / _least(row.base, "cpu_s")
        key = row.cells[0]["key"]
        entries = [
            *row.words,
            _mean(row.alone, "accuracy"),
            _mean(row.base, "accuracy"),
            _mean(row.cells, "accuracy"),
            f"{mean:+.2f}",
            f"{low:+.2f} to {high:+.2f}",
            verdict(low, high),
            _mean(row.cells, "worst"),
            f"{key['lr']:g}, {key['weight_decay']:g}",
            f"{row.cells[0]['steps']}",
            f"{cpu:.2f} x",
        ]
        lines.append(line(entries))
    return "\n".join(lines) + "\n"


def _mean(cells: Sequence[Cell], name: str) -> str:
    return f"{sum(cell[name] for cell in cells) / len(cells):.1f}" if cells else "-"


def _least(cells: Sequence[Cell], name: str) -> float:
    """What else the machine does can only add to it."""
    return max(min(float(cell[name]) for cell in cells), 1e-9)

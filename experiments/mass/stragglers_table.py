"""The table of `stragglers`, from its cells. Pure: no run in here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from experiments.common.command import line
from experiments.common.spread import mean_and_error

Cell = dict[str, Any]
CHANCE = 15.0
"""A peer below this accuracy (%) has collapsed: 10 is chance."""


def table(cells: Iterable[Cell]) -> str:
    """A row for each strategy, slowdown and rule; gains over training alone are paired by seed."""
    now = list(cells)
    alone = {cell["key"]["seed"]: _mean(cell) for cell in now if cell["key"]["strategy"] == "isolated"}
    heads = (
        "strategy",
        "slower",
        "bound",
        "trigger",
        "seeds",
        "accuracy",
        "gain over alone",
        "worst peer",
        "collapsed",
        "greatest weight",
        "kept",
    )
    lines = [line(heads), "| --- | ---: | ---: | --- |" + " ---: |" * (len(heads) - 4)]
    kinds = dict.fromkeys(_kind(cell) for cell in now)
    for kind in sorted(kinds, key=lambda kind: (kind[3], kind[1], kind[2], list(kinds).index(kind))):
        strategy, slowdown, unbounded, untriggered = kind
        here = [cell for cell in now if _kind(cell) == kind]
        gains = [_mean(cell) - alone[cell["key"]["seed"]] for cell in here if cell["key"]["seed"] in alone]
        exchanges = strategy != "isolated"
        gain, error = mean_and_error(gains) if gains else (float("nan"), float("nan"))
        row = [
            f"`{strategy}`",
            f"{slowdown:g} x",
            ("inf" if unbounded else "2") if exchanges else "",
            ("off" if untriggered else "on") if exchanges else "",
            str(len(here)),
            _accuracy(here),
            f"{gain:+.1f} +- {error:.1f}" if exchanges else "",
            f"{min(min(cell['accuracy']) for cell in here):.1f}",
            _collapsed(here) if exchanges else "",
            *(_greatest(here, name) if exchanges else "" for name in ("heaviest", "kept")),
        ]
        lines.append(line(row))
    return "\n".join(lines) + "\n"


def _kind(cell: Cell) -> tuple[str, float, bool, bool]:
    """(strategy, slowdown, without the bound, without the trigger)"""
    key = cell["key"]
    return key["strategy"], key["slowdown"], "stretch_max" in key, bool(key.get("untriggered"))


def _mean(cell: Cell) -> float:
    """Over the peers of ordinary speed."""
    return float(sum(cell["accuracy"]) / len(cell["accuracy"]))


def collapsed(cell: Cell) -> bool:
    """Whether a peer of ordinary speed ended at chance, or anybody beyond all numbers."""
    return not cell["finite"] or min(cell["accuracy"]) < CHANCE


def _accuracy(cells: list[Cell]) -> str:
    return f"{mean_and_error([_mean(cell) for cell in cells])[0]:.1f}"


def _collapsed(cells: list[Cell]) -> str:
    return f"{sum(map(collapsed, cells))} of {len(cells)}"


def _greatest(cells: list[Cell], name: str) -> str:
    return f"{max(cell[name] for cell in cells):.2f}"

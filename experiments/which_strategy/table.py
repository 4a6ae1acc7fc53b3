"""The table of `which_strategy`, from its cells. Pure: no run in here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from experiments.common.spread import mean_and_error
from gossipdistill.strategies import STRATEGIES, Delivery, Rounds

Cell = dict[str, Any]
SETTINGS = ("iid", "skewed")
CALM, STRAGGLER = "alike", "straggler"
ALONE = "isolated"


def table(cells: Iterable[Cell]) -> str:
    """One line per strategy; gains over training alone are paired by seed."""
    by_key: dict[tuple[str, str, str], dict[int, Cell]] = {}
    for cell in cells:
        key = cell["key"]
        by_key.setdefault((key["strategy"], key["setting"], key["speeds"]), {})[key["seed"]] = cell
    lines = [
        "| strategy | waits | accuracy %, IID | over alone | accuracy %, skewed | worst peer | over alone "
        "| MB sent per peer | CPU per step | wall s | wall s beside a straggler | accuracy % there |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alone_cpu = _cpu(by_key, ALONE)
    for row in STRATEGIES:
        if not any(key[0] == row for key in by_key):
            continue
        waits = "every round" if STRATEGIES[row].rounds is Rounds.LOCKSTEP else "never"
        skewed, slow = by_key.get((row, SETTINGS[1], CALM), {}), by_key.get((row, SETTINGS[1], STRAGGLER), {})
        iid = by_key.get((row, SETTINGS[0], CALM), {})
        cpu = _cpu(by_key, row) if STRATEGIES[row].delivery is not Delivery.COLLECTIVE else None
        lines.append(
            "| "
            + " | ".join(
                [
                    f"`{row}`",
                    waits,
                    _text(iid, _accuracy),
                    _gain(iid, by_key.get((ALONE, SETTINGS[0], CALM), {})),
                    _text(skewed, _accuracy),
                    _text(skewed, lambda cell: min(cell["accuracy"].values())),
                    _gain(skewed, by_key.get((ALONE, SETTINGS[1], CALM), {})),
                    _text(skewed, lambda cell: cell["megabytes"]),
                    f"{cpu / alone_cpu:.1f} x" if cpu and alone_cpu else "-",
                    _text(skewed, lambda cell: cell["wall_s"]),
                    _text(slow, lambda cell: cell["wall_s"]),
                    _text(slow, _accuracy),
                ]
            )
            + " |"
        )
    return "\n".join(lines) + "\n"


def _accuracy(cell: Cell) -> float:
    values = cell["accuracy"].values()
    return float(sum(values) / len(values))


def _text(cells: dict[int, Cell], of: Any) -> str:
    return f"{mean_and_error([of(cell) for cell in cells.values()])[0]:.1f}" if cells else "-"


def _gain(cells: dict[int, Cell], alone: dict[int, Cell]) -> str:
    gains = [_accuracy(cell) - _accuracy(alone[seed]) for seed, cell in cells.items() if seed in alone]
    if not gains:
        return "-"
    mean, error = mean_and_error(gains)
    return f"{mean:+.1f}" if math.isnan(error) else f"{mean:+.1f} ± {error:.1f}"


def _cpu(by_key: dict[tuple[str, str, str], dict[int, Cell]], row: str) -> float | None:
    """The least of all cells of equal speeds: what else the machine does can only add to it."""
    found = [c["cpu_ms_per_step"] for key, cells in by_key.items() if key[0] == row for c in cells.values()]
    return min(found, default=None)

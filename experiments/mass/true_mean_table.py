"""The tables of `true_mean`, from its cells. Pure: no run in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common.command import line
from experiments.common.spread import mean_and_error

Cell = dict[str, Any]
WANTED = 0.02
"""The distance from the true mean that is not to be exceeded."""
HEADS = (
    "graph",
    "strategy",
    "before",
    "shares",
    "**distance of the mean**",
    "over the last steps",
    "shares",
    "a peer's own",
    "worst peer",
    "spread",
    "heaviest",
    "without the bound",
)


def table(cells: Iterable[Cell], before: Iterable[Cell], weights: Mapping[str, Sequence[float]]) -> str:
    """A table for each setting, and one of the limits; `weights`: the stationary ones of each graph."""
    now, then = list(cells), list(before)
    settings = list(dict.fromkeys(cell["key"]["setting"] for cell in now if "noise" not in cell["key"]))
    parts = [_of_setting(setting, now, then) for setting in settings]
    return "\n".join([*parts, _limits(now, then, weights)])


def _of_setting(setting: str, now: list[Cell], then: list[Cell]) -> str:
    lines = [f"### {setting}", "", line(HEADS), "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    wanted = {
        (cell["key"]["graph"], cell["key"]["strategy"]): None for cell in now if cell["key"]["setting"] == setting
    }
    for graph, strategy in wanted:
        here = [_select(found, graph, strategy, setting) for found in (now, then)]
        default, old = ([cell for cell in found if "stretch_max" not in cell["key"]] for found in here)
        unbounded = [cell for cell in here[0] if "stretch_max" in cell["key"]]
        if default:
            row = [graph, f"`{strategy}`", _one(old, "mean"), _shares(old), _wanted(default, "mean")]
            row += [_wanted(default, "averaged"), _shares(default)]
            row += [_wanted(default, name) for name in ("each", "worst")]
            row += [_one(default, "spread"), _one(default, "heaviest", 2), _one(unbounded, "mean")]
            lines.append(line(row))
    return "\n".join(lines) + "\n"


def _select(cells: list[Cell], graph: str, strategy: str, setting: str) -> list[Cell]:
    key = {"graph": graph, "strategy": strategy, "setting": setting}
    return [cell for cell in cells if "noise" not in cell["key"] and key.items() <= cell["key"].items()]


def _one(cells: list[Cell], name: str, digits: int = 3) -> str:
    """The mean over seeds."""
    return f"{sum(cell[name] for cell in cells) / len(cells):.{digits}f}" if cells else ""


def _wanted(cells: list[Cell], name: str) -> str:
    """The same, with an exclamation mark where it is more than is wanted."""
    return _one(cells, name) + (" !" if sum(cell[name] for cell in cells) / len(cells) > WANTED else "")


def _shares(cells: list[Cell]) -> str:
    """The least and the largest share, times n, in the mean over seeds."""
    if not cells:
        return ""
    shares = np.mean([cell["shares"] for cell in cells], axis=0) * len(cells[0]["shares"])
    return f"{shares.min():.2f} to {shares.max():.2f}"


def _limits(now: list[Cell], then: list[Cell], weights: Mapping[str, Sequence[float]]) -> str:
    heads = ("graph", "S", "seeds", "slope before", "slope", "from S = inf, in standard errors", "distance of the mean")
    lines = ["### One limit", "", line(heads), "| --- |" + " ---: |" * (len(heads) - 1)]
    noisy = [cell for cell in now if "noise" in cell["key"]]
    for graph in dict.fromkeys(cell["key"]["graph"] for cell in noisy):
        slopes: dict[float, list[float]] = {}
        rows = []
        for stretch in sorted({cell["key"]["stretch_max"] for cell in noisy}):
            key = {"graph": graph, "stretch_max": stretch}
            found, old = (
                [cell["shares"] for cell in cells if "noise" in cell["key"] and key.items() <= cell["key"].items()]
                for cells in (now, then)
            )
            slopes[stretch] = [slope(shares, weights[graph]) for shares in found]
            earlier = mean_and_error([slope(shares, weights[graph]) for shares in old]) if old else None
            off = float(np.linalg.norm(np.mean(found, axis=0) - 1 / len(found[0])))
            rows.append((stretch, mean_and_error(slopes[stretch]), earlier, off, len(found)))
        last_mean, last_error = rows[-1][1]
        for stretch, (mean, error), earlier, off, seeds in rows:
            last = stretch == rows[-1][0]
            apart = "" if last else f"{abs(mean - last_mean) / (error**2 + last_error**2) ** 0.5:.1f}"
            was = f"{earlier[0]:+.3f} +- {earlier[1]:.3f}" if earlier is not None else ""
            name = "inf" if last else f"{stretch:g}"
            lines.append(f"| {graph} | {name} | {seeds} | {was} | {mean:+.4f} +- {error:.4f} | {apart} | {off:.4f} |")
    return "\n".join(lines) + "\n"


def slope(shares: Sequence[float], weights: Sequence[float]) -> float:
    """The slope of n times a peer's share over the stationary weight of its place, by least squares: 0 if all have the
    same, 1 if a share is what the weight is."""
    apart = np.asarray(weights) - 1.0
    return float(apart @ (len(shares) * np.asarray(shares) - 1.0) / (apart @ apart))

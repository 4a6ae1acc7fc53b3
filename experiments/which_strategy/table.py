"""The tables of `which_strategy`, from its cells. Pure: no run in here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.common.command import line
from experiments.common.spread import mean_and_error
from gossipdistill.strategies import STRATEGIES, Delivery, Rounds

Cell = dict[str, Any]
Cells = Mapping[int, Cell]
"""By seed."""
SETTINGS = ("iid", "skewed")
CALM, STRAGGLER = "alike", "straggler"
ALONE, DEAREST = "isolated", "codistill_predictions"
"""The baseline, and the strategy whose processor time it is given in the table at equal time."""
EQUAL_ERRORS = 2.0
"""Two strategies whose paired difference is below this many standard errors have the same rank."""
SENT_MIN = 0.1
"""Megabytes: who sends less has only greeted and probed."""


class Series:
    """The cells of one scale."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._by_key: dict[tuple[str, str, str, float], dict[int, Cell]] = {}
        for cell in cells:
            key = cell["key"]
            place = (key["strategy"], key["setting"], key["speeds"], key.get("times", 1.0))
            self._by_key.setdefault(place, {})[key["seed"]] = cell

    def of(self, strategy: str, setting: str, speeds: str = CALM, times: float = 1.0) -> Cells:
        """The cells of this strategy, with so many times the steps."""
        return self._by_key.get((strategy, setting, speeds, times), {})

    @property
    def strategies(self) -> list[str]:
        """Those of which there is a cell, in the order of the product's own list."""
        return [name for name in STRATEGIES if any(key[0] == name for key in self._by_key)]

    def cost(self, strategy: str) -> float | None:
        """Processor time of a step over that of training alone: of each the least of all cells, since what else the
        machine does can only add to it. None where one of the two was not measured."""
        if STRATEGIES[strategy].delivery is Delivery.COLLECTIVE:
            return None
        least = [
            min(
                (c["cpu_ms_per_step"] for key, cells in self._by_key.items() if key[0] == name for c in cells.values()),
                default=None,
            )
            for name in (strategy, ALONE)
        ]
        return least[0] / least[1] if least[0] and least[1] else None

    @property
    def times(self) -> float | None:
        """How many times the steps training alone gets in the time that the dearest teacher takes: to the next half,
        in its favour."""
        cost = self.cost(DEAREST)
        return max(1.0, math.ceil(2 * cost) / 2) if cost is not None else None

    def ranks(self, setting: str) -> dict[str, int]:
        """Of those that exchange anything: 1 + the number of strategies in the groups before its own. A group ends
        where each one before is better than each one after by more than chance: two that are equal share a rank."""
        found = {name: self.of(name, setting) for name in self.strategies}
        sending = {name: one for name, one in found.items() if any(c["megabytes"] > SENT_MIN for c in one.values())}
        order = sorted(sending, key=lambda name: -mean_and_error([_accuracy(c) for c in sending[name].values()])[0])
        ranks: dict[str, int] = {}
        for place, name in enumerate(order):
            before, after = order[:place], order[place:]
            ends = all(_better(sending[one], sending[other]) for one in before for other in after)
            ranks[name] = place + 1 if ends else ranks[order[place - 1]]
        return ranks


def table(cells: Iterable[Cell]) -> str:
    """One line per strategy; gains over training alone are paired by seed. Below it the same at equal time."""
    series = Series(cells)
    lines = [
        "| strategy | waits | accuracy %, IID | over alone | rank | accuracy %, skewed | worst peer | over alone "
        "| rank | MB sent per peer | CPU per step | wall s | wall s beside a straggler | accuracy % there |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    ranks = {setting: series.ranks(setting) for setting in SETTINGS}
    for row in series.strategies:
        iid, skewed = (series.of(row, setting) for setting in SETTINGS)
        slow = series.of(row, SETTINGS[1], STRAGGLER)
        cost = series.cost(row)
        entries = [
            f"`{row}`",
            "every round" if STRATEGIES[row].rounds is Rounds.LOCKSTEP else "never",
            _text(iid, _accuracy),
            _gain(iid, series.of(ALONE, SETTINGS[0])),
            _rank(row, ranks[SETTINGS[0]]),
            _text(skewed, _accuracy),
            _text(skewed, lambda cell: min(cell["accuracy"].values())),
            _gain(skewed, series.of(ALONE, SETTINGS[1])),
            _rank(row, ranks[SETTINGS[1]]),
            _text(skewed, lambda cell: cell["megabytes"]),
            f"{cost:.1f} x" if cost is not None else "-",
            _wall(skewed),
            _wall(slow),
            _text(slow, _accuracy),
        ]
        lines.append(line(entries))
    return "\n".join(lines + _equal_time(series)) + "\n"


def _equal_time(series: Series) -> list[str]:
    """The second table; nothing where training alone was not given the time of the others."""
    times = series.times
    longer = {setting: series.of(ALONE, setting, times=times) for setting in SETTINGS} if times is not None else {}
    if not any(longer.values()):
        return []
    lines = [
        "",
        f"At equal processor time: training alone with {times:g} times the steps, which is what a step of `{DEAREST}` "
        "costs (to the next half, in favour of training alone). The others have their own steps, as above, and most "
        "need less than that time.",
        "",
        f"| strategy | CPU per step | accuracy %, IID | over alone with {times:g} x steps | accuracy %, skewed "
        f"| over alone with {times:g} x steps |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    first = [f"`{ALONE}`, {times:g} x steps", f"{times:.1f} x"]
    rows = [(first, [longer[setting] for setting in SETTINGS])]
    for row in series.strategies:
        cost = series.cost(row)
        rows.append(
            ([f"`{row}`", f"{cost:.1f} x" if cost is not None else "-"], [series.of(row, one) for one in SETTINGS])
        )
    for head, found in rows:
        pairs = [
            (_text(cells, _accuracy), _gain(cells, longer[one])) for cells, one in zip(found, SETTINGS, strict=True)
        ]
        lines.append(line([*head, *(text for pair in pairs for text in pair)]))
    return lines


def _accuracy(cell: Cell) -> float:
    values = cell["accuracy"].values()
    return float(sum(values) / len(values))


def _text(cells: Cells, of: Any) -> str:
    return f"{mean_and_error([of(cell) for cell in cells.values()])[0]:.1f}" if cells else "-"


def _wall(cells: Cells) -> str:
    """Virtual seconds; of a collective also those in which all of its messages travel during the computation."""
    text = _text(cells, lambda cell: cell["wall_s"])
    hidden = {seed: cell for seed, cell in cells.items() if "wall_overlapped_s" in cell}
    return f"{text} ({_text(hidden, lambda cell: cell['wall_overlapped_s'])} overlapped)" if hidden else text


def _rank(row: str, ranks: Mapping[str, int]) -> str:
    """With a sign of equality where it is shared."""
    if row not in ranks:
        return "-"
    return f"{ranks[row]}{'=' if list(ranks.values()).count(ranks[row]) > 1 else ''}"


def _differences(cells: Cells, others: Cells) -> list[float]:
    return [_accuracy(cell) - _accuracy(others[seed]) for seed, cell in cells.items() if seed in others]


def _better(cells: Cells, others: Cells) -> bool:
    """Whether the first are better, by so much that it is no chance; a single seed says nothing."""
    differences = _differences(cells, others)
    if len(differences) < 2:
        return False
    mean, error = mean_and_error(differences)
    return mean > 0 and mean >= EQUAL_ERRORS * error


def _gain(cells: Cells, alone: Cells) -> str:
    gains = _differences(cells, alone)
    if not gains:
        return "-"
    mean, error = mean_and_error(gains)
    return f"{mean:+.1f}" if math.isnan(error) else f"{mean:+.1f} ± {error:.1f}"

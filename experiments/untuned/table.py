"""The table of the bed, from its cells, and what is asked of the codistillation family. Pure: no run in here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.common.cells import Cell
from experiments.common.spread import interval
from gossipdistill.strategies import STRATEGIES, Rounds

TASKS = ("digits", "synthetic", "adult", "text", "fashion", "cifar10")
SHARDS = ("iid", "skewed")
GRAPHS = ("complete-4", "irregular-7")
ALONE = "isolated"
TEACHERS = ("codistill_predictions", "codistill_checkpoints", "codistill_groups")
FAMILY = (ALONE, *TEACHERS)
SYMMETRIC = ("adpsgd",)
"""They need the reverse of each link."""
FLOAT_INPUTS = ("concurrent_adversarial",)
"""They need inputs that are floating-point numbers: the task text has none."""
OTHERS = tuple(name for name, kind in STRATEGIES.items() if name not in FAMILY and kind.rounds is not Rounds.LOCKSTEP)
"""Strategies that wait for nobody; those in lockstep have no place here."""

MEAN_MIN, LOW_MIN, SEED_MIN, PEER_MIN, WIDTH_MAX = -0.5, -2.0, -3.0, -5.0, 4.0
"""What is asked of each cell, in points over training alone: of the mean, of the lower end of its 95 % interval, of the
worst seed, of the worst peer; and the greatest width of the interval, beyond which more seeds are run."""

SEEDS, SEEDS_MAX = 10, 30
"""Seeds of the family, and the most that a wide interval gets."""

Place = tuple[str, str, str]
"""Task, shards, graph."""


def applies(strategy: str, graph: str, task: str) -> bool:
    """Whether the strategy can run on this graph with this task."""
    return (graph == GRAPHS[0] or strategy not in SYMMETRIC) and (task != "text" or strategy not in FLOAT_INPUTS)


@dataclass(frozen=True)
class Gain:
    """One strategy at one place: points over training alone, paired by seed."""

    seeds: int
    mean: float
    low: float
    """The lower end of the 95 % interval of the mean; NaN for one seed."""
    high: float
    worst_seed: float
    worst_peer: float
    bad_ends: int
    """Peers that the product itself calls collapsed or diverged, over all seeds."""
    bad_ends_alone: int

    @classmethod
    def of(cls, cells: Mapping[int, Cell], alone: Mapping[int, Cell]) -> Gain | None:
        """From the cells of a strategy and those of training alone, by seed; None where no seed has both."""
        seeds = sorted(cells.keys() & alone.keys())
        if not seeds:
            return None
        by_seed = []
        for seed in seeds:
            now, before = cells[seed]["accuracy"], alone[seed]["accuracy"]
            by_seed.append([now[name] - before[name] for name in before])
        means = [sum(gains) / len(gains) for gains in by_seed]
        ends, ends_alone = (sum(len(of[seed]["bad_ends"]) for seed in seeds) for of in (cells, alone))
        return cls(len(seeds), *interval(means), min(means), min(map(min, by_seed)), ends, ends_alone)

    @property
    def wide(self) -> bool:
        """Whether more seeds are needed, as the interval is too wide; also where one seed tells nothing."""
        return self.seeds < SEEDS_MAX and not self.high - self.low <= WIDTH_MAX

    def failures(self) -> list[str]:
        """What is asked and not met; in words. The end of an interval counts once there are seeds enough."""
        asked = (
            ("mean", self.mean, MEAN_MIN),
            ("interval", LOW_MIN if self.wide else self.low, LOW_MIN),
            ("seed", self.worst_seed, SEED_MIN),
            ("peer", self.worst_peer, PEER_MIN),
        )
        found = [f"{what} {value:+.1f}" for what, value, least in asked if value < least]
        return found + ([f"{self.bad_ends} collapsed"] if self.bad_ends else [])


def gains(cells: Iterable[Cell]) -> dict[tuple[Place, str], Gain]:
    """(place, strategy) -> its gain, for all strategies but training alone, in the order of the table."""
    by_key = _by_key(cells)
    found = {}
    for place in places():
        for strategy in (*TEACHERS, *OTHERS):
            gain = Gain.of(by_key.get((place, strategy), {}), by_key.get((place, ALONE), {}))
            if gain is not None:
                found[place, strategy] = gain
    return found


def places() -> list[Place]:
    """All of them, in the order of the table."""
    return [(task, shards, graph) for task in TASKS for shards in SHARDS for graph in GRAPHS]


def table(cells: Iterable[Cell]) -> str:
    """One line per place and strategy, those of the family with a verdict; then what failed."""
    cells = list(cells)
    by_key, found = _by_key(cells), gains(cells)
    lines = [
        "| task | labels | graph | strategy | seeds | alone % | accuracy % | over alone | 95 % interval | worst seed "
        "| worst peer | collapsed | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (place, strategy), gain in found.items():
        alone, own = by_key[place, ALONE], by_key[place, strategy]
        seeds = sorted(own.keys() & alone.keys())
        ends = str(gain.bad_ends) if not gain.bad_ends_alone else f"{gain.bad_ends} (alone {gain.bad_ends_alone})"
        ends_95 = "-" if math.isnan(gain.low) else f"{gain.low:+.2f} to {gain.high:+.2f}"
        lines.append(
            f"| {' | '.join(place)} | `{strategy}` | {gain.seeds} | {_accuracy(alone, seeds):.1f} "
            f"| {_accuracy(own, seeds):.1f} | {gain.mean:+.2f} | {ends_95} | {gain.worst_seed:+.1f} "
            f"| {gain.worst_peer:+.1f} | {ends} | {_verdict(strategy, gain)} |"
        )
    return "\n".join([*lines, "", *_summary(found)]) + "\n"


def _verdict(strategy: str, gain: Gain) -> str:
    if strategy not in TEACHERS:
        return "-"
    failures = gain.failures()
    if failures:
        return "**" + ", ".join(failures) + "**"
    return "wide" if gain.wide else "holds" if gain.seeds >= SEEDS else "holds so far"


def _summary(found: Mapping[tuple[Place, str], Gain]) -> list[str]:
    """How many of the family's cells hold."""
    lines = []
    for strategy in TEACHERS:
        of = [gain for (_, name), gain in found.items() if name == strategy]
        if not of:
            continue
        failed = sum(bool(gain.failures()) for gain in of)
        wide = sum(gain.wide and not gain.failures() for gain in of)
        seeds, count = [gain.seeds for gain in of], len(places())
        lines.append(
            f"`{strategy}`: of {count} cells {len(of) - failed - wide} hold so far, {failed} do not, and {wide} "
            f"have intervals wider than {WIDTH_MAX:g} points; {sum(gain.bad_ends for gain in of)} peers collapsed or "
            f"diverged; {min(seeds)} to {max(seeds)} seeds in {len(of)} cells; "
            f"worst peer {min(gain.worst_peer for gain in of):+.1f}."
        )
    return lines


def _by_key(cells: Iterable[Cell]) -> dict[tuple[Place, str], dict[int, Cell]]:
    by_key: dict[tuple[Place, str], dict[int, Cell]] = {}
    for cell in cells:
        key = cell["key"]
        place = (key["task"], key["shards"], key["graph"])
        by_key.setdefault((place, key["strategy"]), {})[key["seed"]] = cell
    return by_key


def _accuracy(cells: Mapping[int, Cell], seeds: Iterable[int]) -> float:
    means = [sum(cells[seed]["accuracy"].values()) / len(cells[seed]["accuracy"]) for seed in seeds]
    return float(sum(means) / len(means))

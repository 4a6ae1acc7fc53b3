"""What the pace was to reach, and whether it did: from the figures of all repeats to verdicts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.kit.series import mean, median
from benchmarks.kit.verdict import Verdict, at_least, at_most
from benchmarks.pace.scenes import HEALTHY, KILL, LINKED_FROM_PER_S, RESTART, STOP, STRAGGLER

PACE_MIN = {"codistill_predictions": 0.95, "gossip_averaging": 0.97, "codistill_checkpoints": 0.97}
CORES_MAX = 0.25
EXCHANGE_RATIO_MIN = 0.95
EXCHANGES_PER_S_MIN = 40.0
"""Each way between two untouched peers, at one exchange per step of 20 ms to every neighbour."""
SUSPECT_MAX_S = 2.0
REJOIN_MAX_S = 5.0
FAULTS = (STRAGGLER, STOP, KILL)

Repeat = dict[str, dict[str, dict[str, Any]]]
"""Figures by row and scene."""


def pace_ratio(repeat: Repeat, row: str, scene: str) -> float | None:
    """Steps per second of the untouched over those of `isolated` in the same scene of the same repeat.

    Where `isolated` ran twice the mean of the two is taken.
    """
    mine = _steps(repeat, row, scene)
    alone = mean(_steps(repeat, name, scene) for name in ("isolated", "isolated again"))
    return mine / alone if mine is not None and alone else None


def own_spread(repeat: Repeat) -> float | None:
    """`isolated again` over `isolated`, healthy: what a ratio of 1 looks like on this machine."""
    one, other = _steps(repeat, "isolated", HEALTHY), _steps(repeat, "isolated again", HEALTHY)
    return other / one if one and other is not None else None


def cores(repeat: Repeat, row: str, scene: str) -> float | None:
    """CPU seconds per second of an untouched worker, mean."""
    return mean(_figures(repeat, row, scene).get("cores", {}).values())


def linked(repeat: Repeat, row: str) -> dict[str, float]:
    """Exchanges per second, healthy, of the pairs that the topology links.

    Others may have met once, when somebody was not there yet, or stand in for one that is lost.
    """
    healthy = _figures(repeat, row, HEALTHY).get("exchanges_per_s", {})
    return {pair: per_s for pair, per_s in healthy.items() if per_s >= LINKED_FROM_PER_S}


def pair_medians(repeats: Sequence[Repeat], row: str, scene: str) -> dict[str, float]:
    """Exchanges per second by linked pair, median over repeats."""

    def now(repeat: Repeat) -> dict[str, float]:
        found = _figures(repeat, row, scene).get("exchanges_per_s", {})
        return {pair: found.get(pair, 0.0) for pair in linked(repeat, row)}

    return _by_pair([repeat for repeat in repeats if scene in repeat.get(row, {})], now)


def pair_ratios(repeats: Sequence[Repeat], row: str, scene: str) -> dict[str, float]:
    """Exchanges per second by pair over the same pair's in the healthy scene of the same repeat, median."""

    def ratios(repeat: Repeat) -> dict[str, float]:
        now = _figures(repeat, row, scene).get("exchanges_per_s", {})
        return {pair: now.get(pair, 0.0) / per_s for pair, per_s in linked(repeat, row).items()}

    there = [repeat for repeat in repeats if scene in repeat.get(row, {})]
    return _by_pair(there, ratios)


def verdicts(repeats: Sequence[Repeat], rows: Iterable[str]) -> list[Verdict]:
    """Every target, for the rows that were run."""
    found: list[Verdict] = []
    for row in rows:
        if row in PACE_MIN:
            found += _of_pace(repeats, row) + _of_exchanges(repeats, row) + _of_faults(repeats, row)
    return found


def _of_pace(repeats: Sequence[Repeat], row: str) -> list[Verdict]:
    found = []
    for scene in (HEALTHY, *FAULTS):
        ratio = median(pace_ratio(repeat, row, scene) for repeat in repeats)
        found.append(at_least(f"{row}, {scene}: pace, of isolated", ratio, PACE_MIN[row], "{:.3f}"))
    used = median(cores(repeat, row, HEALTHY) for repeat in repeats)
    found.append(at_most(f"{row}, healthy: cores per worker", used, CORES_MAX, "{:.3f}"))
    return found


def _of_exchanges(repeats: Sequence[Repeat], row: str) -> list[Verdict]:
    found = []
    for scene in FAULTS:
        pair, ratio = _worst(pair_ratios(repeats, row, scene))
        target = f"{row}, {scene}: exchanges of the worst healthy pair, of its own usual"
        found.append(at_least(target, ratio, EXCHANGE_RATIO_MIN, "{:.3f}" + pair))
    if row == "codistill_predictions":
        for scene in (HEALTHY, *FAULTS):
            pair, per_s = _worst(pair_medians(repeats, row, scene))
            target = f"{row}, {scene}: exchanges/s of the worst healthy pair, one way"
            found.append(at_least(target, per_s, EXCHANGES_PER_S_MIN, "{:.1f}" + pair))
    return found


def _of_faults(repeats: Sequence[Repeat], row: str) -> list[Verdict]:
    found = []
    for scene in (STOP, KILL):
        told = [_figures(repeat, row, scene) for repeat in repeats if _figures(repeat, row, scene)]
        delays = [delay for figures in told for delay in figures.get("suspect_s", {}).values()]
        never = any(delay is None for delay in delays)
        slowest = float("inf") if never else max(delays, default=None)
        found.append(at_most(f"{row}, {scene}: suspect after, slowest of all (s)", slowest, SUSPECT_MAX_S, "{:.2f}"))
        lines = max((figures["lines_per_change_max"] for figures in told), default=None)
        found.append(at_most(f"{row}, {scene}: log lines per peer and change of state", lines, 1, "{:.0f}"))
        noise = max((figures["stderr_lines"] for figures in told), default=None)
        found.append(at_most(f"{row}, {scene}: lines on standard error", noise, 0, "{:.0f}"))
    back = [_figures(repeat, row, RESTART) for repeat in repeats if _figures(repeat, row, RESTART)]
    waits = [figures["rejoin_s"] for figures in back]
    slowest = float("inf") if None in waits else max(waits, default=None)
    target = f"{row}, restart: exchanges both ways after ready, slowest of all (s)"
    found.append(at_most(target, slowest, REJOIN_MAX_S, "{:.2f}"))
    return found


# --- small steps -------------------------------------------------------------------------------------------------


def _figures(repeat: Repeat, row: str, scene: str) -> dict[str, Any]:
    return repeat.get(row, {}).get(scene, {})


def _steps(repeat: Repeat, row: str, scene: str) -> float | None:
    return mean(_figures(repeat, row, scene).get("steps_per_s", {}).values())


def _by_pair(repeats: Sequence[Repeat], of: Callable[[Repeat], dict[str, float]]) -> dict[str, float]:
    every = [of(repeat) for repeat in repeats]
    pairs = sorted({pair for one in every for pair in one})
    return {pair: median(one.get(pair, 0.0) for one in every if one) or 0.0 for pair in pairs}


def _worst(by_pair: dict[str, float]) -> tuple[str, float | None]:
    if not by_pair:
        return "", None
    pair = min(by_pair, key=by_pair.__getitem__)
    return f" ({pair})", by_pair[pair]

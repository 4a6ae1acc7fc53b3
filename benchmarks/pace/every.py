"""The pace beside a straggler under every strategy there is: python -m benchmarks.pace --every [--strategies ...]

Five workers, of which the last is ten times slower in one of the two runs of a row. Free strategies must keep the pace
of training alone, and healthy pairs their exchanges; those in lockstep must say that they wait, and do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.kit.machine import heading
from benchmarks.kit.series import median
from benchmarks.kit.verdict import Verdict, at_least, at_most
from benchmarks.pace.ratios import Repeat, cores, own_spread, pace_ratio, pair_ratios
from benchmarks.pace.scenes import EVERYBODY, HEALTHY, SLOWDOWN, STEP_TIME_S, STRAGGLER, Row, Windows
from gossipdistill.roster import load_roster
from gossipdistill.strategies import STRATEGIES, Delivery, Rounds

PEERS, EVERY_STEPS, BATCH_SIZE = 5, 2, 32
PACE_MIN, EXCHANGE_RATIO_MIN, WAITING_MAX = 0.97, 0.95, 0.5
WINDOWS = Windows(warm_up_s=1.5, window_s=3.0)
NAMES = load_roster(str(PEERS)).names
COMMON = (
    "task.model=mlp",
    "task.hidden=[64]",
    "task.transfer_examples=128",
    "task.examples_per_peer=100",
    f"train.batch_size={BATCH_SIZE}",
    "train.lr_schedule=constant",
    "train.lr=0.01",
    f"train.step_time_s={STEP_TIME_S}",
)
OWN = {
    "concurrent_adversarial": ("task.shards=same", f"strategy.helpers={list(NAMES[:1])}"),
    "codistill_predictions": (f"strategy.transfer_batch_size={BATCH_SIZE}",),
    "self_distillation": (f"strategy.transfer_batch_size={BATCH_SIZE}",),
}
"""What a strategy needs in order to exchange anything, or so that its step stays short: one helper for all, since each
makes a gradient for every step of everybody who asks it."""


def _row(key: str, strategy: str) -> Row:
    kind = STRATEGIES[strategy]
    settings = OWN.get(strategy, ())
    if kind.rounds is Rounds.FREE and kind.delivery.gossips:
        settings = (*settings, f"exchange.every_steps={EVERY_STEPS}", "exchange.per_second_max=0")
    return Row(key, strategy, EVERYBODY, settings, (HEALTHY, STRAGGLER), PEERS, COMMON)


ROWS = {name: _row(name, name) for name in STRATEGIES} | {"isolated again": _row("isolated again", "isolated")}


def waits(key: str) -> bool:
    """Whether the strategy of this row declares that it waits."""
    return STRATEGIES[ROWS[key].strategy].rounds is Rounds.LOCKSTEP


def exchanges(key: str) -> bool:
    """Whether pairs exchange anything that is counted through our sockets."""
    return STRATEGIES[ROWS[key].strategy].delivery not in (Delivery.NONE, Delivery.COLLECTIVE)


def verdicts(repeats: Sequence[Repeat], keys: Sequence[str]) -> list[Verdict]:
    """Every target, for the rows that were run; training alone is what the others are measured by."""
    found: list[Verdict] = []
    for key in keys:
        if ROWS[key].strategy == "isolated":
            continue
        ratio = median(pace_ratio(repeat, key, STRAGGLER) for repeat in repeats)
        if waits(key):
            target = f"{key}, which says that it waits: pace beside the straggler, of isolated"
            found.append(at_most(target, ratio, WAITING_MAX, "{:.3f}"))
            continue
        found.append(at_least(f"{key}: pace beside the straggler, of isolated", ratio, PACE_MIN, "{:.3f}"))
        if exchanges(key):
            kept = _kept(repeats, key)
            target = f"{key}: exchanges of healthy pairs beside the straggler, of their usual, median pair"
            found.append(at_least(target, kept, EXCHANGE_RATIO_MIN, "{:.3f}"))
    return found


def report(about: dict[str, Any], repeats: Sequence[Repeat], keys: Sequence[str], windows: Windows) -> list[str]:
    """The whole report in markdown."""
    spreads = [spread for spread in (own_spread(repeat) for repeat in repeats) if spread is not None]
    own = f"{median(spreads):.3f}" if spreads else "not measured"
    return [
        "# The pace beside a straggler, under every strategy",
        "",
        *heading(about),
        "",
        f"{PEERS} processes on digits, MLP 64-64-10 (4,810 parameters, 19 kB), one torch thread each, batch "
        f"{BATCH_SIZE}, **every step padded by sleep to {1000 * STEP_TIME_S:.0f} ms**, all linked with all. "
        f"Free strategies exchange every {EVERY_STEPS} steps; lockstep ones at every step. In the second run of a row "
        f"the last worker is {SLOWDOWN:g} times slower from its start. Figures are of the four others, over "
        f"{windows.window_s:g} s; medians of {len(repeats)} repeats. A/A (isolated twice, healthy): {own}.",
        "",
        "| strategy | waits | steps/s, all healthy | steps/s beside a straggler | of isolated | cores per worker "
        "| exchanges of healthy pairs kept: median, worst |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_line(repeats, key) for key in keys),
        "",
        "| to reach | found | |",
        "| --- | --- | --- |",
        *(verdict.line() for verdict in verdicts(repeats, keys)),
    ]


def _line(repeats: Sequence[Repeat], key: str) -> str:
    cells = [key, "every round" if waits(key) else "never"]
    for scene in (HEALTHY, STRAGGLER):
        steps = [value for repeat in repeats for value in repeat[key].get(scene, {}).get("steps_per_s", {}).values()]
        cells.append(_text(median(steps), "{:.1f}"))
    cells.append(_text(median(pace_ratio(repeat, key, STRAGGLER) for repeat in repeats), "{:.3f}"))
    cells.append(_text(median(cores(repeat, key, STRAGGLER) for repeat in repeats), "{:.3f}"))
    ratios = pair_ratios(repeats, key, STRAGGLER).values() if exchanges(key) else ()
    cells.append(f"{_text(_kept(repeats, key), '{:.3f}')}, {min(ratios):.3f}" if ratios else "-")
    return "| " + " | ".join(cells) + " |"


def _kept(repeats: Sequence[Repeat], key: str) -> float | None:
    return median(pair_ratios(repeats, key, STRAGGLER).values()) if exchanges(key) else None


def _text(value: float | None, shape: str) -> str:
    return shape.format(value) if value is not None else "-"

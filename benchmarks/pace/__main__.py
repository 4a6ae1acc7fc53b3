"""Does anybody wait? Four workers, steps of 20 ms, and one of them is slow, stopped, killed or started again.

python -m benchmarks.pace [--repeats 5] [--seconds 4] [--strategies ...] [--scenes ...] [--quick] [--out FOLDER]
python -m benchmarks.pace --every [--repeats 3] ...      every strategy there is, beside a straggler (pace_every.py)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.series import mean, median
from benchmarks.kit.verdict import Verdict
from benchmarks.pace import every as pace_every
from benchmarks.pace.ratios import Repeat, cores, own_spread, pace_ratio, pair_medians, pair_ratios, verdicts
from benchmarks.pace.scenes import (
    BATCH_SIZE,
    HEALTHY,
    RESTART,
    ROWS,
    SCENES,
    SLOWDOWN,
    STEP_TIME_S,
    STOP,
    TRANSFER_EXAMPLES,
    Row,
    Windows,
    run_row,
)


def repeat_rows(
    rows: Mapping[str, Row], keys: Sequence[str], scenes: Sequence[str], repeats: int, windows: Windows
) -> list[Repeat]:
    """All rows in every repeat, interleaved; each repeat begins with another row."""
    found: list[Repeat] = []
    began_s = time.monotonic()
    for number in range(repeats):
        shift = number % len(keys)
        repeat: Repeat = {}
        for key in [*keys[shift:], *keys[:shift]]:
            repeat[key] = run_row(rows[key], scenes, windows)
            healthy = mean(repeat[key].get(HEALTHY, {}).get("steps_per_s", {}).values()) or 0.0
            passed_s = time.monotonic() - began_s
            print(f"{passed_s:5.0f} s  repeat {number + 1} of {repeats}: {key}, {healthy:.1f} steps/s", flush=True)
        found.append(repeat)
    return found


def table(repeats: Sequence[Repeat], keys: Sequence[str]) -> list[str]:
    """One line for each row and scene: medians over the repeats."""
    lines = [
        "| strategy | scene | steps/s | of isolated | cores per worker | exchanges/s per healthy pair, one way "
        "| kept, worst pair | taken in per worker and s | age ms, median, p95 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in keys:
        for scene in SCENES[:-1]:
            if any(scene in repeat[key] for repeat in repeats):
                lines.append("| " + " | ".join([key, scene, *_cells(repeats, key, scene)]) + " |")
    return lines


def _cells(repeats: Sequence[Repeat], key: str, scene: str) -> list[str]:
    figures = [repeat[key][scene] for repeat in repeats if scene in repeat[key]]
    steps = median(mean(one["steps_per_s"].values()) for one in figures)
    ratio = median(pace_ratio(repeat, key, scene) for repeat in repeats)
    pairs = pair_medians(repeats, key, scene).values()
    kept = pair_ratios(repeats, key, scene).values() if scene != HEALTHY else ()
    taken = median(mean(one["taken_in_per_s"].values()) for one in figures)
    ages = [median(one["age_s"][name] for one in figures) for name in ("median", "p95")]
    return [
        _text(steps, "{:.1f}"),
        _text(ratio, "{:.3f}"),
        _text(median(cores(repeat, key, scene) for repeat in repeats), "{:.3f}"),
        f"{min(pairs):.1f} to {max(pairs):.1f}" if pairs else "-",
        _text(min(kept, default=None), "{:.3f}"),
        _text(taken if pairs else None, "{:.1f}"),
        ", ".join(f"{1000 * age:.1f}" for age in ages if age is not None) or "-",
    ]


def returns(repeats: Sequence[Repeat], keys: Sequence[str]) -> list[str]:
    """One line for each row whose lost worker was started again."""
    lines = [
        "| strategy | process up after | exchanges both ways after ready, median, max | on all links, max "
        "| pace of the others after the thaw, of healthy |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key in keys:
        back = [repeat[key][RESTART] for repeat in repeats if RESTART in repeat[key]]
        if not back:
            continue
        waits = [one["rejoin_s"] for one in back]
        ever = [wait for wait in waits if wait is not None]
        often = f"{median(ever):.2f} s, {max(ever):.2f} s" if ever else "never"
        if len(ever) < len(waits):
            often += f" ({len(waits) - len(ever)} of {len(waits)} never)"
        links = [one["all_links_s"] for one in back if one["all_links_s"] is not None]
        thaw = median(_after_thaw(repeat, key) for repeat in repeats)
        cells = [
            _text(median(one["up_s"] for one in back), "{:.1f} s"),
            often,
            _text(max(links, default=None), "{:.2f} s"),
        ]
        lines.append("| " + " | ".join([key, *cells, _text(thaw, "{:.3f}")]) + " |")
    return lines


def _after_thaw(repeat: Repeat, key: str) -> float | None:
    after = mean(repeat[key].get(STOP, {}).get("after_thaw_steps_per_s", {}).values())
    before = mean(repeat[key].get(HEALTHY, {}).get("steps_per_s", {}).values())
    return after / before if after is not None and before else None


def _text(value: float | None, shape: str) -> str:
    return shape.format(value) if value is not None else "-"


def report(about: dict[str, Any], repeats: Sequence[Repeat], keys: Sequence[str], windows: Windows) -> list[str]:
    """The whole report in markdown."""
    spreads = [spread for spread in (own_spread(repeat) for repeat in repeats) if spread is not None]
    own = f"{median(spreads):.3f} ({min(spreads):.3f} to {max(spreads):.3f})" if spreads else "not measured"
    judged: list[Verdict] = verdicts(repeats, keys)
    return [
        "# Does anybody wait?",
        "",
        *heading(about),
        "",
        "4 processes on digits, MLP 64-512-512-10 (301,066 parameters, 1.2 MB), one torch thread each, "
        f"batch {BATCH_SIZE}, **every step padded by sleep to {1000 * STEP_TIME_S:.0f} ms**. One exchange per step, "
        f"no cap per second. Predictions: {TRANSFER_EXAMPLES} x 10 in half precision, to all three neighbours; the "
        f"student is compared on {BATCH_SIZE} of them per step. Weights: raw float32, to one neighbour per step "
        "(one_peer_exponential: a pair is linked every second step, so at most 25/s). "
        f"The straggler is {SLOWDOWN:g} times slower; windows of {windows.window_s:g} s begin with the signal itself. "
        "Figures are of the three untouched workers.",
        "",
        "An exchange is a new version of a neighbour that entered a loss or a mix; repeats of a version do not count. "
        f"Medians of {len(repeats)} repeats, rows interleaved; ratios are taken within a repeat. "
        f"A/A (isolated again over isolated, healthy): {own}.",
        "",
        *table(repeats, keys),
        "",
        *returns(repeats, keys),
        "",
        "| to reach | found | |",
        "| --- | --- | --- |",
        *(verdict.line() for verdict in judged),
    ]


def main() -> int:
    """Measure, print, write the report and its figures; 0 if everything that was measured passes."""
    parser = command.parser(__doc__)
    parser.add_argument("--every", action="store_true", help="every strategy, healthy and beside a straggler")
    parser.add_argument("--repeats", type=int, help="default 5, with --every 3")
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--strategies", help="rows, by commas; isolated is what others are measured by")
    parser.add_argument("--scenes", help="by commas; healthy is always measured")
    parser.add_argument("--quick", action="store_true", help="one repeat with windows of 2 s: a smoke test")
    asked = parser.parse_args()
    rows = pace_every.ROWS if asked.every else ROWS
    usual = pace_every.WINDOWS if asked.every else Windows()
    keys = asked.strategies.split(",") if asked.strategies else list(rows)
    scenes = asked.scenes.split(",") if asked.scenes else list(SCENES)
    for given, known in ((keys, rows), (scenes, SCENES)):
        if not set(given) <= set(known):
            parser.error(f"{', '.join(sorted(set(given) - set(known)))}: not one of {', '.join(known)}")
    end_tidily_on_signals()
    about = circumstances("benchmarks.pace")
    windows = Windows(1.0, 2.0, 2.0) if asked.quick else replace(usual, window_s=asked.seconds or usual.window_s)
    repeats = repeat_rows(rows, keys, scenes, 1 if asked.quick else asked.repeats or (3 if asked.every else 5), windows)
    lines = (pace_every.report if asked.every else report)(about, repeats, keys, windows)
    judged = (pace_every.verdicts if asked.every else verdicts)(repeats, keys)
    name = "pace_every" if asked.every else "pace"
    command.keep(asked.out, name, lines, {"about": about, "repeats": repeats})
    return int(any(verdict.passed is False for verdict in judged))


if __name__ == "__main__":
    raise SystemExit(main())

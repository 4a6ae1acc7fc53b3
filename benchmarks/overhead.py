"""What the gossip costs: CPU seconds per step beside a run that computes the same losses from local arrays.

python -m benchmarks.overhead [--repeats 5] [--seconds 8] [--rows ...] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kit import command
from benchmarks.kit.launcher import WORKER_MODULE, Workers, end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.kit.plans import plan
from benchmarks.kit.series import Rates, mean, median, rates

RATIO_MAX = 1.05
LOCAL_MODULE = "benchmarks.kit.local_worker"


@dataclass(frozen=True)
class Row:
    """One pair to compare. `judged`: whether the target is for it."""

    title: str
    settings: tuple[str, ...]
    judged: bool
    models: tuple[str, ...] = ()


_LARGE = "task.hidden=[512, 512]"
UNLIKE = ("mlp", "cnn", "mlp", "cnn")
ROWS = {
    "padded": Row("MLP of 8,970 parameters, steps padded to 20 ms", ("train.step_time_s=0.02",), True),
    "full": Row("the same at full speed", ("train.step_time_s=0.0",), True),
    "unlike-padded": Row("2 MLPs and 2 CNNs (first-light), padded to 20 ms", ("train.step_time_s=0.02",), True, UNLIKE),
    "unlike-full": Row("the same at full speed", ("train.step_time_s=0.0",), True, UNLIKE),
    "large-padded": Row("MLP 64-512-512-10, steps padded to 20 ms", ("train.step_time_s=0.02", _LARGE), False),
    "large-full": Row("the same at full speed", ("train.step_time_s=0.0", _LARGE), False),
}
COMMON = ("train.checkpoint_every_s=0", "train.lr_schedule=constant")


def measure(row: Row, module: str, warm_up_s: float, window_s: float) -> dict[str, Any]:
    """Four workers for one window; their mean CPU seconds per step, steps/s and exchanges/s."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder, Workers(module) as workers:
        specs = plan(Path(folder), "codistill_predictions", "complete", (*COMMON, *row.settings), models=row.models)
        workers.start_all(specs)
        time.sleep(warm_up_s)
        from_s = time.monotonic()
        time.sleep(window_s)
        to_s = time.monotonic()
        workers.demand_running([spec.name for spec in specs])
        every = [rates(workers.handles[spec.name].samples, from_s, to_s) for spec in specs]
    return summary(every)


def summary(every: list[Rates]) -> dict[str, Any]:
    """Means over workers; exchanges over all neighbours together."""
    return {
        "cpu_s_per_step": mean(one.cpu_s_per_step for one in every),
        "steps_per_s": mean(one.steps_per_s for one in every),
        "exchanges_per_s": mean(sum(one.exchanges_per_s.values()) for one in every),
    }


def compare(keys: list[str], repeats: int, warm_up_s: float, window_s: float) -> dict[str, list[dict[str, Any]]]:
    """Interleaved pairs, the order within a pair alternating."""
    pairs: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    for repeat in range(repeats):
        for key in keys:
            order = [("gossip", WORKER_MODULE), ("local", LOCAL_MODULE)]
            found = {
                name: measure(ROWS[key], module, warm_up_s, window_s)
                for name, module in (order if repeat % 2 == 0 else order[::-1])
            }
            found["ratio"] = found["gossip"]["cpu_s_per_step"] / found["local"]["cpu_s_per_step"]
            pairs[key].append(found)
            print(f"repeat {repeat + 1} of {repeats}, {key}: ratio {found['ratio']:.3f}", flush=True)
    return pairs


def table(pairs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown lines with medians, and the verdict of each judged row."""
    lines = [
        "| | gossip: CPU ms per step | local arrays | ratio, median (range) | steps/s gossip, local "
        "| exchanges/s used per worker gossip, local | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, found in pairs.items():
        row = ROWS[key]
        cells = [row.title]
        cells += [f"{1000 * _middle(found, kind, 'cpu_s_per_step'):.3f}" for kind in ("gossip", "local")]
        ratios = [pair["ratio"] for pair in found]
        ratio = median(ratios) or 0.0
        cells.append(f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
        for figure in ("steps_per_s", "exchanges_per_s"):
            cells.append(", ".join(f"{_middle(found, kind, figure):.1f}" for kind in ("gossip", "local")))
        verdict = ("PASS" if ratio <= RATIO_MAX else "FAIL") + f" (<= {RATIO_MAX})"
        cells.append(verdict if row.judged else "not judged")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _middle(found: list[dict[str, Any]], kind: str, figure: str) -> float:
    return median(pair[kind][figure] for pair in found) or 0.0


def main() -> int:
    """Measure, print, write `overhead.md` and `overhead.json`; 0 if every judged row passes."""
    parser = command.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    parser.add_argument("--rows", default="padded,full,unlike-padded,unlike-full", help="of " + ", ".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="one short pair of each row: a smoke test")
    asked = parser.parse_args()
    keys = asked.rows.split(",")
    if not set(keys) <= set(ROWS):
        parser.error(f"--rows are of {', '.join(ROWS)}")
    end_tidily_on_signals()
    about = circumstances("benchmarks.overhead")
    repeats, warm_up_s, window_s = (1, 1.0, 3.0) if asked.quick else (asked.repeats, 3.0, asked.seconds)
    pairs = compare(keys, repeats, warm_up_s, window_s)
    lines = [
        "# What the gossip costs",
        "",
        *heading(about),
        f"4 workers, digits, codistill_predictions at its defaults; {repeats} interleaved pairs, windows of "
        f"{window_s:g} s after {warm_up_s:g} s; CPU by `time.process_time` in each worker, all threads.",
        "",
        *table(pairs),
    ]
    command.keep(asked.out, "overhead", lines, {"about": about, "pairs": pairs})
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())

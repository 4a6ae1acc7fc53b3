"""What push-sum costs: CPU of steps between exchanges and of exchanges themselves, and memory.

python -m benchmarks.push_sum_cost [--only steps,kernels,exchange,memory] [--repeats N] [--quick] [--out FOLDER]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.kit import command
from benchmarks.kit.launcher import end_tidily_on_signals
from benchmarks.kit.machine import circumstances, heading
from benchmarks.push_sum.kernels import Profile, profile_of
from benchmarks.push_sum.memory import PARTS, STRATEGIES, beyond, beyond_between, run_pair
from benchmarks.push_sum.steps import PUSH_SUM, Lone, compare_steps, exchange_costs

RATIO_MAX = 1.03
MODELS_MAX = 3.5
LARGE, SMALL, PROFILED, LARGEST = "10 million", "4,810", "301,066", "34 million"
MOMENTA = (0.9, 0.0)
STEPS = {LARGE: 8, SMALL: 400}
"""In a block."""
OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer] | None] = {"SGD, momentum 0.9": None, "AdamW": torch.optim.AdamW}
FILE = "push_sum_cost"
Row = dict[str, Any]

# --- measuring -------------------------------------------------------------------------------------------------------


def measure_steps(repeats: int | None, quick: bool) -> Iterable[Row]:
    """Alternating blocks, by strategy, size and momentum."""
    for size in (SMALL,) if quick else (LARGE, SMALL):
        for momentum in MOMENTA:
            for strategy in PUSH_SUM:
                yield compare_steps(strategy, size, momentum, 20 if repeats is None else repeats, STEPS[size]).as_json()


def measure_kernels(repeats: int | None, quick: bool) -> Iterable[Row]:
    """What steps between exchanges do to whole models that those of `isolated` do not."""
    for optimizer, kind in OPTIMIZERS.items():
        profiles = dict[str, Profile]()
        for strategy in ("isolated", *PUSH_SUM):
            lone = Lone.of(strategy, PROFILED, 0.9, kind)
            lone.exchange_once()
            profiles[strategy] = profile_of(lone, 3)
            more = profiles[strategy].beyond(profiles["isolated"])
            yield {
                "strategy": strategy,
                "optimizer": optimizer,
                "operations": profiles[strategy].large.total() / 3,
                "beyond": more.total() / 3,
                "which": dict(more),
                "python_bytes": profiles[strategy].python_bytes,
            }


def measure_exchange(repeats: int | None, quick: bool) -> Iterable[Row]:
    """Both halves of an exchange, beside those of plain averaging."""
    for size in (SMALL,) if quick else (LARGE, LARGEST):
        for strategy in ("gossip_averaging", *PUSH_SUM):
            yield {
                "strategy": strategy,
                "size": size,
                **exchange_costs(strategy, size, 7 if repeats is None else repeats),
            }


def measure_memory(repeats: int | None, quick: bool) -> Iterable[Row]:
    """Pairs of processes, one pair at a time."""
    for strategy in STRATEGIES[:3:2] if quick else STRATEGIES:
        yield run_pair(strategy, SMALL if quick else LARGEST, 20 if quick else 60)


# --- tables ----------------------------------------------------------------------------------------------------------


def steps_table(rows: list[Row], before: list[Row]) -> list[str]:
    """Ratios to `isolated`, judged at the large size."""
    lines = [
        "| parameters | momentum | | isolated, CPU ms per step | push-sum, CPU ms | ratio | 95 % upper bound | before "
        "| |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        was = _same(row, before, "strategy", "size", "momentum")
        judged = _verdict(row["ratio_upper"] <= RATIO_MAX, f"<= {RATIO_MAX}") if row["size"] == LARGE else "not judged"
        lines.append(
            f"| {row['size']} | {row['momentum']:g} | {row['strategy']} | {1000 * row['isolated_cpu_s']:.3f} "
            f"| {1000 * row['cpu_s']:.3f} | {row['ratio']:.3f} | {row['ratio_upper']:.3f} "
            f"| {_figure(was, 'ratio', '.2f')} | {judged} |"
        )
    return lines


def kernels_table(rows: list[Row], before: list[Row]) -> list[str]:
    """Operations on whole models beyond those of `isolated`."""
    lines = [
        "| optimizer | | on tensors of half a model or more, per step | beyond isolated | before "
        "| Python and numpy: kB | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        was = _same(row, before, "strategy", "optimizer")
        judged = _verdict(row["beyond"] == 0, "none") if row["strategy"] != "isolated" else ""
        lines.append(
            f"| {row['optimizer']} | {row['strategy']} | {row['operations']:g} | {row['beyond']:g} "
            f"| {_figure(was, 'beyond', 'g')} | {row['python_bytes'] / 1000:.0f} | {judged} |"
        )
    return lines


def exchange_table(rows: list[Row], before: list[Row]) -> list[str]:
    """CPU ms of each half of an exchange."""
    halves = ("publish to 1", "publish to 3", "mix of 1", "mix of 3")
    lines = [
        f"| parameters | | {' | '.join(f'{half}, CPU ms (before)' for half in halves)} |",
        "| --- | --- | " + " | ".join("---" for _ in halves) + " |",
    ]
    for row in rows:
        was = _same(row, before, "strategy", "size")
        cells = [f"{1000 * row[half]:.1f} ({_figure(was, half, '.1f', 1000)})" for half in halves]
        lines.append(f"| {row['size']} | {row['strategy']} | {' | '.join(cells)} |")
    return lines


def memory_table(rows: list[Row], before: list[Row]) -> list[str]:
    """Peaks of memory in models beyond `isolated`, and CPU per step."""
    lines = [
        "| | peak MB before, while, after training | models beyond isolated while training (before) "
        "| of the whole process (before) | after a step, median | exchanges | CPU ms per step (before) | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    alone = next((row for row in rows if row["strategy"] == "isolated"), None)
    alone_before = next((row for row in before if row["strategy"] == "isolated"), None)
    for row in rows if alone is not None else ():
        was = _same(row, before, "strategy")
        models = {part: beyond(row, alone or row, part) for part in ("training", "whole")}
        then = {part: beyond(was, alone_before, part) if was and alone_before else None for part in models}
        megabytes = ", ".join(f"{_mean(row['peak_bytes'][part]) / 1e6:.0f}" for part in PARTS)
        cells = [f"{models[part]:.2f} ({_number(then[part], '.2f')})" for part in models]
        cells.append(_number(beyond_between(row, alone or row), ".2f"))
        cpu_ms = 1000 * _mean(row["cpu_s_per_step"])
        cpu_before_ms = 1000 * _mean(was["cpu_s_per_step"]) if was else None
        judged = _verdict(max(models.values()) <= MODELS_MAX, f"<= {MODELS_MAX}") if row["strategy"] in PUSH_SUM else ""
        lines.append(
            f"| {row['strategy']} | {megabytes} | {' | '.join(cells)} | {_mean(row['exchanges']):g} "
            f"| {cpu_ms:.0f} ({_number(cpu_before_ms, '.0f')}) | {judged} |"
        )
    return lines


def _verdict(met: bool, target: str) -> str:
    return f"{'PASS' if met else 'FAIL'} ({target})"


def _same(row: Row, before: list[Row], *keys: str) -> Row | None:
    return next((was for was in before if all(was[key] == row[key] for key in keys)), None)


def _figure(row: Row | None, key: str, form: str, factor: float = 1) -> str:
    return _number(factor * row[key] if row is not None else None, form)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


# --- the command -----------------------------------------------------------------------------------------------------

Measure = Callable[[int | None, bool], Iterable[Row]]
Table = Callable[[list[Row], list[Row]], list[str]]
SECTIONS: Mapping[str, tuple[str, str, Measure, Table]] = {
    "steps": (
        "Steps between exchanges",
        "One process; blocks of steps of `isolated` and of the strategy alternate, both with SGD, batches of 4 and no "
        "bound on the gradient. The strategy has exchanged something before, so that its weight is 0.75. Both are "
        "built anew every second time, as their speed depends on where their tensors lie. A ratio is of neighbouring "
        "blocks; shown are the median and the upper end of its 95 % interval (order statistics).",
        measure_steps,
        steps_table,
    ),
    "kernels": (
        "Operations on whole models between exchanges",
        "Counted by a dispatch mode of torch, views left out; what Python and numpy hold at most, by tracemalloc.",
        measure_kernels,
        kernels_table,
    ),
    "exchange": (
        "An exchange",
        "CPU milliseconds, medians; `publish` to so many neighbours, and `mix` of so many arrivals, in raw encoding, "
        "without the network.",
        measure_exchange,
        exchange_table,
    ),
    "memory": (
        "Memory, in real processes",
        "Two workers of 34 million parameters (135 MB), momentum 0, an exchange every 10 of 60 steps, one thread each. "
        "Peaks are VmHWM, the mean of both; a model is 4 bytes a parameter. After training a checkpoint is written.",
        measure_memory,
        memory_table,
    ),
}


def report(found: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Markdown of all sections that were measured."""
    lines = ["# What push-sum costs", ""]
    for key, (title, words, _, table) in SECTIONS.items():
        if key in found:
            was = before.get(key, {}).get("rows", [])
            lines += [f"## {title}", "", *heading(found[key]["about"]), words, "", *table(found[key]["rows"], was), ""]
    about = next((section["about"] for section in before.values()), None)
    if about is not None:
        lines.append(f"Before: {about['date']}, {about.get('note') or about['command']}.")
    return lines


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def main() -> int:
    """Measure, print, write `push_sum_cost.md` and `push_sum_cost.json`; 0 if everything judged passes."""
    parser = command.parser(__doc__, note=True)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections; others stay as they are in the file")
    parser.add_argument("--repeats", type=int, help="pairs of blocks of steps (default 20), exchanges (default 7)")
    parser.add_argument("--quick", action="store_true", help="small models: a smoke test")
    parser.add_argument(
        "--before", type=Path, default=command.RESULTS / f"{FILE}_before.json", help="an earlier one's figures"
    )
    asked = parser.parse_args()
    keys = asked.only.split(",")
    if not set(keys) <= set(SECTIONS):
        parser.error(f"--only is of {', '.join(SECTIONS)}")
    end_tidily_on_signals()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / f"{FILE}.json"
    found, before = _read(file), _read(asked.before)
    for key in keys:
        rows: list[Row] = []
        found[key] = {"about": circumstances("benchmarks.push_sum_cost") | {"note": asked.note}, "rows": rows}
        for row in SECTIONS[key][2](asked.repeats, asked.quick):
            rows.append(row)
            print(key, {name: value for name, value in row.items() if name not in ("ratios", "which")}, flush=True)
            file.write_text(json.dumps(found, indent=1) + "\n")
    lines = report(found, before)
    command.keep(asked.out, FILE, lines)
    return int(any("FAIL" in line for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())

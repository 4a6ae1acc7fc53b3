"""`python -m experiments.mass.run [--report] [EXCHANGES [PART ...]]`: the table, the plot and the raw figures in
results/."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

from experiments.common import command
from experiments.mass import noise, restarts, twins
from experiments.mass.averaging import Averaging, weights_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
PEERS = 64
OFF_SCALE = 1e3


def marks_up_to(exchanges: int) -> list[int]:
    """100, 200, 500, 1,000, ..., and the last."""
    found = [step * 10**power for power in range(2, 8) for step in (1, 2, 5)]
    return [mark for mark in found if mark < exchanges] + [exchanges]


def conserved(encoding: str, exchanges: int) -> dict[str, Any]:
    """Our scheme on the real protocol."""
    began_s, run = time.perf_counter(), Averaging(PEERS, encoding)
    rows = []
    for mark in marks_up_to(exchanges):
        while run.exchanges < mark:
            run.world.run_for(0.05 if mark < 5000 else 1.0)
        held, on_the_way = weights_of(run.world, run.workers)
        rows.append([run.exchanges, run.error(), held, held + on_the_way, min(_weights(run)), run.average_error()])
        (RESULTS / f"{encoding}.json").write_text(json.dumps({"encoding": encoding, "rows": rows}) + "\n")
        print(encoding, rows[-1], f"{time.perf_counter() - began_s:.0f} s", file=sys.stderr, flush=True)
    wall_s, events, virtual_s = time.perf_counter() - began_s, run.world.events_handled, run.world.now
    run.settle()
    held, on_the_way = weights_of(run.world, run.workers)
    return {
        "encoding": encoding,
        "rows": rows,
        "lost": run.storm.lost,
        "doubled": run.storm.doubled,
        "settled": {"held": held, "on_the_way": on_the_way, "error": run.error(), "average_error": run.average_error()},
        "virtual_s": round(virtual_s, 1),
        "events": events,
        "wall_s": round(wall_s, 1),
        "kinds": dict(run.world.kinds_sent.most_common()),
    }


def _weights(run: Averaging) -> list[float]:
    return [worker.gossip.state.weight for worker in run.workers.values()]


def plot(figures: dict[str, Any], path: Path) -> None:
    """Error and weight over exchanges, one line per scheme."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    lines = [
        ("conserved parcels, float32", [(r[0], r[1], r[3]) for r in figures["raw"]["rows"]], "C0", "o-"),
        ("conserved parcels, half", [(r[0], r[1], r[3]) for r in figures["half"]["rows"]], "C2", "s-"),
        ("running totals, float32 (textbook)", [r[:3] for r in figures["textbook"]], "C1", "^--"),
        ("running totals, float64 (textbook)", [r[:3] for r in figures["textbook64"]], "C4", "v--"),
        ("increments, float32 (naive)", [r[:3] for r in figures["naive"]], "C3", "v:"),
    ]
    for label, rows, colour, style in lines:
        look = {"color": colour, "label": label, "ms": 4}
        left.loglog([r[0] for r in rows], [min(max(r[1], 1e-9), OFF_SCALE) for r in rows], style, **look)
        if "running totals" not in label:
            right.loglog([r[0] for r in rows], [max(r[2], 1e-9) for r in rows], style, **look)
    left.axhline(1e-5, color="0.6", lw=0.8)
    left.set(xlabel="exchanges", ylabel="largest error of an estimate", title="How far from the true mean")
    right.set(xlabel="exchanges", ylabel="sum of all weights (held and on the way)", title=f"What is left of {PEERS}")
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    fig.suptitle(f"Push-sum among {PEERS} peers: 50 % loss, 20 % duplication, reordering, paces 1 to 10", fontsize=11)
    fig.savefig(path, dpi=120)


def table(figures: dict[str, Any]) -> str:
    """The figures at the end, in Markdown."""
    lines = [
        "| scheme | exchanges | error of the average | largest error of an estimate | sum of weights, less 64 "
        "| smallest weight |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, label in (("raw", "float32"), ("half", "half")):
        run = figures[name]
        count, error, _, total, least, average = run["rows"][-1]
        lines.append(
            f"| conserved parcels, {label} | {count:,} | {average:.1e} | {error:.1e} "
            f"| {total - PEERS:+.1e} | {least:.2g} |"
        )
        if "settled" in run:
            end = run["settled"]
            lines.append(
                f"| the same, once all has arrived | | {end['average_error']:.1e} | {end['error']:.1e} "
                f"| {end['held'] - PEERS:+.1e}, all held | |"
            )
    others = {
        "textbook": "running totals, float32",
        "textbook64": "running totals, float64",
        "naive": "increments, float32",
    }
    for name, label in others.items():
        count, error, held, least = figures[name][-1]
        total = "not counted" if name != "naive" else f"{held - PEERS:+.1e}, held"
        lines.append(f"| {label} | {count:,} | | {error:.1e} | {total} | {least:.2g} |")
    heads = ("kills and restarts", "sum of the living weights", "smallest weight ever", "finite", "written off")
    lines += ["", command.line(heads)]
    lines += ["| --- | --- | ---: | --- | ---: |"]
    for one in figures["restarts"]:
        lines.append(
            f"| {one['cycles']} on {one['peers']} peers, loss {one['loss']:.0%} | {one['weights_min']:.2f} to "
            f"{one['weights_max']:.2f} | {one['weight_min']:.2g} | {'yes' if one['finite'] else 'NO'} | "
            f"{one['written_off']:.1f} |"
        )
    heads = ("training with noise: a step takes", "error without loss", "at 20 % loss", "ratio", "exchanges per step")
    lines += ["", command.line(heads), "| ---: | ---: | ---: | ---: | --- |"]
    for row in figures["noise"]:
        calm, lossy = (sum(row[kind]) / len(row[kind]) for kind in ("calm", "lossy"))
        before, after = row["exchanges_per_step"]
        lines.append(
            f"| {row['step_time_s']:g} s | {calm:.3f} | {lossy:.3f} | {row['ratio']:.2f} +- "
            f"{row['ratio_standard_error']:.2f} | {before:.2f} and {after:.2f} |"
        )
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[int], Any]] = {
    "naive": lambda exchanges: twins.run(twins.Naive, PEERS, marks_up_to(exchanges)),
    "textbook": lambda exchanges: twins.run(twins.Textbook, PEERS, marks_up_to(exchanges)),
    "textbook64": lambda exchanges: twins.run(twins.Textbook64, PEERS, marks_up_to(exchanges)),
    "restarts": lambda _: [restarts.run(loss=loss) for loss in (False, True)],
    "noise": lambda _: noise.run(),
    "raw": lambda exchanges: conserved("raw", exchanges),
    "half": lambda exchanges: conserved("half", exchanges),
}


def main() -> None:
    """The parts that are named, or all, each kept in a file of its own; then table and plot of all of them."""
    parser = command.parser(__doc__)
    parser.add_argument("exchanges", type=int, nargs="?", default=1_000_000)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; unset: all")
    asked = command.begin(parser)
    RESULTS.mkdir(exist_ok=True)
    for part in () if asked.report else asked.parts or PARTS:
        found = PARTS[part](asked.exchanges)
        (RESULTS / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")
    figures = {part: json.loads((RESULTS / f"{part}.json").read_text()) for part in PARTS}
    command.write(RESULTS / "table.md", table(figures))
    plot(figures, RESULTS / "mass.png")


if __name__ == "__main__":
    main()

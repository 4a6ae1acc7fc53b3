"""`python -m experiments.critical_gradients.run`: steps to a loss of SGD_C, of a FIFO buffer of gradients, and of SGD.

McRae et al. 2021 (2106.10708): is it the *size* of the remembered gradients that helps? Handwritten digits, batches of
8, two models, no momentum, constant learning rates; each method at its own best rate of one grid. The loss is that of
all 800 training examples, looked at every 5 steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gossipdistill.learning.learner import Draws
from gossipdistill.optimizers import SGD_C
from gossipdistill.tasks import Shard, load_task

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2, 3, 4)
RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SAME_RATE = 0.05
"""Small enough that all of them are far from their best."""
STEPS_MAX = 1500
LOOK_EVERY = 5
TARGETS = {"softmax regression": 0.15, "MLP 64-64-64-10": 0.05}
HIDDEN: dict[str, tuple[int, ...]] = {"softmax regression": (), "MLP 64-64-64-10": (64, 64)}
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"topc": 0},
    "SGD_C, sum": {"aggregation": "sum"},
    "FIFO, sum": {"aggregation": "sum", "keep": "newest"},
    "SGD_C, mean": {"aggregation": "mean"},
    "FIFO, mean": {"aggregation": "mean", "keep": "newest"},
}


def steps_to(target: float, hidden: tuple[int, ...], options: dict[str, Any], lr: float, seed: int) -> int | None:
    """The first step (a multiple of `LOOK_EVERY`) with a training loss of at most `target`; None if there is none."""
    task = load_task("digits", Shard(0, 1, examples_per_peer=800), {"hidden": hidden})
    x, y = task.train
    torch.manual_seed(seed)
    model = task.model()
    optimizer, draws = SGD_C(model.parameters(), lr=lr, **options), Draws(len(x), 8, seed)
    for step in range(STEPS_MAX):
        rows = draws.at(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if (step + 1) % LOOK_EVERY == 0:
            with torch.no_grad():
                loss = nn.functional.cross_entropy(model(x), y).item()
            if loss <= target:
                return step + 1
            if not loss < 50.0:
                return None
    return None


def best(search: Callable[[float, int], int | None]) -> tuple[float, list[int], list[int]]:
    """(rate, steps per seed) of the rate with the fewest steps on average, among those that always arrive; and the
    steps per seed at `SAME_RATE`."""
    found: list[tuple[float, float, list[int]]] = []
    for lr in RATES:
        steps = [search(lr, seed) for seed in SEEDS]
        arrived = [step for step in steps if step is not None]
        if len(arrived) == len(SEEDS):
            found.append((statistics.mean(arrived), lr, arrived))
    if not found:
        raise SystemExit("no rate of the grid always arrives")
    _, lr, steps_best = min(found)
    return lr, steps_best, next(steps for _, rate, steps in found if rate == SAME_RATE)


def main() -> None:
    """Run everything and write the table."""
    torch.set_num_threads(1)
    began_s, rows = time.perf_counter(), []
    for model, target in TARGETS.items():
        plain: list[int] = []
        for method, options in METHODS.items():
            lr, steps, same = best(lambda lr, seed: steps_to(target, HIDDEN[model], options, lr, seed))  # noqa: B023
            plain = plain or steps
            gains = [one - other for one, other in zip(steps, plain, strict=True)]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            row = {"model": model, "target": target, "method": method, "lr": lr, "steps": steps, "same": same}
            rows.append(row | {"mean": statistics.mean(steps), "against_sgd": statistics.mean(gains), "error": error})
            print(rows[-1], file=sys.stderr, flush=True)
    write(rows, time.perf_counter() - began_s)


def write(rows: list[dict[str, Any]], wall_s: float) -> None:
    """table.json and table.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        f"| model, target loss | method | steps at {SAME_RATE} | best rate | steps at it | minus SGD, paired (s.e.) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        gain = "-" if row["method"] == "SGD" else f"{row['against_sgd']:+.0f} ({row['error']:.0f})"
        head = f"| {row['model']}, {row['target']} | {row['method']} | {statistics.mean(row['same']):.0f} |"
        lines.append(f"{head} {row['lr']} | {row['mean']:.0f} | {gain} |")
    text = "\n".join(lines) + f"\n\n{len(SEEDS)} seeds; {wall_s:.0f} s on one thread.\n"
    (RESULTS / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

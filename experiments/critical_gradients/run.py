"""Steps to a loss of SGD_C, of a FIFO buffer of gradients, and of SGD.

    python -m experiments.critical_gradients.run [--report]

McRae et al. 2021 (2106.10708): is it the *size* of the remembered gradients that helps? Handwritten digits, batches of
8, two models, no momentum, constant learning rates; each method at its own best rate of one grid. The loss is that of
all 800 training examples, looked at every 5 steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.spread import mean_and_error
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


def best(key: Key) -> Cell:
    """The rate with the fewest steps on average, among those that always arrive, with the steps of each seed; and
    those at `SAME_RATE`."""
    model, options = key["model"], METHODS[key["method"]]
    found: list[tuple[float, float, list[int]]] = []
    for lr in RATES:
        steps = [steps_to(TARGETS[model], HIDDEN[model], options, lr, seed) for seed in SEEDS]
        arrived = [step for step in steps if step is not None]
        if len(arrived) == len(SEEDS):
            found.append((statistics.mean(arrived), lr, arrived))
    if not found:
        raise SystemExit("no rate of the grid always arrives")
    _, lr, steps_best = min(found)
    return {"lr": lr, "steps": steps_best, "same": next(steps for _, rate, steps in found if rate == SAME_RATE)}


def main() -> None:
    """Run everything and write the table."""
    asked, cells = command.begin(command.parser(__doc__, jobs=True)), RESULTS / "cells.jsonl"
    if not asked.report:
        fill(cells, ({"model": model, "method": method} for model in TARGETS for method in METHODS), best, asked.jobs)
    command.write(RESULTS / "table.md", table(known(cells)))


def table(cells: Iterable[Cell]) -> str:
    """table.md."""
    found = {(cell["key"]["model"], cell["key"]["method"]): cell for cell in cells}
    lines = [
        f"| model, target loss | method | steps at {SAME_RATE} | best rate | steps at it | minus SGD, paired (s.e.) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (model, method), cell in found.items():
        pairs = zip(cell["steps"], found[model, "SGD"]["steps"], strict=True)
        gain, error = mean_and_error([one - other for one, other in pairs])
        same, steps = (statistics.mean(cell[name]) for name in ("same", "steps"))
        against = "-" if method == "SGD" else f"{gain:+.0f} ({error:.0f})"
        entries = [f"{model}, {TARGETS[model]}", method, f"{same:.0f}", f"{cell['lr']}", f"{steps:.0f}", against]
        lines.append(command.line(entries))
    return "\n".join(lines) + f"\n\n{len(SEEDS)} seeds.\n"


if __name__ == "__main__":
    main()

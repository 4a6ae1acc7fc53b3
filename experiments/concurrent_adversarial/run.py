"""`python -m experiments.concurrent_adversarial.run`: large batches, plain and with adversarial ones of age 0, 1, 5.

ConAdv (Liu et al. 2021, 2106.00221) says that perturbations made from stale weights do as well as fresh ones, and that
they narrow the gap of large batches. Handwritten digits, 800 examples, an MLP, 90 epochs at every batch size; every row
at its own best rate of one grid, by the mean over the seeds. One worker in this process, through the strategy.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from gossipdistill.learning.cadence import Cadence
from gossipdistill.learning.learner import Draws, Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import Exchange, strategy_of
from gossipdistill.tasks import Shard, load_task
from gossipdistill.topology import load_topology
from gossipdistill.worker import Worker

RESULTS = Path(__file__).parent / "results"
SEEDS = (0, 1, 2)
BATCH, EXAMPLES, EPOCHS = 16, 800, 90
RATES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
EPSILON = 0.3
"""In standard deviations of a pixel."""
ROWS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "adversarial, staleness 0": {"staleness_steps": 0},
    "adversarial, staleness 1": {"staleness_steps": 1},
    "adversarial, staleness 5": {"staleness_steps": 5},
}


def run(batch_size: int, options: dict[str, Any] | None, lr: float, seed: int) -> float:
    """Validation accuracy in percent after 90 epochs."""
    task = load_task("digits", Shard(0, 1, examples_per_peer=EXAMPLES), {})
    kind = strategy_of("isolated" if options is None else "concurrent_adversarial")
    given = {} if options is None else {"epsilon": EPSILON, **options}
    torch.manual_seed(seed)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    learner = Learner("ada", 0, ("ada",), model, optimizer, torch.device("cpu"), seed)
    strategy, draws = kind(kind.options_type.model_validate(given), Exchange()), Draws(EXAMPLES, batch_size, seed)
    schedule = load_topology("complete", ("ada",))
    worker = Worker(learner, task, strategy, schedule, Mailbox(), Cadence(10, 0.0), draws, cosine=True)
    steps = EPOCHS * max(EXAMPLES // batch_size, 1)
    for step in range(steps):
        worker.step(0.01 * step, step / steps)
    return 100 * worker.evaluate()[1]["accuracy"]


def main() -> None:
    """Run everything and write the table."""
    torch.set_num_threads(1)
    began_s, rows = time.perf_counter(), []
    for factor in (1, 16, 32):
        plain: list[float] = []
        for name, options in ROWS.items():
            if factor == 1 and options is not None:
                continue
            found = {lr: [run(BATCH * factor, options, lr, seed) for seed in SEEDS] for lr in RATES}
            lr = max(found, key=lambda rate: statistics.mean(found[rate]))
            plain = plain or found[lr]
            gains = [one - other for one, other in zip(found[lr], plain, strict=True)]
            rows.append({
                "factor": factor, "name": name, "lr": lr, "accuracy": found[lr], "mean": statistics.mean(found[lr]),
                "gain": statistics.mean(gains), "error": statistics.stdev(gains) / len(gains) ** 0.5, "all": found,
            })  # fmt: skip
            print({key: value for key, value in rows[-1].items() if key != "all"}, file=sys.stderr, flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "table.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        "| batch | training | best rate | accuracy %, mean of three seeds | minus plain at this batch (s.e.) |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        gain = "-" if row["name"] == "plain" else f"{row['gain']:+.2f} ({row['error']:.2f})"
        lines.append(f"| {BATCH * row['factor']} | {row['name']} | {row['lr']} | {row['mean']:.2f} | {gain} |")
    text = "\n".join(lines) + f"\n\n{time.perf_counter() - began_s:.0f} s on one thread of a busy machine.\n"
    (RESULTS / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""Large batches with adversarial examples from stale weights: made here or by a helper, and the time that it takes.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.concurrent_adversarial.run     goes on where it was
    python -m experiments.concurrent_adversarial.run --report                      the table again

ConAdv (Liu et al. 2021, 2106.00221). Fashion-MNIST, 1,600 examples, 30 epochs at every batch size. Every row has its
own learning rate, chosen on a validation part with other seeds. One line of `results/choice.jsonl` or
`results/cells.jsonl` for each finished cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
from experiments.common.spread import mean_and_error
from gossipdistill.simulation.run import Simulation

HERE = Path(__file__).parent
RESULTS = HERE / "results"
EXAMPLES, EPOCHS = 1_600, 30
PASS_S = 0.01
"""Virtual seconds of one forward and backward pass over one batch."""
CHOSEN_WITH, SHOWN_WITH = (100, 101), (0, 1, 2, 3, 4)
"""Seeds."""
RATES = {16: (0.02, 0.05), 256: (0.05, 0.1, 0.2, 0.4, 0.8), 512: (0.05, 0.1, 0.2, 0.4, 0.8)}
PLAIN = "plain"


@dataclass(frozen=True)
class Row:
    """How one peer, ada, is trained: `passes` over each batch by itself, one after another, for `epochs_factor` times
    the epochs. `settings` are those beside the defaults, and `peers` all who take part."""

    passes: int
    settings: tuple[str, ...] = ()
    strategy: str = "concurrent_adversarial"
    peers: int = 1
    epochs_factor: int = 1


ROWS = {
    PLAIN: Row(1, strategy="isolated"),
    "adversarial, made here, 0 steps old": Row(3, ("strategy.staleness_steps=0",)),
    "adversarial, made here, 1 step old": Row(3),
    "adversarial, made by a helper": Row(2, ('strategy.helpers=["bo"]',), peers=2),
    "plain, twice the epochs": Row(1, strategy="isolated", epochs_factor=2),
    "plain, 3 times the epochs": Row(1, strategy="isolated", epochs_factor=3),
}
AT_SMALL = (PLAIN, "adversarial, made here, 1 step old")
"""What is shown at the small batch too; more would be dear."""


def rows_at(batch: int) -> tuple[str, ...]:
    """The rows that are shown at this batch size."""
    return AT_SMALL if batch == min(RATES) else tuple(ROWS)


def keys_to_choose() -> Iterator[Key]:
    """Every rate of every row."""
    for batch, rates in RATES.items():
        for row in rows_at(batch):
            for rate in rates:
                for seed in CHOSEN_WITH:
                    yield {"batch": batch, "row": row, "rate": rate, "seed": seed}


def keys_to_show(chosen: list[Cell]) -> Iterator[Key]:
    """Every row at the rate that did best on the validation part."""
    for seed in SHOWN_WITH:
        for batch, rates in RATES.items():
            for row in rows_at(batch):
                rate = max(rates, key=lambda one: (_accuracy_of(chosen, batch, row, one), -one))
                yield {"batch": batch, "row": row, "rate": rate, "seed": seed}


def _accuracy_of(cells: list[Cell], batch: int, row: str, rate: float) -> float:
    found = [cell for cell in cells if [cell["key"][name] for name in ("batch", "row", "rate")] == [batch, row, rate]]
    return float(sum(cell["accuracy"] for cell in found) / len(found))


def simulated(key: Key, part: str) -> Cell:
    """Accuracy of ada in percent, the virtual time of its training, and the processor time of a step of each peer."""
    row = ROWS[key["row"]]
    steps = row.epochs_factor * EPOCHS * EXAMPLES // key["batch"]
    settings = [
        f"task.part={part}",
        "task.shards=same",
        f"task.examples_per_peer={EXAMPLES}",
        f"train.lr={key['rate']}",
        f"train.batch_size={key['batch']}",
        f"sim.step_time_s={PASS_S * row.passes}",
        *row.settings,
    ]
    with planned(
        run_file=HERE / "run.toml",
        peers=str(row.peers),
        task="experiments.untuned.tasks:fashion",
        strategy=row.strategy,
        steps=steps,
        seed=key["seed"],
        settings=settings,
    ) as specs:
        simulation = completed(Simulation(specs))
    ada = simulation.summary.peers[0]
    return {
        "accuracy": round(100 * ada.val_accuracy, 2),
        "wall_s": round(steps * PASS_S * row.passes, 2),
        "cpu_ms_per_step": round(1e3 * simulation.world.learner_s / (steps * row.peers), 3),
    }


def table(cells: list[Cell]) -> str:
    """One line for each row: means over the seeds, and what is gained over plain training at the same batch."""
    lines = [
        "| batch | training | rate | steps | passes of ada's machine | accuracy % | over plain at this batch |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {(cell["key"]["batch"], cell["key"]["row"], cell["key"]["seed"]): cell for cell in cells}
    for batch in RATES:
        for name in rows_at(batch):
            seeds = [s for s in SHOWN_WITH if (batch, name, s) in found and (batch, PLAIN, s) in found]
            if not seeds:
                continue
            row, here = ROWS[name], [found[batch, name, seed] for seed in seeds]
            gains = [cell["accuracy"] - found[batch, PLAIN, s]["accuracy"] for s, cell in zip(seeds, here, strict=True)]
            gain, error = mean_and_error(gains)
            steps = row.epochs_factor * EPOCHS * EXAMPLES // batch
            lines.append(
                f"| {batch} | {name} | {here[0]['key']['rate']:g} | {steps:,} | {row.passes * steps:,} | "
                f"{sum(cell['accuracy'] for cell in here) / len(here):.2f} | "
                f"{'-' if name == PLAIN else f'{gain:+.2f} ± {error:.2f}'} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """First the rates, then what is shown."""
    asked = command.begin(command.parser(__doc__, jobs=True))
    shown = RESULTS / "cells.jsonl"
    if not asked.report:
        choosing, showing = (partial(simulated, part=part) for part in ("validation", "test"))
        chosen = fill(RESULTS / "choice.jsonl", keys_to_choose(), choosing, asked.jobs)
        fill(shown, keys_to_show(chosen), showing, asked.jobs)
    command.write(RESULTS / "table.md", table(known(shown)))


if __name__ == "__main__":
    main()

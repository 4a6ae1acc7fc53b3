"""Does leader_sgd lead, and does it pay? Four peers in virtual time, beside training alone, paired by seed.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.leader_sgd.run      goes on where it was
    ... --choose                                                        the pulls, on the validation part, other seeds
    python -m experiments.leader_sgd.run --report                       the tables again, from the cells that are there

One line of `results/cells.jsonl`, or of `results/choice.jsonl`, for each finished cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from experiments.common import command
from experiments.common.cells import Cell, Key, fill, known
from experiments.common.runs import completed, planned
from experiments.common.spread import mean_and_error
from experiments.untuned.run import SKEW
from gossipdistill.simulation.run import Simulation

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STEPS = 750
ALONE = "isolated"
ROWS: dict[str, tuple[str, ...]] = {
    ALONE: (),
    "leader_sgd": (),
    "leader_sgd, probe": ("strategy.judge=probe",),
    "leader_sgd, claims": ("strategy.judge=claims", "strategy.pull=0.1"),
}
"""What is shown: the strategy up to the comma, and its settings beside the defaults. Claims with the paper's pull."""
PULLS = (0.1, 0.3, 0.6, 1.0)
SETTINGS = ("iid", "skewed")
UNSHARED = ("task.shards=label_skew", "task.skew=1.0", "task.classes_per_peer=2")
"""A setting to choose by, on digits: each peer has two labels that nobody else has."""
IN_STEP = ("sim.step_jitter=0.0", "sim.jitter_s=0.0")
"""Another one: skewed labels, and peers that publish and mix at the same moments, as in rounds."""
CHOSEN_ON, SHOWN_ON = ("digits", "fashion"), ("digits", "fashion", "adult")
"""Tasks of the bed in `experiments/untuned`. On adult nothing was chosen."""


def keys_to_show() -> Iterator[Key]:
    """Seed by seed, on the test part."""
    for seed in range(5):
        for task in SHOWN_ON:
            for setting in SETTINGS:
                for row in ROWS if seed < 3 else (ALONE, "leader_sgd"):
                    yield {"row": row, "task": task, "setting": setting, "seed": seed}


def keys_to_choose() -> Iterator[Key]:
    """The pulls, on the validation part."""
    places = [
        *((task, setting) for task in CHOSEN_ON for setting in SETTINGS),
        ("digits", "unshared"),
        ("digits", "in step"),
    ]
    for seed in (100, 101, 102):
        for task, setting in places:
            for row in (ALONE, *(f"leader_sgd, pull {pull}" for pull in PULLS)):
                yield {"row": row, "task": task, "setting": setting, "seed": seed}


def simulated(key: Key, part: str) -> Cell:
    """Accuracy of each peer in percent, in which share of its exchange periods somebody led it, and CPU of a step."""
    strategy, _, pull = key["row"].partition(", pull ")
    settings = [f"strategy.pull={pull}"] if pull else list(ROWS[key["row"]])
    skewed = ("task.shards=label_skew", *SKEW.get(key["task"], ()))
    settings += {
        "iid": ("task.shards=disjoint",),
        "skewed": skewed,
        "unshared": UNSHARED,
        "in step": (*skewed, *IN_STEP),
    }[key["setting"]]
    with planned(
        run_file=HERE / "run.toml",
        task=f"experiments.untuned.tasks:{key['task']}",
        strategy=strategy.partition(",")[0],
        steps=STEPS,
        seed=key["seed"],
        settings=[*settings, f"task.part={part}"],
    ) as specs:
        simulation = completed(Simulation(specs))
    workers = [peer.worker for peer in simulation.peers.values()]
    entries = simulation.summary.peers
    led = [sum(getattr(worker.gossip.state, "followed", {}).values()) for worker in workers]
    periods = [max(worker.gossip.endpoint.cadence.exchanges, 1) for worker in workers]
    return {
        "accuracy": {entry.name: round(100 * entry.val_accuracy, 2) for entry in entries},
        "led": round(sum(one / of for one, of in zip(led, periods, strict=True)) / len(led), 3),
        "cpu_ms_per_step": round(1e3 * simulation.world.learner_s / sum(entry.steps for entry in entries), 3),
    }


def table(cells: list[Cell]) -> str:
    """One line for each row of each place: paired gains over training alone, with their standard errors."""
    lines = [
        "| task | shards | training | accuracy % | over alone | seeds above alone | worst peer % | led in | CPU |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {tuple(cell["key"][name] for name in ("task", "setting", "row", "seed")): cell for cell in cells}
    rows = {(task, setting, row): None for task, setting, row, _ in found}
    for place in sorted(rows, key=lambda place: (place[:2], list(rows).index(place))):
        seeds = [seed for *where, seed in found if tuple(where) == place and (*place[:2], ALONE, seed) in found]
        cells_here = [found[*place, seed] for seed in seeds]
        alone = [found[*place[:2], ALONE, seed] for seed in seeds]
        mean = [_mean(cell) for cell in cells_here]
        gains = [_mean(cell) - _mean(other) for cell, other in zip(cells_here, alone, strict=True)]
        gain, error = mean_and_error(gains)
        cpu = sum(cell["cpu_ms_per_step"] for cell in cells_here) / sum(cell["cpu_ms_per_step"] for cell in alone)
        led = sum(cell["led"] for cell in cells_here) / len(cells_here)
        gossips = place[2].startswith("leader")
        over = f"{gain:+.1f} ± {error:.1f} | {sum(one > 0 for one in gains)} of {len(gains)}"
        lines.append(
            f"| {' | '.join(place)} | {sum(mean) / len(mean):.1f} | {over if place[2] != ALONE else '- | -'} "
            f"| {min(min(cell['accuracy'].values()) for cell in cells_here):.1f} | "
            f"{f'{led:.2f}' if gossips else '-'} | {cpu:.1f} x |"
        )
    return "\n".join(lines) + "\n"


def _mean(cell: Cell) -> float:
    return float(sum(cell["accuracy"].values()) / len(cell["accuracy"]))


def main() -> None:
    """Every missing cell, then the tables."""
    parser = command.parser(__doc__, jobs=True)
    parser.add_argument("--choose", action="store_true", help="the pulls, on the validation part")
    asked = command.begin(parser)
    name, part = ("choice", "validation") if asked.choose else ("cells", "test")
    path = RESULTS / f"{name}.jsonl"
    if not asked.report:
        fill(path, keys_to_choose() if asked.choose else keys_to_show(), partial(simulated, part=part), asked.jobs)
    command.write(RESULTS / f"{'choice' if asked.choose else 'table'}.md", table(known(path)))


if __name__ == "__main__":
    main()

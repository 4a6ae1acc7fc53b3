"""`python -m experiments.mass.true_mean`: does push-sum find the mean of what all peers want, on irregular graphs?

Peer i of n is drawn to the i-th unit vector, loss 0.5 |x - e_i|^2, so that the answer is 1/n in every coordinate, and
coordinate i of the mean of all models is the share that peer i got. The network, the pace of each peer and all options
of the strategy are those of `gossipdistill simulate`.

    python -m experiments.mass.true_mean [--seeds 0,1,2] [--report]

Finished cells are kept in results/true_mean.jsonl, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from experiments.common import command
from experiments.common.cells import Key, fill, known
from experiments.common.runs import completed, planned, settings_of
from experiments.mass import true_mean_table
from experiments.mass.watched import Watched
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.roster import load_roster
from gossipdistill.tasks import Shard, Task
from gossipdistill.tasks.quadratic import Point, half_squared_distance
from gossipdistill.topology import load_topology, uniform_column
from gossipdistill.training.worker import Worker

HERE = Path(__file__).parent
CELLS = HERE / "results" / "true_mean.jsonl"
ROWS = 200
STRATEGIES = ("sgp", "osgp", "async_gradient_push")
PEERS = {"irregular-7": 7, "lopsided-7": 7, "one-way-5": 5, "hub-8": 8, "random-12": 12}
"""The graphs, with how many peers each has."""
PLAIN = {"train.momentum": 0.0}
CONSTANT = {**PLAIN, "train.lr": 0.01, "train.lr_schedule": "constant"}
SETTINGS: dict[str, dict[str, Any]] = {
    "cosine": {**PLAIN, "train.lr": 0.02},
    "each step": {**PLAIN, "train.lr": 0.02, "exchange.every_steps": 1, "exchange.per_second_max": 0.0},
    "constant": CONSTANT,
    "as shipped": {},
}
"""What is set beside the strategy's name: of the strategy nothing, and of the exchange only in one of them."""
STEPS, LAST = 500, 100
UNBOUNDED, BESIDE = 1e9, ("cosine", "each step")
"""`strategy.stretch_max` without a bound, and the settings in which it stands beside the default."""
LIMIT_GRAPHS, LIMIT_SEEDS, LIMIT_STEPS, LIMIT_LAST, NOISE = ("irregular-7", "lopsided-7"), 8, 1500, 1000, 0.3
STRETCHES = (1.0, 2.0, UNBOUNDED)


def corners(shard: Shard, noise: Annotated[float, "The standard deviation of an example's coordinates."] = 0.0) -> Task:
    """Examples [ROWS, n] around the unit vector of this peer, whose mean is exactly that vector."""
    vectors = torch.eye(shard.count)
    chance = torch.Generator().manual_seed(1000 * shard.seed + shard.index)
    deviations = noise * torch.randn(ROWS, shard.count, generator=chance)
    rows = vectors[shard.index] + deviations - deviations.mean(dim=0)
    return Task(
        model=lambda: Point(shard.count),
        train=(torch.ones(ROWS, 1), rows),
        validation=(torch.ones(shard.count, 1), vectors),
        loss=half_squared_distance,
    )


def graph(name: str) -> str:
    """The file of a graph."""
    folder = HERE / "graphs" if name != "irregular-7" else HERE.parent / "untuned"
    return str(folder / f"{name}.toml")


def stationary(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The push-sum weights [n] to which a graph leads if all exchange at once, for ever."""
    weights = np.ones(PEERS[name])
    mixing = uniform_column(load_topology(graph(name), load_roster(str(PEERS[name])).names), 0)
    for _ in range(5000):
        weights = mixing @ weights
    return weights


def run(key: Key) -> dict[str, Any]:
    """The figures of one cell."""
    count, options = PEERS[key["graph"]], dict(SETTINGS[key["setting"]])
    steps, last = STEPS, LAST
    if key.get("noise"):
        steps, last = LIMIT_STEPS, LIMIT_LAST
        options["task.noise"] = key["noise"]
    if "stretch_max" in key:
        options["strategy.stretch_max"] = key["stretch_max"]
    sums: dict[str, Any] = {}

    def look(worker: Worker) -> None:
        name = worker.learner.name
        if worker.learner.step > steps - last:
            sums[name] = sums.get(name, 0.0) + flat_parameters(worker.learner.model).double().numpy()

    with planned(
        peers=str(count),
        topology=graph(key["graph"]),
        task=f"{__spec__.name if __spec__ else __name__}:corners",
        strategy=key["strategy"],
        steps=steps,
        seed=key["seed"],
        settings=settings_of(options),
    ) as specs:
        simulation = completed(Watched(specs, look=look))
    workers = simulation.workers
    models = np.stack([flat_parameters(worker.learner.model).double().numpy() for worker in workers.values()])
    averaged = np.mean([sums[name] / last for name in workers], axis=0)
    apart = np.linalg.norm(models - 1 / count, axis=1)
    return {
        "mean": _off(models.mean(axis=0)),
        "each": float(apart.mean()),
        "worst": float(apart.max()),
        "spread": float(np.sqrt(((models - models.mean(axis=0)) ** 2).sum(axis=1).mean())),
        "averaged": _off(averaged),
        "shares": [round(float(share), 5) for share in averaged],
        "heaviest": max(simulation.heaviest.values()),
        "kept": max(simulation.kept.values()),
    }


def _off(point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Its distance to the true mean."""
    return float(np.linalg.norm(point - 1 / len(point)))


def keys(seeds: Sequence[int]) -> Iterator[Key]:
    """The default on every graph, by seed; once without the bound; then the limits."""
    for seed in seeds:
        for setting in SETTINGS:
            for name in PEERS:
                for strategy in STRATEGIES:
                    key = {"strategy": strategy, "graph": name, "setting": setting, "seed": seed}
                    yield key
                    if seed == seeds[0] and setting in BESIDE:
                        yield {**key, "stretch_max": UNBOUNDED}
    for number in range(LIMIT_SEEDS if len(seeds) > 1 else 3):
        for name in LIMIT_GRAPHS:
            for place, stretch in enumerate(STRETCHES):
                seed = 100 * (place + 1) + number  # none is used twice, so that the means are independent
                key = {"strategy": "sgp", "graph": name, "setting": "constant", "seed": seed}
                yield {**key, "noise": NOISE, "stretch_max": stretch}


def main() -> None:
    """Every missing cell, then the table."""
    parser = command.parser(__doc__, seeds=(0, 1, 2), jobs=True)
    parser.add_argument("--cells", type=Path, default=CELLS)
    asked = command.begin(parser)
    if not asked.report:
        fill(asked.cells, keys(asked.seeds), run, asked.jobs)
    weights = {name: stationary(name).tolist() for name in PEERS}
    text = true_mean_table.table(known(asked.cells), known(HERE / "results" / "true_mean_before.jsonl"), weights)
    command.write(HERE / "results" / "true_mean.md", text)


if __name__ == "__main__":
    main()

"""`python -m experiments.consensus.run [--report]`: how fast averaging brings models together, and the spectral gap."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np

from experiments.common import command
from gossipdistill.strategies import STRATEGIES, Delivery
from gossipdistill.topology import load_topology, metropolis, uniform_column
from tests.strategies.world import World, make_quadratic, make_strategy, place_at, point_of

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
NAMES = tuple(f"p{place:02}" for place in range(16))
SYMMETRIC = ("ring", "torus", "complete")
TOPOLOGIES = ("ring", "torus", "exponential", "one_peer_exponential", "complete")
WEIGHTS = ("gossip_averaging", "sgp", "osgp", "async_gradient_push", "adpsgd", "dpsgd", "dmsgd", "decentlam")
ROUNDS = 24


def distances(strategy: str, topology: str) -> list[float]:
    """Root mean square distance of 16 models to their mean, relative to the start, after each exchange; no training."""
    world = World({name: make_quadratic(name, make_strategy(strategy), NAMES, topology) for name in NAMES})
    start = np.random.default_rng(0).standard_normal((len(NAMES), 5))
    for worker, point in zip(world.workers.values(), start, strict=True):
        place_at(worker, point)
    found = []
    for number in range(ROUNDS + 1):
        at = np.stack([point_of(worker) for worker in world.workers.values()])
        found.append(float(np.sqrt(((at - at.mean(axis=0)) ** 2).mean())))
        world.step(0.1 * number)
    return [one / found[0] for one in found]


def predicted(topology: str) -> float:
    """Factor per exchange: the second largest modulus of the eigenvalues of one period's product, its root."""
    schedule = load_topology(topology, NAMES)
    product = np.eye(len(NAMES))
    for exchange in range(schedule.period):
        product = (metropolis if topology in SYMMETRIC else uniform_column)(schedule, exchange) @ product
    moduli = np.sort(np.abs(np.linalg.eigvals(product)))
    return float(moduli[-2] ** (1.0 / schedule.period))


def measured(found: list[float]) -> str:
    """Factor per exchange over the second half of what is above rounding, or after how many exchanges nothing is."""
    kept = [one for one in found if one > 1e-5]
    if len(kept) < 6:
        return f"0 after {len(kept)}"
    half = len(kept) // 2
    return f"{(kept[-1] / kept[half]) ** (1.0 / (len(kept) - 1 - half)):.3f}"


def measured_all() -> dict[str, dict[str, list[float]]]:
    """Topology -> strategy -> its distances, for all that fit."""
    return {
        topology: {
            name: distances(name, topology)
            for name in WEIGHTS
            if topology in SYMMETRIC or STRATEGIES[name].delivery is not Delivery.STREAM
        }
        for topology in TOPOLOGIES
    }


def main() -> None:
    """Write results/table.md, results/distances.json and results/consensus.png."""
    asked, kept = command.begin(command.parser(__doc__)), HERE / "results" / "distances.json"
    kept.parent.mkdir(exist_ok=True)
    if not asked.report:
        kept.write_text(json.dumps(measured_all()), encoding="utf-8")
    found: dict[str, dict[str, list[float]]] = json.loads(kept.read_text(encoding="utf-8"))
    rows = [command.line(["topology", "predicted", *WEIGHTS]), "|" + " --- |" * (2 + len(WEIGHTS))]
    figure, axes = plt.subplots(1, len(TOPOLOGIES), figsize=(4 * len(TOPOLOGIES), 4), sharey=True)
    for axis, topology in zip(axes, TOPOLOGIES, strict=True):
        rate, here = predicted(topology), found[topology]
        for name, values in here.items():
            axis.semilogy(np.maximum(values, 1e-7), label=name, linewidth=1)
        axis.semilogy(np.maximum(rate ** np.arange(ROUNDS + 1), 1e-7), "k--", label="spectral gap")
        axis.set(title=f"{topology} ({rate:.3f})", xlabel="exchanges", ylim=(1e-7, 2))
        rows.append(
            command.line(
                [topology, f"{rate:.3f}", *(measured(here[name]) if name in here else "-" for name in WEIGHTS)]
            )
        )
    axes[0].set_ylabel("distance to the mean, relative")
    axes[-1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "results" / "consensus.png", dpi=80)
    command.write(HERE / "results" / "table.md", "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()

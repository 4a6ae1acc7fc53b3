"""Which strategy when: every strategy on Fashion-MNIST, in virtual time, and the one table to choose by.

    GOSSIPDISTILL_DATA=FOLDER python -m experiments.which_strategy.run [--seeds 0,1,2] [--rows sgp,osgp] [--scale 1.0]
    python -m experiments.which_strategy.run --report       the table again, from the cells that are there

One line of `results/cells.jsonl` for each finished cell, so that an interrupted series goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from experiments.which_strategy.table import CALM, SETTINGS, STRAGGLER, Cell, table
from gossipdistill.launch.building import build_learner, build_task
from gossipdistill.launch.plan import Asked
from gossipdistill.launch.simulated_peer import SimulatedPeer
from gossipdistill.launch.simulation import Simulation, plan_simulation
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.sim.compute import Compute, Pace
from gossipdistill.sim.host import Birth
from gossipdistill.strategies import STRATEGIES, strategy_of

HERE = Path(__file__).parent
CELLS = HERE / "results" / "cells.jsonl"
STEPS, SLOWDOWN = 750, 10.0
COLLECTIVE = "all_reduce"


def keys_of(rows: list[str], seeds: list[int], scale: float) -> Iterator[Cell]:
    """All cells, seed by seed, so that every row has one early. The straggler is in the skewed setting alone."""
    for seed in seeds:
        for row in rows:
            for setting, speeds in ((SETTINGS[0], CALM), (SETTINGS[1], CALM), (SETTINGS[1], STRAGGLER)):
                yield {"strategy": row, "setting": setting, "speeds": speeds, "seed": seed, "scale": scale}


def specs_of(cell: Cell, out: Path) -> list[WorkerSpec]:
    """The four peers of a cell; with a straggler, the last of them is slow."""
    steps = max(round(STEPS * cell["scale"]), 1)
    strategy = cell["strategy"] if cell["strategy"] != COLLECTIVE else "gossip_averaging"  # which begins alike as well
    asked = Asked(
        run_file=HERE / f"{cell['setting']}.toml",
        strategy=strategy,
        steps=steps,
        seconds=100.0 * steps,
        seed=cell["seed"],
        device="cpu",
        data_dir=Path(os.environ["GOSSIPDISTILL_DATA"]) if "GOSSIPDISTILL_DATA" in os.environ else None,
        out=out,
    )
    specs = plan_simulation(asked)
    if cell["speeds"] == STRAGGLER:
        specs[-1] = replace(specs[-1], slowdown=SLOWDOWN)
    return specs


@dataclass(slots=True)
class _Watched:
    """A pace that notes when its peer is through; seconds of the world."""

    pace: Pace
    peer: SimulatedPeer
    simulation: Timed

    def next_s(self) -> float:
        """As the pace says."""
        if self.peer.finished:
            self.simulation.through_s.setdefault(self.peer.worker.learner.name, self.simulation.world.now)
        return self.pace.next_s()


@dataclass
class Timed(Simulation):
    """A simulation that ends when the peers of ordinary speed are through."""

    through_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stopped = lambda: all(spec.name in self.through_s for spec in self.healthy)

    @property
    def healthy(self) -> list[WorkerSpec]:
        """Those who are not slow."""
        return [spec for spec in self.specs if spec.slowdown == 1.0]

    def _spawn(self, birth: Birth) -> SimulatedPeer:
        made = super()._spawn(birth)
        made.pace = _Watched(made.pace, made, self)  # type: ignore[assignment]
        return made


def simulated(cell: Cell) -> dict[str, Any]:
    """Figures of one cell: of the healthy peers, and the processor time of a step of all."""
    with tempfile.TemporaryDirectory() as out:
        simulation = Timed(specs_of(cell, Path(out)))
        simulation.run()
    entries = {entry["name"]: entry for entry in simulation.summary["peers"]}
    healthy = [entries[spec.name] for spec in simulation.healthy]
    if simulation.summary["simulation"]["violations"]:
        raise RuntimeError(f"{cell}: {simulation.summary['simulation']['violations'][0]}")
    return {
        "accuracy": {entry["name"]: round(100 * entry["val_accuracy"], 2) for entry in healthy},
        "megabytes": round(sum(entry["bytes_sent"] for entry in healthy) / len(healthy) / 1e6, 3),
        "wall_s": round(max(simulation.through_s[spec.name] for spec in simulation.healthy), 3),
        "cpu_ms_per_step": round(1e3 * simulation.world.learner_s / sum(e["steps"] for e in entries.values()), 4),
    }


def collective(cell: Cell) -> dict[str, Any]:
    """The same of all_reduce, which has a transport of its own: its arithmetic here, its time from the same paces."""
    with tempfile.TemporaryDirectory() as out:
        specs = specs_of(cell, Path(out))
    strategy = specs[0].config.make_strategy()
    tasks = [build_task(spec, strategy) for spec in specs]
    learner, _ = build_learner(specs[0], strategy, tasks[0])
    draws = [build_learner(spec, strategy, task)[1] for spec, task in zip(specs, tasks, strict=True)]
    config, sim = specs[0].config, specs[0].config.sim
    compute = Compute(config.train.step_time_s, sim.step_jitter)
    paces = [compute.pace(spec.place, config.seed, spec.slowdown) for spec in specs]
    steps = config.steps or 1
    wall_s, gradients_s, stepping_s = 0.0, 0.0, 0.0
    for step in range(steps):
        began_s = time.process_time()
        learner.optimizer.zero_grad(set_to_none=True)
        for task, draw in zip(tasks, draws, strict=True):
            rows = draw.at(step)
            loss = task.loss(learner.model(task.train[0][rows]), task.train[1][rows]) / len(specs)
            torch.autograd.backward(loss)
        made_s = time.process_time()
        for group in learner.optimizer.param_groups:
            group["lr"] = config.train.lr * (1 + math.cos(math.pi * step / steps)) / 2  # as the worker's cosine
        learner.optimizer.step()
        gradients_s, stepping_s = gradients_s + made_s - began_s, stepping_s + time.process_time() - made_s
        # 2 (n - 1) messages one after the other in a ring, each as late as a message of the simulated network.
        ring_s = 2 * (len(specs) - 1) * (sim.latency_s + sim.jitter_s)
        wall_s += max(pace.next_s() for pace in paces) + ring_s
    x, y = tasks[0].validation
    accuracy = round(100 * tasks[0].metrics["accuracy"](learner.predict(learner.model, x), y), 2)
    parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    return {
        "accuracy": {spec.name: accuracy for spec in specs if spec.slowdown == 1.0},
        "megabytes": round(2 * (len(specs) - 1) / len(specs) * 4 * parameters * steps / 1e6, 3),
        "wall_s": round(wall_s, 3),
        "cpu_ms_per_step": round(1e3 * (gradients_s / len(specs) + stepping_s) / steps, 4),
    }


def known() -> list[dict[str, Any]]:
    """The cells that are there; a line that was cut short is none."""
    if not CELLS.exists():
        return []
    return [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def main() -> None:
    """Every missing cell, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rows", default=",".join(STRATEGIES))
    parser.add_argument("--scale", type=float, default=1.0, help=f"of {STEPS} steps; other scales are kept apart")
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    rows, seeds = asked.rows.split(","), [int(seed) for seed in asked.seeds.split(",")]
    for row in rows:
        strategy_of(row)
    torch.set_num_threads(1)
    wanted = list(keys_of(rows, seeds, asked.scale))
    done = {json.dumps(cell["key"]) for cell in known()}
    for number, cell in enumerate(wanted if not asked.report else (), start=1):
        if json.dumps(cell) in done:
            continue
        began_s = time.process_time()
        figures = collective(cell) if cell["strategy"] == COLLECTIVE else simulated(cell)
        cpu_s = round(time.process_time() - began_s, 2)
        CELLS.parent.mkdir(exist_ok=True)
        with CELLS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": cell, **figures, "cpu_s": cpu_s}) + "\n")
        print(f"{number} of {len(wanted)}: {cell} {figures}, {cpu_s} s of processor time", flush=True)
    text = table([cell for cell in known() if cell["key"]["scale"] == asked.scale])
    if asked.scale == 1.0:
        (HERE / "results" / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

"""What push-sum costs in real processes: memory and CPU of two workers with a large model, strategy by strategy."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import BenchmarkError, Workers
from benchmarks.kit.weighed_worker import MEMORY_FILE
from gossipdistill.config.plan import Asked, plan_local

STRATEGIES = ("isolated", "gossip_averaging", "sgp", "osgp", "async_gradient_push")
MODULE = "benchmarks.kit.weighed_worker"
_WITHIN_S = 600.0
PARTS = ("before", "training", "after")


def run_pair(strategy: str, size: str, steps: int) -> dict[str, Any]:
    """Two workers, side by side, from their first step to their last: of both, peaks of memory in bytes by part of the
    run, CPU seconds per step, and exchanges."""
    with tempfile.TemporaryDirectory(prefix="push-sum-cost-") as folder, Workers(MODULE) as workers:
        settings = (
            "train.threads=1",
            "train.batch_size=4",
            "train.momentum=0.0",
            "train.lr=0.001",
            "train.clip_norm=off",
            "train.lr_schedule=constant",
            "train.checkpoint_every_s=0",
            "exchange.every_steps=10",
            f"task.size={size}",
        )
        asked = Asked(
            peers="2",
            topology="complete",
            task="benchmarks.kit.sized:task",
            strategy=strategy,
            steps=steps,
            seed=0,
            settings=settings,
            device="cpu",
            out=Path(folder),
            here=Path(__file__).resolve().parents[2],
        )
        specs = plan_local(asked)
        workers.start_all(specs)
        if not workers.wait(lambda: all(handle.ended_s for handle in workers.handles.values()), _WITHIN_S):
            raise BenchmarkError(f"{strategy}: not done after {_WITHIN_S:g} s")
        results = []
        for spec in specs:
            handle = workers.handles[spec.name]
            found = [record["result"] for record in handle.records if record.get("type") == "result"]
            if not found or found[0]["status"] != "finished":
                raise BenchmarkError(f"{spec.name} has not finished: {handle.error} {found[:1]}")
            results.append(found[0] | json.loads((spec.folder / MEMORY_FILE).read_text()))
    return {
        "strategy": strategy,
        "parameters": workers.handles[specs[0].name].ready["parameters"],
        "peak_bytes": {part: [result[part] for result in results] for part in PARTS},
        "between_bytes": [result["between"] for result in results],
        "cpu_s_per_step": [result["cpu_s_per_step"] for result in results],
        "exchanges": [result["parcels_used"] for result in results],
    }


def beyond(run: dict[str, Any], alone: dict[str, Any], part: str) -> float:
    """Models (4 bytes a parameter) that a run holds at its peak beyond `isolated`; the mean of its workers. `part`
    "whole": whichever part of the run is the highest."""
    parts = PARTS if part == "whole" else (part,)

    def peak(of: dict[str, Any]) -> float:
        return statistics.fmean(max(values) for values in zip(*(of["peak_bytes"][one] for one in parts), strict=True))

    return (peak(run) - peak(alone)) / (4 * int(run["parameters"]))


def beyond_between(run: dict[str, Any], alone: dict[str, Any]) -> float | None:
    """The same of what is resident after a step, the median over steps; None where that was not noted."""
    if "between_bytes" not in run or "between_bytes" not in alone:
        return None
    more = statistics.fmean(run["between_bytes"]) - statistics.fmean(alone["between_bytes"])
    return more / (4 * int(run["parameters"]))

"""Specifications of the workers that the benchmarks start: the package's own planning, with the settings laid open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gossipdistill.config.layers import Layer
from gossipdistill.config.origins import chosen
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.config.resolving import resolve
from gossipdistill.config.spec import WorkerSpec

ENDLESS_S = 3600.0
"""Limit of a run that the benchmark ends itself."""


def plan(
    folder: Path,
    strategy: str,
    topology: str,
    settings: Sequence[str],
    slowdown_of_last: float = 1.0,
    models: Sequence[str] = (),
    peers: int = 4,
) -> list[WorkerSpec]:
    """Workers of digits on this machine, four unless told otherwise, one torch thread each, with free ports.

    `models` gives each its own architecture, where the settings do not.
    """
    asked = Asked(
        peers=str(peers),
        topology=topology,
        task="digits",
        strategy=strategy,
        seconds=ENDLESS_S,
        seed=0,
        settings=("train.threads=1", *settings),
        device="cpu",
        out=folder,
    )
    specs = plan_local(asked)
    specs[-1] = replace(specs[-1], slowdown=slowdown_of_last)
    for place, model in enumerate(models):
        own = Layer(chosen("benchmark"), {"task.model": model, "name": specs[place].config.name})
        specs[place] = replace(specs[place], resolved=resolve([*asked.layers(), own]))
    return specs

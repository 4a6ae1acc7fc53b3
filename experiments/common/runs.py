"""Runs in virtual time, with the product's own keys and defaults."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from experiments.common.data import folder
from gossipdistill.config.plan import Asked
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.simulation.run import Simulation, plan_simulation

ROOT = Path(__file__).parents[2]
Kind = TypeVar("Kind", bound=Simulation)


@contextmanager
def planned(**asked: Any) -> Iterator[list[WorkerSpec]]:
    """The peers of a run, as `gossipdistill simulate` plans it on the processor. Its folder is gone afterwards.

    Args:
        asked: fields of `Asked`.
    """
    with tempfile.TemporaryDirectory() as out:
        yield plan_simulation(Asked(**asked, device="cpu", data_dir=folder(), here=ROOT, out=Path(out)))


def settings_of(keys: dict[str, Any]) -> list[str]:
    """Dotted keys as they are typed after `--set`."""
    return [f"{name}={value}" for name, value in keys.items()]


def completed(simulation: Kind) -> Kind:
    """The simulation, run to its end.

    Raises:
        RuntimeError: a rule of the protocol was broken on the way.
    """
    simulation.run()
    violations = simulation.figures.violations
    if violations:
        raise RuntimeError(violations[0])
    return simulation

"""The pytest plugin: fixtures `gossip_run` and `gossip_cluster`. It imports nothing heavy until one is used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gossipdistill.testing import Cluster, RunResult


@pytest.fixture
def gossip_run(tmp_path: Path) -> Callable[..., RunResult]:
    """Runs peers as processes of this machine, as `gossipdistill run` does, and returns a `RunResult`.

    `gossip_run("first-light.toml", faults="bad-day").check()`; the keywords are those of `gossipdistill.testing.run`.
    Results lie in the test's own folder.
    """
    from gossipdistill.testing.runs import run

    return partial(run, out=tmp_path / "runs")


@pytest.fixture
def gossip_cluster() -> type[Cluster]:
    """`gossipdistill.testing.Cluster`: the real protocol objects in virtual time, bent by a fault plan."""
    from gossipdistill.testing.cluster import Cluster

    return Cluster

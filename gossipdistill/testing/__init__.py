"""For your own fault-injection tests: a real run in a test, and a small cluster in virtual time.

    def test_my_task_survives_a_bad_day(gossip_run):          # the fixture comes with the installation
        gossip_run("my-run.toml", faults="bad-day").check()

    def test_everybody_is_seen_again_after_a_split(gossip_cluster):
        cluster = gossip_cluster(6, faults="split-and-heal")
        cluster.run(30)
        assert cluster.everybody_sees_everybody()

Without pytest: `from gossipdistill.testing import Cluster, run`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossipdistill.testing.cluster import Cluster as Cluster
    from gossipdistill.testing.runs import RunResult as RunResult
    from gossipdistill.testing.runs import run as run

_HOME = {"Cluster": "cluster", "RunResult": "runs", "run": "runs"}
"""This maps an exported name to its module. Modules are loaded on first use: pytest imports this package in every
session on a machine that has it."""

__all__ = ["Cluster", "RunResult", "run"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

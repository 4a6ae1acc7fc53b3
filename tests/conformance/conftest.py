"""Every scene on every network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from drivers.harness import uv_loop

from .cluster import Cluster
from .real import RealCluster
from .virtual import VirtualCluster

NETWORKS = {
    "virtual": VirtualCluster,
    "inproc-asyncio": lambda: RealCluster("inproc", asyncio.new_event_loop),
    "inproc-uvloop": lambda: RealCluster("inproc", uv_loop),
    "tcp-asyncio": lambda: RealCluster("tcp", asyncio.new_event_loop),
    "tcp-uvloop": lambda: RealCluster("tcp", uv_loop),
}


@pytest.fixture(params=NETWORKS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A network without peers; what was started is ended."""
    made = NETWORKS[request.param]()
    yield made
    made.close()

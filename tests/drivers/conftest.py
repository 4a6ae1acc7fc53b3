"""Nodes that are stopped at the end of a test, whatever became of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from .harness import Node


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Nodes put into this list are stopped at the end, and must leave nothing behind."""
    made: list[Node] = []
    yield made
    for node in made:
        node.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "network"]
    assert [node.network.failure() for node in made] == [None] * len(made)

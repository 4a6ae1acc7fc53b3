"""A worker goes on whether its launcher reads what it tells or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from gossipdistill.observe.report import unknown_peer
from gossipdistill.observe.told import Happened, Progress, Ready, Result
from gossipdistill.runtime.telling import Telling


@pytest.fixture
def pipe() -> Iterator[tuple[int, Telling]]:
    end, other = os.pipe()
    out = open(other, "w", closefd=False)  # noqa: SIM115 - what it holds cannot be written when nobody reads
    yield end, Telling(out)
    os.close(other)


def lines(end: int, until: str) -> list[dict[str, object]]:
    """What comes, up to a record of this type."""
    found: list[dict[str, object]] = []
    with os.fdopen(end) as reader:
        for line in reader:
            found.append(json.loads(line))
            if found[-1]["type"] == until:
                return found
    return found


def test_nothing_waits_for_a_launcher_that_does_not_read(pipe: tuple[int, Telling]) -> None:
    end, telling = pipe
    telling(Ready(told="x" * 200_000))  # more than a pipe holds
    for step in range(5000):
        telling(Progress(step=step))
    telling(Happened(1.0, "joined", "of interest"))
    telling(Progress(step=5001))
    telling(Result(unknown_peer("ada")))
    told = lines(end, "result")
    assert [one["type"] for one in told if one["type"] != "progress"] == ["ready", "event", "result"]
    steps = [one["step"] for one in told if one["type"] == "progress"]
    assert steps[-2:] == [4999, 5001]
    assert len(steps) < 5000
    telling.settle()


def test_it_says_so_when_nobody_reads_any_more(pipe: tuple[int, Telling]) -> None:
    end, telling = pipe
    os.close(end)
    telling(Ready())
    telling.settle()
    with pytest.raises(BrokenPipeError):
        telling(Result(unknown_peer("ada")))

"""What a restarted peer has lost shows: in its status, in a warning and in the exit code; and little is lost early."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gossipdistill.errors import EXIT_LOST
from gossipdistill.launchers.collecting import Ended
from gossipdistill.launchers.injection import NoFaults
from gossipdistill.launchers.lost_work import Work
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.endings import exit_code_of, reasons_of
from gossipdistill.observe.report import unknown_peer
from gossipdistill.observe.told import Progress
from gossipdistill.runtime.saving import Rhythm


def progress(steps: float, elapsed_s: float) -> Progress:
    """As a worker reports it, of its own process."""
    return Progress(step=int(steps), elapsed_s=elapsed_s, steps_per_s=steps / elapsed_s)


def crashed(*processes: tuple[float, float]) -> Work:
    """A peer whose processes did so many steps in so many seconds, each but the last killed."""
    work = Work()
    for number, (steps, elapsed_s) in enumerate(processes):
        if number:
            work.ended()
            work.crashes += 1
        if elapsed_s:
            work.heard(progress(steps, elapsed_s))
    return work


@pytest.mark.parametrize(
    ("processes", "steps", "word"),
    [
        (((1000, 10), (4900, 49)), 5900, ""),  # a second of a minute
        (((1000, 10), (4400, 44)), 5400, ""),  # a tenth
        (((1000, 10), (4300, 43)), 5300, "5300 steps of about 6000"),
        (((3000, 30), (2700, 27)), 2700, "2700 steps of about 6000"),  # all of the first half was lost
        (((1000, 10), (27, 0.3)), 27, "27 steps of about 5"),
        (((0, 0), (0, 0)), 0, "0 steps of about 3000"),  # at the pace of the others
        (((10, 0.1), (0, 0)), 10, "10 steps of about 3000"),
    ],
)
def test_what_was_rolled_back_and_waited_for_is_measured_against_a_whole_run(
    processes: tuple[tuple[float, float], ...], steps: int, word: str
) -> None:
    problem = crashed(*processes).problem(steps, 60.0, None, [None, 50.0, 20.0])
    assert problem.startswith(word)
    assert bool(problem) == bool(word)
    assert not problem or "started again once" in problem


def test_who_was_never_lost_or_was_ended_by_the_plan_or_has_all_its_steps_is_not_judged() -> None:
    assert Work().problem(0, 60.0, None, []) == ""
    planned = crashed((1000, 10), (0, 0))
    planned.planned = True
    assert planned.problem(0, 60.0, None, []) == ""
    assert crashed((100, 10), (100, 10)).problem(150, None, 150, []) == ""
    assert crashed((100, 10), (100, 10)).problem(150, 60.0, 150, []) == ""
    assert crashed((0, 0), (0, 0)).problem(0, 60.0, None, []).startswith("0 steps that")
    assert "2 times" in crashed((0, 0), (0, 0), (0, 0)).problem(0, 60.0, None, [10.0])


def test_the_summary_calls_it_short_and_the_exit_code_is_10(tmp_path: Path) -> None:
    config = SimpleNamespace(seconds=25.0, steps=None)
    finished = unknown_peer("ada").but(status="finished", warnings=["one of its own"])

    def child(work: Work, steps: int) -> Child:
        process: Any = SimpleNamespace(pid=1, stdin=io.BytesIO())
        spec: Any = SimpleNamespace(config=config, name="ada", folder=tmp_path)
        return Child(spec, process, result=finished.but(steps=steps), work=work)

    children = [child(crashed((2500, 25)), 2500), child(crashed((400, 4), (27, 0.4)), 27)]
    ended = Ended([], tmp_path, {str(place): one for place, one in enumerate(children)}, NoFaults(), None, 25.0)
    entries = [ended.judged(one) for one in children]
    assert [entry.status for entry in entries] == ["finished", "short"]
    assert exit_code_of(entries) == EXIT_LOST == exit_code_of(entries[1:])
    (reason,) = reasons_of(entries[1])
    assert reason in entries[1].warnings
    assert reason.startswith("short: 27 steps of about 24")
    assert entries[0].warnings == ["one of its own"]


def times(every_s: float, wanted_s: float | None = None) -> list[float]:
    """When checkpoints are taken within 45 s, looked at each half second."""
    rhythm, taken = Rhythm(every_s), []
    rhythm.begin(100.0)
    for tick in range(90):
        now = 100.0 + tick / 2
        if rhythm.due(now) or now - 100.0 == wanted_s:
            rhythm.taken(now)
            taken.append(now - 100.0)
    return taken


def test_the_first_checkpoint_comes_within_a_second_and_the_next_ones_ever_more_seldom() -> None:
    assert times(10.0) == [1, 2, 4, 8, 16, 26, 36]
    assert times(60.0) == [1, 2, 4, 8, 16, 32]
    assert times(0.5) == [tick / 2 for tick in range(1, 90)]
    assert times(0.0) == []
    assert times(0.0, 3.0) == [3]  # asked for

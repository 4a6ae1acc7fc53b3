"""What the soak makes of what it has seen: made-up runs, good ones and one for each thing that can be wrong."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.kit.launcher import WorkerHandle, Workers
from benchmarks.kit.witness import MIB, Contents, Usage, contents, left_behind, slope, usage
from benchmarks.soak.__main__ import Accuracies, report, verdicts
from benchmarks.soak.cycles import FIRST_KILL_S, LAST_KILL_BEFORE_END_S, Cycle, Seen, Soak, kill_times_s, specs_of

NAMES = ("ada", "bo", "cy", "dee", "eve", "fay")
Corrupt = Callable[[Seen], object]


def good(seconds: float = 3600.0, mib_per_hour: float = 0.3) -> Seen:
    """An hour in which all is well: two kills, one of them while the process was still starting."""
    seen = Seen(seconds)
    seen.cycles = [Cycle(20.0, "bo", False, 100), Cycle(24.0, "bo", True, 100, resumed=100, ready_after_s=5.0)]
    times = [5.0 * number for number in range(int(seconds / 5))]
    seen.weights = [(at_s, dict.fromkeys(NAMES, 1.0)) for at_s in times]
    # Warm after a minute: before, memory grows fast, which is not held against it.
    grown = [min(at_s, 60.0) * 0.1 + mib_per_hour * at_s / 3600 for at_s in times]
    seen.usages = [Usage(at_s, int(300 * MIB + more * MIB), 50, 7) for at_s, more in zip(times, grown, strict=True)]
    seen.folders = [Contents(at_s, 100, int(at_s), 2 * MIB) for at_s in times]
    seen.results = {name: {"status": "finished", "val_accuracy": 0.94} for name in NAMES}
    return seen


def failed(seen: Seen, found: Accuracies | None = None, orphans: tuple[str, ...] = ()) -> list[str]:
    """The targets that are missed."""
    return [verdict.target for verdict in verdicts(seen, found, orphans) if verdict.passed is not True]


def test_a_good_run_passes() -> None:
    assert failed(good(), Accuracies(0.94, [0.938, 0.941, 0.943])) == []


SPOILT: dict[str, Corrupt] = {
    "resumes": lambda seen: seen.cycles.append(Cycle(30.0, "cy", False, 200, resumed=190, ready_after_s=5.0)),
    "torn": lambda seen: seen.told.update(checkpoint_refused=1),
    "each kill is followed": lambda seen: seen.cycles.append(Cycle(30.0, "cy", False, 200)),
    "nobody ends": lambda seen: seen.unplanned.append("ada (exit code 1): a fault\nof ours"),
    "all finish": lambda seen: seen.results.pop("ada"),
    "add up": lambda seen: seen.weights.append((50.0, dict.fromkeys(NAMES, 0.3))),
    "each holds": lambda seen: seen.weights.append((50.0, dict.fromkeys(NAMES, 1.0) | {"bo": 9e-4})),
    "resident memory": lambda seen: seen.usages.__init__(good(mib_per_hour=1.5).usages),  # type: ignore[misc]
    "descriptors": lambda seen: seen.usages.append(replace(seen.usages[-1], descriptors=53)),
    "files of the run": lambda seen: seen.folders.append(replace(seen.folders[-1], files=113)),
    "without logs": lambda seen: seen.folders.append(replace(seen.folders[-1], other_bytes=3 * MIB)),
    "lines of logs": lambda seen: seen.folders.append(replace(seen.folders[-1], log_bytes=MIB)),
}


@pytest.mark.parametrize("target", SPOILT)
def test_each_target_can_be_missed(target: str) -> None:
    seen = good()
    SPOILT[target](seen)
    [missed] = failed(seen)
    assert target in missed


def test_accuracy_is_compared_with_the_noise_of_undisturbed_runs() -> None:
    assert failed(good(), Accuracies(0.93, [0.94, 0.94])) != []
    assert failed(good(), Accuracies(0.93, [0.94, 0.945, 0.935])) == []


def test_whoever_is_left_behind_is_named() -> None:
    found = verdicts(good(), None, ["17 python -m gossipdistill"])
    assert [verdict.found for verdict in found if not verdict.passed] == ["17 python -m gossipdistill"]


def test_a_short_run_is_judged_by_the_growth_itself() -> None:
    assert failed(good(600.0, mib_per_hour=5.0)) == []
    assert "resident memory" in failed(good(600.0, mib_per_hour=12.0))[0]


def test_a_report_holds_a_line_for_each_target() -> None:
    seen = good()
    judged = verdicts(seen, None, [])
    about = {"command": "python", "date": "now", "cores": 2, "processor": "one", "load_at_start": [0], "versions": {}}
    text = "\n".join(report(about, seen, None, judged))
    assert all(verdict.line() in text for verdict in judged)


def test_kills_come_at_random_moments_that_a_seed_gives_again() -> None:
    times = kill_times_s(500, 3600.0, seed=3)
    assert times == sorted(kill_times_s(500, 3600.0, seed=3)) != kill_times_s(500, 3600.0, seed=4)
    assert times[0] >= FIRST_KILL_S
    assert times[-1] <= 3600.0 - LAST_KILL_BEFORE_END_S


class FakeProcess:
    """Runs until it is killed."""

    def __init__(self) -> None:
        self.stdin = io.BytesIO()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.returncode = -9

    def wait(self) -> int | None:
        return self.returncode


def test_whom_a_kill_may_meet(tmp_path: Path) -> None:
    specs = specs_of(tmp_path, 0, ["seconds=60"])
    run = Soak(specs, [], 60.0, 0, print, down_max=2)
    workers = Workers()
    for spec in specs:
        workers.handles[spec.name] = WorkerHandle(spec, FakeProcess(), 0.0, released=True)  # type: ignore[arg-type]
    chance = random.Random(0)
    assert run._kill_one(workers, chance)
    assert run._kill_one(workers, chance)
    assert not run._kill_one(workers, chance)  # two are down, and the others train
    assert [cycle.starting for cycle in run.seen.cycles] == [False, False]
    down = {cycle.peer for cycle in run.seen.cycles}
    assert len(down) == 2
    assert specs[-1].name not in down
    first = run.seen.cycles[0].peer
    run._restart_s.clear()
    workers.handles[first] = WorkerHandle(specs[0], FakeProcess(), 0.0)  # type: ignore[arg-type]
    assert run._kill_one(workers, chance)  # one that starts may be killed again
    assert run.seen.cycles[-1] == Cycle(run.seen.cycles[-1].at_s, first, starting=True, on_disk=None)


def test_a_straight_line_is_found_again() -> None:
    points = [(float(at_s), 5.0 + 2.0 * at_s / 3600) for at_s in range(10)]
    found = slope(points)
    assert found is not None
    assert found.per_hour == pytest.approx(2.0)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert slope(points[:2]) is None
    assert slope([(1.0, 1.0)] * 3) is None


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_what_the_system_says_of_a_process_and_of_the_mark_that_it_carries() -> None:
    mark = f"GOSSIPDISTILL_SOAK=test-{os.getpid()}"
    name, _, value = mark.partition("=")
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {name: value},
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        found = usage(child.pid, 1.0)
        assert found is not None
        assert found.resident_bytes > MIB
        assert found.descriptors >= 3
        assert found.threads >= 1
        assert [line.split()[0] for line in left_behind(mark)] == [str(child.pid)]
        child.communicate(b"\n")
    assert usage(child.pid, 1.0) is None
    assert left_behind(mark) == []


def test_what_lies_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "events.jsonl").write_bytes(bytes(10))
    (tmp_path / "ada" / "result.json").write_bytes(bytes(7))
    assert contents(tmp_path, 2.0) == Contents(2.0, 2, 10, 7)

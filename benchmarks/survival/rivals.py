"""Four peers of another system, and what happens to one of them: the runs of the rivals behind `survival.py`."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import BenchmarkError, WorkerHandle, Workers
from benchmarks.kit.namespaces import Namespaces
from benchmarks.kit.stalls import read_moments, steps
from benchmarks.kit.timed_worker import STEPS_FILE
from benchmarks.survival.runs import CUT, KILL, PEERS, RATE, SLOW, STEP_TIME_S, STOP
from gossipdistill.tasks.digits import FILE as DIGITS

FOLDER = Path(__file__).parents[1] / "rivals"
NAMES = ("ada", "bo", "cy", "dee")
LIGHTHOUSE_PORT = 29510
STEPS_PER_ROUND = 10
IN_A_ROUND_S = 0.6


@dataclass(frozen=True)
class RivalSpec:
    """What one peer is told, and what `Workers` wants to know."""

    name: str
    folder: Path
    fields: dict[str, Any]
    threads: int | None = 1

    def to_json(self) -> str:
        """For the peer's file."""
        return json.dumps(self.fields | {"name": self.name}, indent=1)


@dataclass(frozen=True)
class Rival:
    """A system: its name, the Python in which it is installed, and whether it averages at every step."""

    name: str
    python: Path
    each_step: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a peer of it."""
        return (str(self.python), str(FOLDER / f"{self.name}_peer.py"))


@dataclass
class Outcome:
    """One run. `stalled_s`: by survivor, its longest step or round after the fault."""

    rival: str
    fault: str
    stalled_s: dict[str, float] = field(default_factory=dict)
    steps_lost: dict[str, int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    """Survivors that had not made all their steps when the time was up."""
    rounds: dict[str, dict[str, int]] = field(default_factory=dict)
    """By survivor: after the fault, how many rounds its own system called good and how many not."""
    nan_share: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def why_absent(rival: Rival) -> str | None:
    """Why this system cannot be measured here; None if it can."""
    if not rival.python.exists():
        return f"no Python at {rival.python}"
    done = subprocess.run([rival.python, "-c", f"import {rival.name}"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1]


def run_rival(rival: Rival, fault: str, rounds: int, fault_round: int, cap_s: float, nan: bool = False) -> Outcome:
    """Start four, release them; at a survivor's round `fault_round` the last one meets the fault, for good. Then wait
    until the survivors have made all rounds, at most `cap_s`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rival-")))
        namespaces = stack.enter_context(Namespaces(PEERS))
        inside = {name: namespaces.inside(place) for place, name in enumerate(NAMES)}
        workers = stack.enter_context(Workers(command=rival.command, inside=inside, whole_groups=True))
        per_round = 1 if rival.each_step else STEPS_PER_ROUND
        fields: dict[str, Any] = {
            "count": PEERS,
            "rounds": rounds,
            "steps_per_round": STEPS_PER_ROUND,
            "step_time_s": STEP_TIME_S,
            "digits": str(DIGITS),
            "interface": "eth0",
            "first": None,
        }
        if rival.name == "torchft":
            fields["first"] = stack.enter_context(Lighthouse(rival, namespaces, folder)).address
        _start(workers, folder, namespaces, fields, fault_round * STEPS_PER_ROUND // per_round if nan else None)
        survivors = [workers.handles[name] for name in NAMES[:-1]]
        wanted = fault_round * STEPS_PER_ROUND // per_round
        if not workers.wait(lambda: all(len(_rounds(h)) >= wanted for h in survivors), cap_s):
            raise BenchmarkError(f"{rival.name}: not {wanted} rounds within {cap_s:.0f} s")
        # Somewhere in a round of the slowest of them.
        time.sleep(random.Random(f"{rival.name} {fault}").uniform(0.0, IN_A_ROUND_S))
        fault_s = time.monotonic()
        if not nan:
            _inflict(fault, workers, namespaces)
        workers.wait(lambda: all(_ended(handle) for handle in survivors), cap_s)
        return _outcome(rival, fault, survivors, fault_s, time.monotonic())


def _start(
    workers: Workers, folder: Path, namespaces: Namespaces, fields: dict[str, Any], nan_from: int | None
) -> None:
    """The first one, whose address the others need; then these; then all are released."""
    handles = []
    for place, name in enumerate(NAMES):
        own = fields | {"place": place, "address": namespaces.addresses[place]}
        if nan_from is not None and name == NAMES[-1]:
            own["nan_from_round"] = nan_from
        handles.append(workers.start(RivalSpec(name, folder / name, own)))
        if place == 0 and fields["first"] is None:
            fields["first"] = _address(workers, handles[0])
    for handle in handles:
        workers.wait_ready(handle)
    for handle in handles:
        workers.release(handle)


def _address(workers: Workers, first: WorkerHandle) -> list[str]:
    """Where the others find the first one, as it says itself."""
    workers.wait(lambda: bool(_said(first, "address")) or first.ended_s is not None, 60.0)
    if not _said(first, "address"):
        workers.wait_ready(first)  # raises, with its last words
    address: list[str] = _said(first, "address")[0]["address"]
    return address


class Lighthouse:
    """torchft's own server, on the bridge."""

    def __init__(self, rival: Rival, namespaces: Namespaces, folder: Path) -> None:
        self.address = f"http://{namespaces.hub_address}:{LIGHTHOUSE_PORT}"
        command = shutil.which("torchft_lighthouse", path=str(rival.python.parent))
        if command is None:
            raise BenchmarkError("torchft_lighthouse is not beside its Python")
        bind = f"{namespaces.hub_address}:{LIGHTHOUSE_PORT}"
        self._command = [*namespaces.inside(None), command, "--min_replicas", "2", "--bind", bind]
        self._log = folder / "lighthouse.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lighthouse:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def _inflict(fault: str, workers: Workers, namespaces: Namespaces) -> None:
    touched = NAMES[-1]
    if fault == KILL:
        workers.signal(touched, signal.SIGKILL)
    elif fault == STOP:
        # With all its helpers, as a suspended machine is.
        os.killpg(workers.handles[touched].process.pid, signal.SIGSTOP)
    elif fault == CUT:
        namespaces.cut(PEERS - 1)
    elif fault == SLOW:
        namespaces.slow(PEERS - 1, RATE)


def _said(handle: WorkerHandle, kind: str) -> list[dict[str, Any]]:
    return [record for record in list(handle.records) if record.get("type") == kind]


def _rounds(handle: WorkerHandle) -> list[dict[str, Any]]:
    return _said(handle, "round")


def _ended(handle: WorkerHandle) -> bool:
    return bool(_said(handle, "result")) or handle.ended_s is not None


def _outcome(rival: Rival, fault: str, survivors: Sequence[WorkerHandle], fault_s: float, now_s: float) -> Outcome:
    found = Outcome(rival.name, fault)
    for handle in survivors:
        name = handle.spec.name
        moments, results = read_moments(handle.spec.folder / STEPS_FILE), _said(handle, "result")
        seen = steps(moments, fault_s, now_s, STEP_TIME_S, ended=bool(results))
        found.stalled_s[name], found.steps_lost[name] = seen.longest_s, seen.lost
        after = [record for record in _rounds(handle) if record["at_s"] >= fault_s]
        good = sum(bool(record["ok"]) for record in after)
        found.rounds[name] = {"good": good, "bad": len(after) - good}
        if results:
            found.accuracy[name] = results[-1]["result"]["accuracy"]
            found.nan_share[name] = results[-1]["result"]["nan_share"]
        else:
            found.unfinished.append(name)
        found.problems += [f"{name}: {record['problem']}" for record in after if record.get("problem")][:2]
    return found

"""Flower's hub on the bridge, four nodes around it, and what happens to one of them: its runs behind `survival.py`.

Its nodes start a process for every message, so a round takes seconds here, whatever the training does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.kit.launcher import BenchmarkError, Workers
from benchmarks.kit.namespaces import Namespaces
from benchmarks.kit.stalls import read_moments, steps
from benchmarks.kit.timed_worker import STEPS_FILE
from benchmarks.kit.witness import left_behind
from benchmarks.survival.rivals import FOLDER, NAMES, Outcome, Rival
from benchmarks.survival.runs import CUT, KILL, PEERS, RATE, SLOW, STEP_TIME_S, STOP
from gossipdistill.tasks.digits import FILE as DIGITS

HUB_PORT, NODE_PORT = 8000, 9094
STEPS_PER_ROUND = 50
STARTS_WITHIN_S = 60.0


@dataclass
class Flower:
    """All processes of one run; none is left behind."""

    rival: Rival
    namespaces: Namespaces
    folder: Path
    fields: dict[str, Any]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Flower:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
        # Its helpers lead groups of their own, but have our environment.
        while behind := left_behind(f"SURVIVAL_ROUNDS={self.rounds_file}"):
            for line in behind:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(line.split()[0]), signal.SIGKILL)
            time.sleep(0.05)

    def _start(self) -> None:
        home = self.folder / "home"
        home.mkdir()
        hub = f"{self.namespaces.hub_address}:{HUB_PORT}"
        connection = f'[superlink]\ndefault = "survival"\n\n[superlink.survival]\naddress = "{hub}"\ninsecure = true\n'
        (home / "config.toml").write_text(connection)
        hub_place = ("--host", self.namespaces.hub_address, "--port", str(HUB_PORT))
        self._run(
            "hub", None, "flower-superlink", "--insecure", "--disable-runtime-dependency-installation", *hub_place
        )
        for place, name in enumerate(NAMES):
            own = ("--host", self.namespaces.addresses[place], "--port", str(NODE_PORT))
            config = f"partition-id={place} num-partitions={PEERS}"
            self._run(name, place, "flower-supernode", "--insecure", "--superlink", hub, *own, "--node-config", config)
        log = self.folder / "hub" / "stderr.log"
        if not Workers.wait(lambda: log.read_text().count("Activated node") >= PEERS, STARTS_WITHIN_S):
            raise BenchmarkError(f"flower: not all nodes are there after {STARTS_WITHIN_S:.0f} s\n{self.last_words()}")
        self._run("run", None, "flwr", "run", str(FOLDER / "flwr_app"), "survival", "--stream")

    def _run(self, name: str, place: int | None, program: str, *arguments: str) -> None:
        own = self.folder / name
        own.mkdir()
        spec = own / "spec.json"
        spec.write_text(json.dumps(self.fields | {"name": name, "place": place or 0}))
        path = f"{self.rival.python.parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {
            "PATH": path,
            "FLWR_HOME": str(self.folder / "home"),
            "RIVALS": str(FOLDER),
            "SURVIVAL_SPEC": str(spec),
            "SURVIVAL_ROUNDS": str(self.rounds_file),
            "OMP_NUM_THREADS": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
        }
        environment.pop("PYTHONPATH", None)
        command = [*self.namespaces.inside(place), str(self.rival.python.parent / program), *arguments]
        with (own / "stderr.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=own,
                start_new_session=True,
            )

    @property
    def rounds_file(self) -> Path:
        """What the server says of each round."""
        return self.folder / "rounds.jsonl"

    def said(self, kind: str) -> list[dict[str, Any]]:
        """What the server has said so far."""
        if not self.rounds_file.exists():
            return []
        records = [json.loads(line) for line in self.rounds_file.read_text().splitlines() if line.endswith("}")]
        return [record for record in records if record["type"] == kind]

    def last_words(self) -> str:
        """Of all processes, for an error message."""
        return "\n".join(f"{log.parent.name}: {log.read_text()[-600:]}" for log in self.folder.glob("*/stderr.log"))


def run_flower(rival: Rival, fault: str, rounds: int, fault_round: int, cap_s: float, nan: bool = False) -> Outcome:
    """Once round `fault_round` is over, the last node meets the fault, for good, while it trains in the next."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rival-")))
        namespaces = stack.enter_context(Namespaces(PEERS))
        fields: dict[str, Any] = {
            "count": PEERS,
            "rounds": rounds,
            "steps_per_round": STEPS_PER_ROUND,
            "step_time_s": STEP_TIME_S,
            "digits": str(DIGITS),
        }
        flower = stack.enter_context(Flower(rival, namespaces, folder, fields))
        if nan:
            spoilt = folder / NAMES[-1] / "spec.json"
            spoilt.write_text(json.dumps(json.loads(spoilt.read_text()) | {"nan_from_round": fault_round + 1}))
        if not Workers.wait(lambda: len(flower.said("round")) > fault_round, STARTS_WITHIN_S + cap_s):
            raise BenchmarkError(f"flower: not {fault_round} rounds within {cap_s:.0f} s\n{flower.last_words()}")
        touched = read_moments(folder / NAMES[-1] / STEPS_FILE)
        Workers.wait(lambda: len(read_moments(folder / NAMES[-1] / STEPS_FILE)) > len(touched), STARTS_WITHIN_S)
        fault_s = time.monotonic()
        if not nan:
            _inflict(fault, flower, namespaces)
        Workers.wait(lambda: bool(flower.said("result")), cap_s)
        return _outcome(flower, fault, fault_s, time.monotonic())


def _inflict(fault: str, flower: Flower, namespaces: Namespaces) -> None:
    if fault in (KILL, STOP):
        # The node with what it has started for this message.
        number = signal.SIGKILL if fault == KILL else signal.SIGSTOP
        for line in left_behind(f"SURVIVAL_SPEC={flower.folder / NAMES[-1] / 'spec.json'}"):
            os.kill(int(line.split()[0]), number)
    elif fault == CUT:
        namespaces.cut(PEERS - 1)
    elif fault == SLOW:
        namespaces.slow(PEERS - 1, RATE)


def _outcome(flower: Flower, fault: str, fault_s: float, now_s: float) -> Outcome:
    found = Outcome(flower.rival.name, fault)
    after: Sequence[dict[str, Any]] = [record for record in flower.said("round") if record["at_s"] >= fault_s]
    ended = bool(flower.said("result"))
    for name in NAMES[:-1]:
        seen = steps(read_moments(flower.folder / name / STEPS_FILE), fault_s, now_s, STEP_TIME_S, ended)
        found.stalled_s[name], found.steps_lost[name] = seen.longest_s, seen.lost
        found.rounds[name] = {"good": len(after), "bad": 0}
        if not ended:
            found.unfinished.append(name)
        if after:
            found.accuracy[name], found.nan_share[name] = after[-1]["accuracy"], after[-1]["nan_share"]
    return found

"""Workers on the machines of a `NetBed`, by the lines that a user would type, and what can be seen of them meanwhile.

Every training step leaves its time in a file (a task of the bed's own around `digits`), so a test can say who stood
still, and for how long. A peer that trains alone runs beside them: what the machine's load costs shows there too.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from commands import START_S, Command, until
from net_bed import NetBed

ALONE = "alone"
"""The machine of the yardstick."""
STEPS_PER_EXCHANGE = 10
_TASK = '''
"""digits; each step of the training leaves its time in a file."""
import os
import time
from dataclasses import replace

from gossipdistill.tasks.digits import task as digits


def task(shard):
    made, log = digits(shard), open(os.environ["BED_STEPS"], "a", buffering=1)

    def loss(outputs, labels):
        if outputs.requires_grad:
            log.write(f"{time.monotonic()}\\n")
        return made.loss(outputs, labels)

    return replace(made, loss=loss)
'''


@dataclass
class Lab:
    """Peers of one roster, with keys."""

    bed: NetBed
    folder: Path
    started: Callable[..., Command]
    peers: Sequence[str]
    workers: dict[str, Command] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "paced.py").write_text(_TASK)

    def write_roster(self, hosts: dict[str, str] | None = None) -> None:
        """`lab.toml` and keys: each at port 7400 of its machine, or of the host named here; "" listens nowhere."""
        hosts = {name: self.bed.addresses.get(name, name) for name in self.peers} | (hosts or {})
        entries = [
            f'[[peer]]\nname = "{name}"\n' + (f'address = "{host}:7400"\n' if host else 'listen = "none"\n')
            for name, host in hosts.items()
        ]
        (self.folder / "lab.toml").write_text("\n".join(entries))
        keys = self.started("keys", "new", "--peers", "lab.toml")
        assert keys.end() == 0, keys.err

    # ---- starting and ending

    def start(self, name: str, *options: str) -> Command:
        """One peer of the roster on its machine."""
        return self._start(name, "--peers", "lab.toml", *options)

    def start_all(self, *options: str) -> None:
        """All peers and the yardstick; until all of them train."""
        everybody = ("--start-when", str(len(self.peers)), "--start-within", str(START_S))
        for name in self.peers:
            self.start(name, *everybody, *options)
        self.start_alone()
        self.train_on([*self.peers, ALONE], 50)

    def start_alone(self) -> None:
        """The yardstick."""
        self._start(ALONE, "--shard", "1/1", "--listen", "127.0.0.1:7400", "--strategy", "isolated")

    def _start(self, name: str, *options: str) -> Command:
        self.workers[name] = self.started(
            "worker",
            "--name",
            name,
            "--task",
            "paced:task",
            "--seconds",
            "3600",
            *options,
            env={"BED_STEPS": str(self._steps_file(name)), "OMP_NUM_THREADS": "1"},
            within=self.bed.on(name, self.folder),
        )
        return self.workers[name]

    def end_all(self) -> dict[str, dict[str, Any]]:
        """Ask all to end, as `kill` does; returns their results by name."""
        for command in self.workers.values():
            command.process.send_signal(signal.SIGTERM)
        for name, command in self.workers.items():
            assert command.end() == 128 + signal.SIGTERM, f"{name}: {command.err}"
        return {name: json.loads((self.run_folder(name) / "result.json").read_text()) for name in self.workers}

    # ---- what can be seen

    def run_folder(self, name: str) -> Path:
        return self.folder / "runs" / "first-light" / name

    def events(self, name: str) -> list[dict[str, Any]]:
        """All events of a peer so far."""
        file = self.run_folder(name) / "events.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def told(self) -> dict[str, int]:
        """How many events each peer has told by now, for `heard` and `await_event`."""
        return {name: len(self.events(name)) for name in self.workers}

    def heard(self, name: str, kind: str, since: dict[str, int]) -> set[str]:
        """About whom `name` has told events of this kind since then."""
        return {event["peer"] for event in self.events(name)[since[name] :] if event["kind"] == kind}

    def await_event(self, name: str, kind: str, about: str, since: dict[str, int], timeout_s: float = 60) -> None:
        until(lambda: about in self.heard(name, kind, since), timeout_s, f"{name} says {kind} of {about}: {self.log()}")

    def steps(self, name: str) -> list[float]:
        """When each step was, in the seconds of this machine's monotonic clock."""
        file = self._steps_file(name)
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [float(line) for line in lines if line.endswith("\n")]

    def train_on(self, names: Sequence[str], steps: int) -> None:
        """Until each of these has taken so many more steps."""
        goals = {name: len(self.steps(name)) + steps for name in names}

        def reached() -> bool:
            for name in names:
                assert self.workers[name].process.poll() is None, f"{name} has ended: {self.workers[name].err}"
            return all(len(self.steps(name)) >= goal for name, goal in goals.items())

        until(reached, START_S + steps, f"{steps} more steps of {', '.join(names)}: {self.log()}")

    def steps_between(self, name: str, from_s: float, to_s: float) -> int:
        return sum(from_s <= at_s < to_s for at_s in self.steps(name))

    def longest_pause_s(self, name: str, from_s: float, to_s: float) -> float:
        """The longest time without a step in this window, borders included."""
        times = [from_s, *(at_s for at_s in self.steps(name) if from_s < at_s < to_s), to_s]
        return max(after - before for before, after in pairwise(times))

    def assert_nobody_waited(
        self, names: Sequence[str], quiet_s: tuple[float, float], bad_s: tuple[float, float]
    ) -> None:
        """These have trained through the bad time as they did in the quiet one, as far as the machine's load let the
        peer that trains alone do so; and none stood still for as long as it takes to find somebody dead."""

        def kept(name: str) -> float:
            bad = self.steps_between(name, *bad_s) / (bad_s[1] - bad_s[0])
            return bad / (self.steps_between(name, *quiet_s) / (quiet_s[1] - quiet_s[0]))

        alone_kept, alone_pause_s = kept(ALONE), self.longest_pause_s(ALONE, *bad_s)
        for name in names:
            pause_s = self.longest_pause_s(name, *bad_s)
            figures = (
                f"{name} kept {kept(name):.3f}, alone {alone_kept:.3f}; pauses {pause_s:.2f}, {alone_pause_s:.2f} s"
            )
            assert kept(name) >= 0.9 * alone_kept, figures
            assert pause_s <= 1.0 + alone_pause_s, figures

    def log(self) -> str:
        """What all of them have said on standard error, for a failure."""
        return "\n".join(f"--- {name}\n{command.err}" for name, command in self.workers.items())

    def _steps_file(self, name: str) -> Path:
        return self.folder / f"{name}.steps"


def exchanges(results: dict[str, dict[str, Any]], sender: str, receiver: str) -> int:
    """How many versions of `sender` the learner of `receiver` has used."""
    return next((link["exchanges"] for link in results[receiver]["links"] if link["from"] == sender), 0)

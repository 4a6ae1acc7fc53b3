"""Kills at random moments, and starts again: what the six workers behind `soak.py` go through and show meanwhile."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import WorkerHandle, Workers, last_words
from benchmarks.kit.plans import plan
from benchmarks.kit.witness import MIB, Contents, Usage, contents, usage
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.durable import CheckpointFolder

PEERS = 6
STEP_TIME_S = 0.1
COMMON = (
    "task.model=mlp",
    "task.hidden=[64]",
    "task.shards=label_skew",
    "task.examples_per_peer=100",
    "exchange.every_steps=10",
    "exchange.per_second_max=0",
    "train.checkpoint_every_s=1",
)
FIRST_KILL_S = 10.0
LAST_KILL_BEFORE_END_S = 30.0
"""So that everybody is back, and has agreed with the others, when the run ends."""
RESTART_WITHIN_S = 4.0
"""Half of the killed are started again at once, the others after up to so long."""
LOOK_EVERY_S = 0.02
WEIGH_EVERY_S = 1.0
WITNESS_EVERY_S = 5.0
ENDS_WITHIN_S = 90.0


@dataclass
class Cycle:
    """One kill and the start after it. `starting`: the process that was killed had not been ready yet. `on_disk` is
    the step of the newest whole checkpoint at the kill, None without any; `resumed` the step at which the next process
    began, None when that was killed before it could say so."""

    at_s: float
    peer: str
    starting: bool
    on_disk: int | None
    resumed: int | None = None
    ready_after_s: float | None = None


@dataclass
class Seen:
    """Everything that is judged afterwards. Times in seconds since the release."""

    seconds: float
    cycles: list[Cycle] = field(default_factory=list)
    weights: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)
    folders: list[Contents] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    """Events by kind, over all peers."""
    unplanned: list[str] = field(default_factory=list)
    """Ends of processes that nobody had killed, with their last words."""
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the file of figures."""
        return asdict(self)


def kill_times_s(kills: int, seconds: float, seed: int) -> list[float]:
    """Uniformly random moments of a run, in order."""
    chance = random.Random(seed)
    return sorted(chance.uniform(FIRST_KILL_S, seconds - LAST_KILL_BEFORE_END_S) for _ in range(kills))


def newest_step(spec: WorkerSpec) -> int | None:
    """The step of the newest whole checkpoint of a peer that does not run; None without any."""
    identity = {"peer": spec.name, "task": spec.config.task.name}
    folder = CheckpointFolder(spec.folder / "checkpoints", identity)
    return folder.newest(lambda saved: int(saved.content["progress"]["step"]))[0]


@dataclass
class Soak:
    """Six workers under kills. All but the last may be killed; the last one is watched instead."""

    specs: Sequence[WorkerSpec]
    kills_s: Sequence[float]
    seconds: float
    seed: int
    say: Callable[[str], None]
    down_max: int = PEERS - 1
    """Where so many are down or starting, only those that start are killed."""
    seen: Seen = field(init=False)
    _began_s: float = 0.0
    _open: dict[str, Cycle] = field(default_factory=dict)
    """Of each peer that has been killed: the cycle whose new process is not ready yet."""
    _restart_s: dict[str, float] = field(default_factory=dict)
    """When the processes that are down are started again."""

    def __post_init__(self) -> None:
        self.seen = Seen(self.seconds)

    @property
    def _by_name(self) -> dict[str, WorkerSpec]:
        return {spec.name: spec for spec in self.specs}

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def run(self, workers: Workers) -> Seen:
        """Start, kill, start again, and collect the results at the end."""
        workers.start_all(self.specs)
        self._began_s = time.monotonic()
        chance = random.Random(self.seed + 1)
        kills, weigh_s, witness_s, say_s = list(self.kills_s), 0.0, 0.0, 60.0
        while (now := self._now_s()) < self.seconds:
            if kills and now >= kills[0] and self._kill_one(workers, chance):
                kills.pop(0)
            self._start_and_release(workers)
            if now >= weigh_s:
                weigh_s = now + WEIGH_EVERY_S
                self._weigh(workers)
            if now >= witness_s:
                witness_s = now + WITNESS_EVERY_S
                self._witness(workers)
            if now >= say_s:
                say_s += 60.0
                self.say(self._line(now))
            time.sleep(LOOK_EVERY_S)
        workers.wait(lambda: all(h.ended_s is not None for h in workers.handles.values()), ENDS_WITHIN_S)
        self._collect(workers)
        return self.seen

    # --- killing and starting ------------------------------------------------------------------------------------

    def _kill_one(self, workers: Workers, chance: random.Random) -> bool:
        """Kill a random one of those that run, in whatever it is doing; False while none does."""
        mortal = [spec.name for spec in self.specs[:-1]]
        running = [
            name for name in mortal if name not in self._restart_s and workers.handles[name].process.poll() is None
        ]
        training = [name for name in running if workers.handles[name].released]
        enough = len(mortal) - len(training) >= self.down_max
        candidates = [name for name in running if not (enough and name in training)]
        if not candidates:
            return False
        name = chance.choice(candidates)
        handle = workers.handles[name]
        handle.process.kill()
        handle.process.wait()
        _close(handle)
        now = self._now_s()
        starting = not handle.released
        self._open[name] = Cycle(now, name, starting, newest_step(self._by_name[name]))
        self.seen.cycles.append(self._open[name])
        at_once = chance.random() < 0.5
        self._restart_s[name] = now + (0.0 if at_once else chance.uniform(0.0, RESTART_WITHIN_S))
        return True

    def _start_and_release(self, workers: Workers) -> None:
        now = self._now_s()
        for name in [name for name, due_s in self._restart_s.items() if now >= due_s]:
            del self._restart_s[name]
            workers.start(replace(self._by_name[name], resume=True))
        for name, handle in list(workers.handles.items()):
            handle.samples.clear()
            if name in self._restart_s:
                continue
            if handle.process.poll() is not None:
                self.seen.unplanned.append(f"{name} (exit code {handle.process.returncode}){last_words(handle)}")
                _close(handle)
                workers.start(replace(self._by_name[name], resume=True))
            elif handle.ready_s is not None and not handle.released:
                workers.release(handle, now)
                cycle = self._open.pop(name, None)
                if cycle is not None:
                    cycle.resumed = int(handle.ready["step"])
                    cycle.ready_after_s = handle.ready_s - handle.spawned_s

    # --- looking -------------------------------------------------------------------------------------------------

    def _weigh(self, workers: Workers) -> None:
        held = {
            name: float(handle.progress["weight"])
            for name, handle in workers.handles.items()
            if name not in self._restart_s and handle.progress and handle.process.poll() is None
        }
        self.seen.weights.append((self._now_s(), held))

    def _witness(self, workers: Workers) -> None:
        now = self._now_s()
        found = usage(workers.handles[self.specs[-1].name].process.pid, now)
        if found is not None:
            self.seen.usages.append(found)
        self.seen.folders.append(contents(self.specs[0].folder.parent, now))

    def _line(self, now: float) -> str:
        resident = self.seen.usages[-1].resident_bytes / MIB if self.seen.usages else 0.0
        held = self.seen.weights[-1][1]
        return (
            f"{now:5.0f} s  {len(self.seen.cycles)} kills, {sum(c.starting for c in self.seen.cycles)} of them while "
            f"starting; {len(held)} live, weights add up to {sum(held.values()):.2f}; {self.specs[-1].name} has "
            f"{resident:.1f} MiB, {self.seen.usages[-1].descriptors} descriptors"
        )

    def _collect(self, workers: Workers) -> None:
        self.seen.told = dict(Counter(said.kind for said in workers.said))
        for name, handle in workers.handles.items():
            path = self._by_name[name].folder / "result.json"
            if path.exists():
                self.seen.results[name] = json.loads(path.read_text())
            if handle.process.poll() is None:
                self.seen.unplanned.append(f"{name} had not ended {ENDS_WITHIN_S:.0f} s after the end")
            elif handle.process.returncode:
                self.seen.unplanned.append(f"{name} (exit code {handle.process.returncode}){last_words(handle)}")


def _close(handle: WorkerHandle) -> None:
    assert handle.process.stdin is not None
    handle.process.stdin.close()


def specs_of(folder: Path, seed: int, settings: Sequence[str]) -> list[WorkerSpec]:
    """Six workers that average their weights by push-sum."""
    return plan(folder, "sgp", "one_peer_exponential", [*COMMON, f"seed={seed}", *settings], peers=PEERS)


def soak(
    folder: Path, kills: int, seconds: float, seed: int, say: Callable[[str], None], down_max: int = PEERS - 1
) -> Seen:
    """One run under kills."""
    settings = [f"train.step_time_s={STEP_TIME_S}", f"seconds={seconds}"]
    run = Soak(specs_of(folder, seed, settings), kill_times_s(kills, seconds, seed), seconds, seed, say, down_max)
    with Workers() as workers:
        return run.run(workers)


def undisturbed(folder: Path, steps: int, seed: int) -> dict[str, dict[str, Any]]:
    """The results of a run of so many steps that nothing happens to, at a quicker pace: exchanges go by steps."""
    specs = specs_of(folder, seed, ["train.step_time_s=0.005", f"steps={steps}", "train.checkpoint_every_s=0"])
    with Workers() as workers:
        workers.start_all(specs)
        names = [spec.name for spec in specs]
        workers.wait(lambda: all(workers.handles[name].ended_s is not None for name in names), 1800.0)
    return {spec.name: json.loads((spec.folder / "result.json").read_text()) for spec in specs}

"""Two real workers that train and exchange, and a rogue in a process of its own that attacks one of them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import Workers
from benchmarks.kit.series import rates
from benchmarks.rogues.cast import CAST, Rogue, Target
from benchmarks.rogues.floods import FLOODS
from benchmarks.rogues.insiders import INSIDERS
from gossipdistill.config.plan import Asked, plan_local
from gossipdistill.keys import issuing
from gossipdistill.keys.choice import KeyFiles
from gossipdistill.keys.secrets import read_secret
from gossipdistill.machine.listening import free_ports
from gossipdistill.presence import Address

PEERS, SEATS = ("ada", "bo"), ("ada", "bo", "eve", "mallory")
"""Who trains, and who is in the roster: eve takes part in her own way, and mallory's key is revoked."""
STEP_S = 0.02
ROGUES: dict[str, type[Rogue]] = {**CAST, **FLOODS, **INSIDERS}
KEYED_ALONE = frozenset({"wrong key", "revoked key on an open connection"})
"""They mean nothing in a run without keys."""
ENDED_WITHIN_S = 5.0
_HONEST = frozenset({"started", "joined", "view", "left", "donor_passed_over", "not_adopted", "finished", "checkpoint"})
"""Kinds of events that are seen without any rogue."""


@dataclass
class Seen:
    """What became of the two workers in one trial."""

    pace: float
    """Of the attacked, to that before; as the next."""
    pace_of_the_other: float
    exchanges: float
    grown_bytes: int
    applied: int
    """Parcels in a rogue's name that were used, of all its peers."""
    exit_codes: list[int | None]
    ended_within_s: float
    loss: float | None
    accuracy: float | None
    told: dict[str, int]
    """Events by kind that the user of the attacked worker saw, and what stands in its result."""
    done: dict[str, int]
    figures: dict[str, Any] = field(default_factory=dict)


def trial(name: str | None, keyed: bool, seconds: float, folder: Path) -> Seen:
    """One rogue, or nobody, against fresh workers: a quiet window, then an attack of the same length, then SIGTERM."""
    rogue = ROGUES.get(name or "")
    strategy = getattr(rogue, "strategy", "gossip_averaging")
    places = {seat: (place, port) for place, (seat, port) in enumerate(free_ports(SEATS, "127.0.0.1", set()).items())}
    roster = _roster(folder, places, keyed)
    with Workers() as workers:
        workers.start_all(_specs(folder, roster, strategy, keyed))
        ada = workers.handles["ada"]
        workers.wait(lambda: bool(ada.progress.get("links", {}).get("bo")), 20.0)
        target = replace(_target(folder, places, keyed), fingerprint=ada.ready["fingerprint"])
        villain = Villain(name, target) if name else None
        try:
            if name and name.startswith("revoked"):
                issuing.revoke(roster, "mallory")
            before = _Window(workers, seconds)
            if villain is not None:
                villain.act(seconds)
            during = _Window(workers, seconds)
            done = villain.end() if villain is not None else {}
        finally:
            if villain is not None:
                villain.end()
        asked_s = time.monotonic()
        for peer in PEERS:
            workers.signal(peer, signal.SIGTERM)
        workers.wait(lambda: all(one.ended_s is not None for one in workers.handles.values()), 2 * ENDED_WITHIN_S)
        ended_s = max(one.ended_s or float("inf") for one in workers.handles.values()) - asked_s
        return _seen(workers, before, during, done, ended_s)


class _Window:
    """A stretch of time in which the workers are watched."""

    def __init__(self, workers: Workers, seconds: float) -> None:
        self.from_s = time.monotonic()
        self.resident_max = 0
        statm = Path(f"/proc/{workers.handles['ada'].process.pid}/statm")
        while time.monotonic() - self.from_s < seconds:
            with contextlib.suppress(OSError, IndexError):
                self.resident_max = max(self.resident_max, 4096 * int(statm.read_text().split()[1]))
            time.sleep(0.05)
        self.to_s = time.monotonic()


def _seen(workers: Workers, before: _Window, during: _Window, done: dict[str, int], ended_s: float) -> Seen:
    figures: dict[str, Any] = {}
    for peer in PEERS:
        for when, window in ("before", before), ("during", during):
            found = rates(workers.handles[peer].samples, window.from_s, window.to_s)
            figures[f"{peer} {when}"] = {"steps_per_s": found.steps_per_s, **found.exchanges_per_s}

    def ratio(of: str, others: tuple[str, ...]) -> float:
        now, usual = (sum(figures[f"{peer} {when}"].get(of, 0.0) for peer in others) for when in ("during", "before"))
        return now / usual if usual else float("nan")

    both = [(peer, other) for peer, other in (PEERS, PEERS[::-1])]
    now, usual = (sum(figures[f"{p} {when}"].get(o, 0.0) for p, o in both) for when in ("during", "before"))
    links = [workers.handles[peer].progress.get("links", {}) for peer in PEERS]
    result = _result(workers.handles["ada"].spec.folder)
    told = Counter(said.kind for said in workers.said if said.by == "ada" and said.kind not in _HONEST)
    told.update({f"in the result: {line}": 1 for line in result.get("troubles", [])})
    return Seen(
        pace=ratio("steps_per_s", ("ada",)),
        pace_of_the_other=ratio("steps_per_s", ("bo",)),
        exchanges=now / usual if usual else float("nan"),
        grown_bytes=during.resident_max - before.resident_max,
        applied=sum(of.get(rogue, 0) for of in links for rogue in ("eve", "mallory")),
        exit_codes=[workers.handles[peer].process.poll() for peer in PEERS],
        ended_within_s=ended_s,
        loss=result.get("val_loss"),
        accuracy=result.get("val_accuracy"),
        told=dict(told),
        done=done,
        figures=figures,
    )


def _result(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return found
    return {}


def _roster(folder: Path, places: dict[str, tuple[int, int]], keyed: bool) -> Path:
    file = folder / "lab.toml"
    entries = [f'[[peer]]\nname = "{seat}"\naddress = "127.0.0.1:{port}"\n' for seat, (_, port) in places.items()]
    file.write_text("\n".join(entries))
    if keyed:
        issuing.new(file, folder=folder / "keys")
    return file


def _specs(folder: Path, roster: Path, strategy: str, keyed: bool) -> list[Any]:
    asked = Asked(
        peers=str(roster),
        topology="complete",
        task="digits",
        strategy=strategy,
        seconds=3600.0,
        seed=0,
        device="cpu",
        settings=("train.threads=1", f"train.step_time_s={STEP_S}", "linger_s=1"),
        out=folder / "runs",
    )
    specs = [spec for spec in plan_local(asked) if spec.name in PEERS]
    if not keyed:
        return specs
    return [replace(spec, keys=KeyFiles(folder / "keys" / f"{spec.name}.secret", roster)) for spec in specs]


def _target(folder: Path, places: dict[str, tuple[int, int]], keyed: bool) -> Target:
    pairs = {seat: read_secret(folder / "keys" / f"{seat}.secret") for seat in SEATS} if keyed else {}
    keys = {seat: (pair.public.encode(), pair.secret.encode()) for seat, pair in pairs.items()}
    rogues = {seat: pair for seat, pair in keys.items() if seat not in PEERS}
    seats = {seat: (place, Address("127.0.0.1", port)) for seat, (place, port) in places.items()}
    return Target("ada", "127.0.0.1", places["ada"][1], keys["ada"][0] if keyed else b"", rogues, places=seats)


class Villain:
    """The process of a rogue, as its parent sees it."""

    def __init__(self, name: str, target: Target) -> None:
        context = multiprocessing.get_context("fork")  # light: torch is imported here already
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(theirs, name, target))
        self._process.start()
        assert self._pipe.poll(300), "a rogue has not prepared"
        self._pipe.recv()

    def act(self, seconds: float) -> None:
        """Begin."""
        self._pipe.send(seconds)

    def end(self) -> dict[str, int]:
        """What it has done."""
        done: dict[str, int] = {}
        with contextlib.suppress(EOFError):  # told already
            done = self._pipe.recv() if self._pipe.poll(60) else {}
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        return done


def _play(pipe: Connection, name: str, target: Target) -> None:
    rogue: Any = ROGUES[name](target)
    rogue.prepare()
    pipe.send("ready")
    while not pipe.poll(0.02):
        rogue.idle()
    seconds = pipe.recv()
    rogue.done.clear()
    rogue.act(time.monotonic() + seconds)
    pipe.send(rogue.done)

"""Four workers of ours, and what happens to one of them: one run behind `survival.py`."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.kit.launcher import WorkerHandle, Workers, last_words
from benchmarks.kit.namespaces import Namespaces
from benchmarks.kit.plans import plan
from benchmarks.kit.series import rates
from benchmarks.kit.stalls import quantile, read_moments, steps
from benchmarks.kit.timed_worker import ASTRAY_FILE, STEPS_FILE
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.faults import FaultPlan
from gossipdistill.keys import issuing
from gossipdistill.keys.choice import KeyFiles
from gossipdistill.presence import Address

NONE, AGAIN, KILL, STOP, CUT, SLOW = "nothing", "nothing, again", "SIGKILL", "SIGSTOP", "partition", "20 Mbit/s"
FAULTS = (KILL, STOP, CUT, SLOW)
PEERS = 4
PORT = 7400
STEP_TIME_S = 0.02
RATE, RATE_BYTES_PER_S = "20mbit", 2_500_000
COMMON = (
    "task.model=mlp",
    "task.hidden=[512, 512]",
    "task.shards=disjoint",
    "task.examples_per_peer=200",
    "train.batch_size=32",
    f"train.step_time_s={STEP_TIME_S}",
    "train.checkpoint_every_s=0",
    "exchange.every_steps=10",
    "exchange.per_second_max=0",
    "linger_s=1",
)
ENDS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds since the release: the fault comes at `fault_s` and goes at `heal_s`; then training goes on to `end_s`,
    at the usual pace. Everybody makes the same number of steps."""

    fault_s: float = 4.0
    heal_s: float = 12.0
    end_s: float = 13.0

    @property
    def step_count(self) -> int:
        """Of each worker."""
        return round(self.end_s / STEP_TIME_S)


def specs_of(folder: Path, strategy: str, seed: int, times: Times, namespaces: Namespaces | None) -> list[WorkerSpec]:
    """Four workers on loopback ports, or in namespaces."""
    settings = [*COMMON, f"seed={seed}", f"steps={times.step_count}"]
    specs = plan(folder, strategy, "complete", settings, peers=PEERS)
    if namespaces is None:
        return specs
    places = tuple(Address(address, PORT) for address in namespaces.addresses)
    return [
        replace(spec, listen=place, advertise=place, addresses=places)
        for spec, place in zip(specs, places, strict=True)
    ]


def with_keys(folder: Path, specs: Sequence[WorkerSpec]) -> list[WorkerSpec]:
    """The same workers, encrypted and authenticated."""
    folder.mkdir(parents=True, exist_ok=True)
    roster = folder / "roster.toml"
    entries = [f'[[peer]]\nname = "{spec.name}"\naddress = "{spec.listen}"\n' for spec in specs]
    roster.write_text("\n".join(entries))
    issuing.new(roster, folder=folder / "keys")
    return [replace(spec, keys=KeyFiles(folder / "keys" / f"{spec.name}.secret", roster)) for spec in specs]


def _planned(specs: Sequence[WorkerSpec], fault: str, times: Times) -> list[WorkerSpec]:
    """A fault of links, done by the driver itself, where there are no namespaces."""
    touched = specs[-1].name
    window: dict[str, Any] = {"from_s": times.fault_s, "to_s": times.heal_s}
    if fault == CUT:
        entry = window | {"kind": "partition", "groups": [[spec.name for spec in specs[:-1]], [touched]]}
    elif fault == SLOW:
        entry = window | {"kind": "rate_limit", "peer": touched, "bytes_per_s": RATE_BYTES_PER_S}
    else:
        return list(specs)
    faults = FaultPlan.model_validate({"name": "survival", "fault": [entry]})
    return [replace(spec, faults=faults) for spec in specs]


def run_ours(
    strategy: str, fault: str, seed: int, times: Times, secured: bool, with_namespaces: bool
) -> dict[str, Any]:
    """One run: figures of the three to whom nothing happens, in the window of the fault."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="survival-")))
        namespaces = stack.enter_context(Namespaces(PEERS)) if with_namespaces else None
        specs = specs_of(folder, strategy, seed, times, namespaces)
        if secured:
            specs = with_keys(folder, specs)
        if namespaces is None:
            specs = _planned(specs, fault, times)
        inside = {} if namespaces is None else {s.name: namespaces.inside(place) for place, s in enumerate(specs)}
        workers = stack.enter_context(Workers(module="benchmarks.kit.timed_worker", inside=inside))
        workers.start_all(specs)
        began_s = time.monotonic()
        _sleep_until(began_s + times.fault_s)
        fault_s = time.monotonic()
        _inflict(fault, workers, specs[-1].name, namespaces)
        _sleep_until(began_s + times.heal_s)
        heal_s = time.monotonic()
        if fault != KILL:
            _undo(fault, workers, specs[-1].name, namespaces)
        survivors = [workers.handles[spec.name] for spec in specs[:-1]]
        workers.wait(lambda: all(_result(handle) is not None for handle in survivors), ENDS_WITHIN_S)
        return _figures(survivors, fault_s, heal_s)


def _inflict(fault: str, workers: Workers, name: str, namespaces: Namespaces | None) -> None:
    if fault == KILL:
        workers.signal(name, signal.SIGKILL)
    elif fault == STOP:
        workers.signal(name, signal.SIGSTOP)
    elif fault == CUT and namespaces is not None:
        namespaces.cut(PEERS - 1)
    elif fault == SLOW and namespaces is not None:
        namespaces.slow(PEERS - 1, RATE)


def _undo(fault: str, workers: Workers, name: str, namespaces: Namespaces | None) -> None:
    if fault == STOP:
        workers.signal(name, signal.SIGCONT)
    elif fault in (CUT, SLOW) and namespaces is not None:
        namespaces.heal(PEERS - 1)


def _sleep_until(at_s: float) -> None:
    time.sleep(max(at_s - time.monotonic(), 0.0))


def _result(handle: WorkerHandle) -> dict[str, Any] | None:
    """What a worker has come to, once its training is over."""
    ended = [record["result"] for record in handle.records if record.get("type") in ("done", "result")]
    return ended[-1] if ended else None


def _figures(survivors: Sequence[WorkerHandle], fault_s: float, heal_s: float) -> dict[str, Any]:
    names = [handle.spec.name for handle in survivors]
    each: dict[str, Any] = {}
    took: list[float] = []
    pairs: dict[str, float] = {}
    for handle in survivors:
        moments = read_moments(handle.spec.folder / STEPS_FILE)
        each[handle.spec.name] = asdict(steps(moments, fault_s, heal_s, STEP_TIME_S))
        inside = [at_s for at_s in moments if fault_s <= at_s <= heal_s]
        took += [later - earlier for earlier, later in pairwise(inside)]
        per_s = rates(handle.samples, fault_s, heal_s).exchanges_per_s
        pairs |= {f"{sender} > {handle.spec.name}": rate for sender, rate in per_s.items() if sender in names}
    results = [_result(handle) for handle in survivors]
    ended = [
        f"{handle.spec.name}{last_words(handle)}" for handle, one in zip(survivors, results, strict=True) if not one
    ]
    return {
        "steps": each,
        "p99_s": quantile(took, 0.99) if took else None,
        "median_s": quantile(took, 0.5) if took else None,
        "exchanges_per_s": pairs,
        "accuracy": [one["val_accuracy"] for one in results if one is not None],
        "steps_made": [one["steps"] for one in results if one is not None],
        "without_result": ended,
    }


def run_nan(strategy: str, times: Times) -> dict[str, Any]:
    """One of four sends NaN in everything from a third of the run on: what the others made of it."""
    with tempfile.TemporaryDirectory(prefix="survival-") as name:
        specs = specs_of(Path(name), strategy, 0, times, None)
        orphans = specs[-1].folder
        orphans.mkdir(parents=True)
        from_step = times.step_count // 3
        (orphans / ASTRAY_FILE).write_text(json.dumps({"nan_from_step": from_step}))
        with Workers(module="benchmarks.kit.timed_worker") as workers:
            workers.start_all(specs)
            survivors = [workers.handles[spec.name] for spec in specs[:-1]]
            workers.wait(lambda: all(_result(h) is not None for h in survivors), times.end_s + ENDS_WITHIN_S)
            results = {handle.spec.name: _result(handle) or {} for handle in survivors}
            sent = [said.line for said in workers.said if said.kind == "quarantined"]
    return {
        "quarantined": {name: result.get("quarantined") for name, result in results.items()},
        "events": sent,
        "accuracy": {name: result.get("val_accuracy") for name, result in results.items()},
        "val_loss": {name: result.get("val_loss") for name, result in results.items()},
    }

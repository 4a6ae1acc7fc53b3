"""What each strategy's training comes to, bit for bit: a few steps of a few peers in virtual time, by seed.

`all_reduce` has a transport of its own, which is not simulated: it trains in two processes.

Kernels differ from one processor to another, and with them the last bits. So a recording is taken with those of
`KERNELS`. With another release of torch or on another kind of machine only the first digits of losses are compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file

from benchmarks.recordings.commands import workers
from gossipdistill.config.plan import Asked
from gossipdistill.errors import GossipdistillError
from gossipdistill.learning.flat import flat_parameters
from gossipdistill.simulation.run import Simulation, plan_simulation
from gossipdistill.strategies import STRATEGIES

FILE = "losses.json"
TASKS = ("quadratic", "digits")
COLLECTIVE = "all_reduce"
PEERS, STEPS, SEED = 3, 12, 7
CLOSE = 1e-3
"""Relative, of losses by other kernels."""
SETTINGS = ("exchange.every_steps=2", "exchange.per_second_max=0")
_OPTIONS = {"concurrent_adversarial": ('strategy.helpers=["ada", "bo", "cy"]', 'task.shards="same"')}
_SHOWN = 5
_NO_RANGE = 1e-9


def taken(folder: Path, strategies: Iterable[str] = STRATEGIES) -> dict[str, Any]:
    """`{"kernels": ..., "figures": {task: {strategy: ...}}}`; `folder` is an empty one."""
    wanted = list(strategies)
    figures: dict[str, dict[str, Any]] = {task: {} for task in TASKS}
    if COLLECTIVE in wanted:  # first, since it forks
        for task in TASKS:
            figures[task][COLLECTIVE] = collective(task, folder / COLLECTIVE / task)
    for task in TASKS:
        figures[task] |= {name: simulated(name, task, folder) for name in wanted if name != COLLECTIVE}
    return {"kernels": kernels(), "figures": figures}


def simulated(strategy: str, task: str, out: Path) -> dict[str, Any]:
    """One short run; `refused` is the exit code where strategy and task do not fit."""
    asked = Asked(
        peers=str(PEERS),
        task=task,
        strategy=strategy,
        steps=STEPS,
        seed=SEED,
        out=out,
        topology="complete",
        settings=(*SETTINGS, *_OPTIONS.get(strategy, ())),
    )
    try:
        run = Simulation(plan_simulation(asked))
        code = run.run()
    except GossipdistillError as error:
        return {"refused": error.exit_code}
    losses = [loss for loss in run.curve.loss if loss is not None]
    peers = {}
    for name, host in sorted(run.world.hosts.items()):
        worker = host.stepper.worker
        model = flat_parameters(worker.learner.model).contiguous().numpy().tobytes()
        peers[name] = [worker.task_loss.hex(), hashlib.blake2b(model, digest_size=8).hexdigest()]
    return {"code": code, "loss": [loss.hex() for loss in losses[:: len(losses) // _SHOWN]], "peers": peers}


def collective(task: str, folder: Path) -> dict[str, Any]:
    """`all_reduce` in two processes: validation loss and model of each, from the files that they leave."""
    names = ("ada", "bo")
    settings = [f"strategy.rendezvous=file://{folder}/meeting", "train.checkpoints_kept=1"]
    options = [word for one in settings for word in ("--set", one)]
    workers(folder, names, "--strategy", COLLECTIVE, "--task", task, "--steps", str(STEPS), *options)
    peers = {}
    for name in names:
        left = folder / "runs/first-light" / name
        (checkpoint,) = (left / "checkpoints").glob("*.safetensors")
        arrays = {key: value for key, value in load_file(checkpoint).items() if key.startswith("model.")}
        model = b"".join(arrays[key].tobytes() for key in sorted(arrays))
        loss = float(json.loads((left / "result.json").read_text())["val_loss"])
        peers[name] = [loss.hex(), hashlib.blake2b(model, digest_size=8).hexdigest()]
    return {"peers": peers}


def kernels() -> list[str]:
    """What the last bits depend on."""
    return [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()]


def differences(recorded: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Which runs are not as recorded."""
    exact = recorded["kernels"] == found["kernels"]
    out = []
    for task, strategies in found["figures"].items():
        for name, figures in strategies.items():
            before = recorded["figures"].get(task, {}).get(name)
            same = before == figures if exact else before is not None and _close(before, figures)
            if not same:
                out.append(f"{name} on {task} comes to {figures}, and was {before}")
    return out


def _close(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether these differ in the last digits of their losses alone."""
    if before.keys() != after.keys() or "refused" in before:
        return before == after
    one, other = (
        [*figures.get("loss", ()), *(loss for loss, _ in figures["peers"].values())] for figures in (before, after)
    )
    pairs = zip(map(float.fromhex, one), map(float.fromhex, other), strict=True)
    return all(math.isclose(mine, theirs, rel_tol=CLOSE, abs_tol=_NO_RANGE) for mine, theirs in pairs)

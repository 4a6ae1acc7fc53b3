"""Before any process is started: a user's mistakes are found here, in a second and with one line, not four times over.

It also brings a data set into the cache once, with its progress bar on the user's terminal; otherwise each local peer
would fetch it for itself.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gossipdistill.errors import NeedsError
from gossipdistill.launch.building import build_model, build_schedule, build_task
from gossipdistill.launch.environment import choose_device
from gossipdistill.launch.publishing import refuse_unsendable
from gossipdistill.launch.spec import WorkerSpec
from gossipdistill.learning.snapshot import architecture_hash


@dataclass(frozen=True)
class Findings:
    """What the preflight learns on the way, for the head of a table."""

    examples_per_peer: int
    transfer_examples: int
    classes: bool


@dataclass(frozen=True)
class _Model:
    peer: str
    architecture: str
    parameters: int


def check(specs: Sequence[WorkerSpec]) -> Findings:
    """Build schedule, task and model of each kind of peer once, and throw them away.

    Raises:
        GossipdistillError: what a worker would have said.
    """
    findings: Findings | None = None
    models: list[_Model] = []
    seen: set[str] = set()
    with contextlib.redirect_stdout(sys.stderr):  # a user's task may print; standard output is for results
        for spec in specs:
            choose_device(spec.device, spec.place)
            config = spec.config.model_dump(mode="json")
            kind = json.dumps([config[part] for part in ("task", "topology", "strategy", "exchange")])
            if kind in seen:
                continue
            seen.add(kind)
            strategy = spec.config.make_strategy()
            build_schedule(spec, strategy)
            task = build_task(spec, strategy)
            model = build_model(spec, strategy, task)
            refuse_unsendable(spec, strategy, task, model)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            models.append(_Model(spec.name, architecture_hash(model), parameters))
            transfer = len(task.transfer) if task.transfer is not None else 0
            findings = findings or Findings(len(task.train[0]), transfer, task.distillable)
    if strategy_needs_alike(specs):
        refuse_unlike(specs[0].config.strategy.name, models)
    assert findings is not None
    return findings


def strategy_needs_alike(specs: Sequence[WorkerSpec]) -> bool:
    """Whether weights travel, so that all models must be of one shape."""
    return specs[0].config.strategy_class().needs.alike_models


def refuse_unlike(strategy: str, models: Sequence[_Model]) -> None:
    """Name two peers with different models."""
    first = models[0]
    for other in models[1:]:
        if other.architecture != first.architecture:
            raise NeedsError(
                f"strategy {strategy} needs the same model on all peers; those of {first.peer} and {other.peer} differ "
                f"({first.parameters} and {other.parameters} parameters). Give all the same task.model "
                "(--set task.model=mlp), or use codistill_predictions"
            )

"""Finds a user's mistakes before any process is started: within a second, and reported once instead of by each peer.

It also downloads a data set into the cache once, with a progress bar on the user's terminal. Otherwise each local peer
would download it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from gossipdistill.assembly.publishing import refuse_unsendable
from gossipdistill.assembly.worker import Parts
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.config.threads import told
from gossipdistill.errors import NeedsError
from gossipdistill.learning.snapshot import architecture_hash
from gossipdistill.machine.devices import choose_device
from gossipdistill.observe.dealt import data_words
from gossipdistill.observe.records import ExamplesRecord
from gossipdistill.runtime.aside import aside


@dataclass(frozen=True)
class Findings:
    """Facts that the preflight finds, for the head of a table."""

    examples: ExamplesRecord
    """The examples of the first peer, as in its `result.json`."""
    classes: bool


@dataclass(frozen=True)
class _Model:
    peer: str
    architecture: str
    parameters: int


def check(specs: Sequence[WorkerSpec]) -> Findings:
    """Build schedule, task, model and optimizer of each kind of peer once, and discard them.

    Raises:
        GossipdistillError: the error that a worker would have reported.
    """
    findings: Findings | None = None
    models: list[_Model] = []
    seen: set[str] = set()
    with aside():
        for spec in specs:
            choose_device(spec.device, spec.place)
            config = spec.config.model_dump(mode="json")
            kind = json.dumps([config[part] for part in ("task", "topology", "strategy", "exchange", "train")])
            if kind in seen:
                continue
            seen.add(kind)
            parts = Parts.of(spec)
            task, model = parts.task, parts.learner.model
            refuse_unsendable(spec, parts.strategy, task, model)
            parameters = sum(parameter.numel() for parameter in model.parameters())
            models.append(_Model(spec.name, architecture_hash(model), parameters))
            findings = findings or Findings(ExamplesRecord.model_validate(task.examples()), task.distillable)
    if strategy_needs_alike(specs):
        refuse_unlike(specs[0].config.strategy.name, models)
    assert findings is not None
    return findings


def title_of(specs: Sequence[WorkerSpec], findings: Findings) -> str:
    """One line above the live display: the run, its data and its threads."""
    first, config = specs[0], specs[0].config
    peers = f"{len(specs)} peer{'s' * (len(specs) > 1)}"
    parts = [f"{first.folder.parent.name}: {config.strategy.name} on {config.task.name}, {peers}"]
    if first.faults is not None:
        parts[0] += f", under {first.faults.name}"
    classes = config.task.classes_per_peer if findings.classes else None
    parts.append(data_words([findings.examples], config.task.shards, classes))
    if config.train.step_time_s:
        parts.append(f"steps padded to {1000 * config.train.step_time_s:g} ms")
    counts = sorted({spec.threads for spec in specs})
    parts.append(told(counts[0]) + " each" if len(counts) == 1 else f"{counts[0]} to {told(counts[-1])}")
    return "; ".join(parts)


def strategy_needs_alike(specs: Sequence[WorkerSpec]) -> bool:
    """Whether weights are sent, so that all models must have the same shape."""
    return specs[0].config.strategy_class().needs.alike_models


def refuse_unlike(strategy: str, models: Sequence[_Model]) -> None:
    """Raise an error that names two peers with different models, if there are such."""
    first = models[0]
    for other in models[1:]:
        if other.architecture != first.architecture:
            raise NeedsError(
                f"strategy {strategy} needs the same model on all peers; those of {first.peer} and {other.peer} differ "
                f"({first.parameters} and {other.parameters} parameters). Give all the same task.model "
                "(--set task.model=mlp), or use codistill_predictions"
            )

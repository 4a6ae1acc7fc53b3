"""The policies that tell a launcher when the training of a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import ConfigError, NeedsError
from gossipdistill.events import EventKind
from gossipdistill.launchers.processes import Child
from gossipdistill.observe.told import Happened, Told
from gossipdistill.strategies import Delivery


class Beginning(Protocol):
    """Says when the workers of a launcher may train."""

    def spec_of(self, spec: WorkerSpec, restarts: int) -> WorkerSpec:
        """The specification with which this process starts."""

    def is_due(self, living: Sequence[Child], record: Told | None) -> bool:
        """Whether training begins now, after one of them sent `record`, or ended (None).

        Raises:
            GossipdistillError: when these peers would refuse one another.
        """


class Together:
    """All begin at once, as soon as every living worker is ready. A worker that was killed is not waited for."""

    def spec_of(self, spec: WorkerSpec, restarts: int) -> WorkerSpec:
        """Unchanged."""
        return spec

    def is_due(self, living: Sequence[Child], record: Told | None) -> bool:
        """Whether all are ready. If peers would refuse one another, the run ends before any of them trains."""
        if not living or any(child.ready is None for child in living):
            return False
        refuse_differences(living)
        return True


class ByItself:
    """One worker begins by itself once the peers that `--start-when` asks for are there; after a restart, at once."""

    def spec_of(self, spec: WorkerSpec, restarts: int) -> WorkerSpec:
        """A restarted worker waits for no other."""
        return replace(spec, start_when=1) if restarts else spec

    def is_due(self, living: Sequence[Child], record: Told | None) -> bool:
        """Whether the worker reports that it has begun."""
        return isinstance(record, Happened) and record.kind == EventKind.STARTED


def refuse_differences(living: Sequence[Child]) -> None:
    """Compare the fingerprints and the steps of ready workers.

    Raises:
        NeedsError, ConfigError: naming two peers and what differs.
    """
    first, *others = living
    assert first.ready is not None
    for other in others:
        assert other.ready is not None
        mine, theirs = first.ready.fingerprint, other.ready.fingerprint
        names, strategy = f"{first.spec.name} and {other.spec.name}", first.spec.config.strategy_class()
        for key in sorted(set(mine) | set(theirs)):
            if mine.get(key) == theirs.get(key):
                continue
            if key in ("model", "initial weights"):
                counts = f"{first.ready.parameters} and {other.ready.parameters} parameters"
                raise NeedsError(
                    f"strategy {strategy.name} needs the same {key} on all peers; {names} differ ({counts}). Give all "
                    "the same task.model, or use codistill_predictions"
                )
            raise ConfigError(f"{names} differ in {key}: {mine.get(key)} and {theirs.get(key)}")
        if strategy.delivery is Delivery.COLLECTIVE and first.ready.step != other.ready.step:
            raise ConfigError(
                f"{strategy.name} goes in step, and the checkpoints of {names} are at steps {first.ready.step} and "
                f"{other.ready.step}; begin anew, without --resume"
            )

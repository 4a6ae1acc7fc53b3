"""Resumes a worker process from its newest usable checkpoint, with the current settings.

The current settings take precedence. Where they differ from those with which the checkpoint was written, one line
reports it. A checkpoint of release 0.1 does not contain its settings: then lr, momentum, weight decay and the options
that the user gives are compared with the saved groups of the optimizer, and the rest of the groups stays as saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossipdistill.config.layers import Resolved
from gossipdistill.config.schema import RunConfig
from gossipdistill.config.tables import flatten
from gossipdistill.durable import CheckpointFolder, Refusal, RefusedCheckpointError, Saved
from gossipdistill.errors import ConfigError
from gossipdistill.events import Event, EventKind
from gossipdistill.files import is_folder, is_there
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.hyperparameters import Change
from gossipdistill.learning.learner import Learner

_KEYS = {"lr": "train.lr", "momentum": "train.momentum", "weight_decay": "train.weight_decay"}
"""The names of values in an optimizer's groups, with the configuration keys that set them."""
_OPTIONS = "train.optimizer_options"
_PACE = ("threads", "step_time_s", "checkpoint_every_s", "checkpoints_kept", "lr", "momentum", "weight_decay")
"""These keys of `train` are not compared: they do not change what is learned, or the optimizer's groups show them."""
_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class Resumption:
    """The result of resuming: the checkpoint, or None if none is usable; why newer ones were refused; and one line
    about settings that have changed since it was written, or "" if none has."""

    checkpoint: Checkpoint | None = None
    refusals: Sequence[Refusal] = ()
    changed: str = ""

    def events(self, now_s: float) -> list[Event]:
        """The events that report it."""
        told = [
            (EventKind.CHECKPOINT_REFUSED, f"checkpoint {number.boot}-{number.serial} is refused: {reason}")
            for number, reason in self.refusals
        ]
        if self.checkpoint is not None:
            told.append((EventKind.RESUMED, f"from its checkpoint at step {int(self.checkpoint.progress['step'])}"))
        if self.changed:
            told.append((EventKind.RESUMED, f"with other settings than before: {self.changed}"))
        return [Event(kind, now_s, "", reason) for kind, reason in told]


def settings_of(config: RunConfig) -> dict[str, Any]:
    """The settings that are saved in a checkpoint: those that decide what is learned."""
    flat = flatten({"train": config.train.model_dump(mode="json")}) | flatten(
        {"task": config.task.model_dump(mode="json"), "strategy": config.strategy.model_dump(mode="json")}
    )
    left_out = {f"train.{key}" for key in _PACE} | {"strategy.rendezvous"}
    kept = {key: value for key, value in flat.items() if key not in left_out}
    return kept | {"seed": config.seed, "strategy.name": config.strategy.name}


def resume(folder: CheckpointFolder, learner: Learner, resolved: Resolved, anew: str = "with --fresh") -> Resumption:
    """Restore model, optimizer and step of the learner from the newest usable checkpoint. `anew` says in an error
    message how to begin without one.

    Raises:
        ConfigError: when there are checkpoints and none is usable, so that training does not silently begin from
        scratch.
    """

    def use(saved: Saved) -> tuple[Checkpoint, list[Change]]:
        checkpoint = Checkpoint.decode(saved.tensors, saved.content)
        if "step" not in checkpoint.progress:
            raise RefusedCheckpointError("it cannot be read: progress lacks 'step'")
        changes = checkpoint.restore(learner.model, learner.optimizer, learner.built, _given(resolved))
        learner.step = int(checkpoint.progress["step"])
        return checkpoint, changes

    if is_there(folder.folder) and not is_folder(folder.folder):
        raise ConfigError("is a file, where the folder of the checkpoints is to be", file=folder.folder)
    try:
        found, refusals = folder.newest(use)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=folder.folder) from None
    if found is None and refusals:
        reasons = "; ".join(f"{number.boot}-{number.serial}: {reason}" for number, reason in refusals[:4])
        problem = f"no checkpoint here can be used ({reasons}); remove them, or begin anew {anew}"
        raise ConfigError(problem, file=folder.folder)
    if found is None:
        return Resumption()
    checkpoint, changes = found
    differences = _of_groups(changes, resolved.config)
    differences += _of_settings(checkpoint.settings, settings_of(resolved.config), {key for key, _ in differences})
    return Resumption(checkpoint, refusals, "; ".join(text for _, text in differences))


def _given(resolved: Resolved) -> set[str]:
    """The values of groups that override a checkpoint without saved settings. For an optimizer of this package or
    torch, which changes none of them while training, these are the keys of `train`. A user's own optimizer may change
    them, so for it only those that the user gives."""
    train = resolved.config.train
    keys = {value for value, key in _KEYS.items() if ":" not in train.optimizer or key in resolved.origins}
    if "momentum" in keys:
        keys.add("betas")
    return keys | set(train.optimizer_options)


def _of_groups(changes: Sequence[Change], config: RunConfig) -> list[tuple[str, str]]:
    """(key, text) for each value that has changed in some groups; only one where it has changed alike in all."""
    told: dict[tuple[str, str, str], list[int]] = {}
    for change in changes:
        told.setdefault((change.key, _shown(change.was), _shown(change.now)), []).append(change.group + 1)
    alike = {key: sum(one == key for one, _, _ in told) == 1 for key, _, _ in told}
    lines = []
    for (key, was, now), groups in told.items():
        name = _KEYS.get(
            key, f"{_OPTIONS}.{key}" if key in config.train.optimizer_options else f"{key} of the optimizer"
        )
        name = "train.momentum (betas)" if key == "betas" and "betas" not in config.train.optimizer_options else name
        where = "" if alike[key] else f" (group {', '.join(map(str, groups))})"
        lines.append((name, f"{name}{where}: {was} in the checkpoint, {now} now: {now} is used"))
    return lines


def _of_settings(then: Mapping[str, Any], now: Mapping[str, Any], told: set[str]) -> list[tuple[str, str]]:
    lines = []
    for key in sorted(set(then) | set(now)) if then else ():
        was, value = then.get(key), now.get(key)
        if was == value or key in told:
            continue
        text = f"{key}: {_shown(was)} in the checkpoint, {_shown(value)} now: {_shown(value)} is used"
        if key == "seed":
            text += " for shards and order; the weights and the generators are the checkpoint's"
        if key == "strategy.name":
            text += f"; what {was} had kept is not"
        lines.append((key, text))
    return lines


def _shown(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."

"""The error message when a peer cannot go on: the code at fault, the step, the file and line, and the reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from gossipdistill.config.schema import RunConfig
from gossipdistill.config.spec import WorkerSpec
from gossipdistill.errors import EXIT_NONE_FINISHED, ConfigError, GossipdistillError, UserCodeError
from gossipdistill.learning.learner import Learner
from gossipdistill.mailbox import Mailbox
from gossipdistill.strategies import Delivery
from gossipdistill.tasks import Task, odd_label
from gossipdistill.user_code import came_from, text_of, told

LOG = "stderr.log"
"""This file in a peer's folder has all that its process has written to standard error, with the whole report of an
exception."""
_LOSS_KNOWN_WITHIN_S = 20.0
"""A lost peer is looked for during this time (s) after a collective has failed: membership needs a few seconds to be
sure, and more on a busy machine, where a peer doubts itself first."""
_LOOK_EVERY_S = 0.05
_TRANSPORT = re.compile(r"gloo|timed out|timeout|connection|socket|broken pipe|peer", re.IGNORECASE)
"""The error of a collective matches this when it is cut off, and does not when it is used wrongly."""


class CollectiveError(GossipdistillError):
    """A collective has ended, and with it the training of this peer."""


def explained(error: Exception, task: Task, learner: Learner, spec: WorkerSpec, mailbox: Mailbox) -> Exception:
    """The exception that ended this peer's training, for the user to read; `error` itself where its text is enough, or
    where this package is at fault."""
    known = isinstance(error, UserCodeError)
    cause = error.__cause__ if isinstance(error, UserCodeError) and error.__cause__ is not None else error
    if isinstance(error, GossipdistillError) and not known:
        return error
    theirs = came_from(cause, spec.user_folder or Path.cwd(), task.made_at.rpartition(":")[0])
    # A collective may be called from a layer of the user's, too (a normalisation over all peers, for instance).
    if isinstance(cause, RuntimeError) and _is_collective(spec) and (not theirs or "gloo" in text_of(cause)):
        cut = _cut_off(cause, spec, mailbox)
        if cut is not None:
            return cut
    if not known and not theirs:
        return error
    what = error.what if isinstance(error, UserCodeError) else "the user's code"
    return in_training(
        cause, what, task, learner, spec.config, f"; the full report is in {spec.typed(spec.folder / LOG)}"
    )


def in_training(
    cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig, where_else: str = ""
) -> UserCodeError:
    """An exception out of the user's code, with the step, their file and line, and the likely reason; `where_else` ends
    the message."""
    home = task.made_at if what.startswith("Task.") else ""
    line = told(cause, home=home) if not isinstance(cause, UserCodeError) else f"{cause.told} ({home})"
    hint = next((hint for hint in (find(cause, what, task, learner, config) for find in _HINTS) if hint), "")
    text = f"training failed at step {learner.step}: {line}, in {what}"
    text += f": {hint}" if hint else ""
    code = EXIT_NONE_FINISHED if learner.step else ConfigError.exit_code
    return UserCodeError(what, line, problem=text + where_else, exit_code=code)


# --- likely reasons ---------------------------------------------------------------------------------------------------


def _label(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    """A label that is no class, which a loss refuses."""
    outputs = learner.outputs
    if not re.search(r"(?i)target|label|class|index|bounds|assert", str(type(cause).__name__) + text_of(cause)):
        return None
    if what != "Task.loss" or not isinstance(outputs, Tensor) or outputs.ndim != 2:
        return None
    return odd_label(task, outputs.shape[1])


def _batch_of_one(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    if "more than 1 value per channel" not in text_of(cause):
        return None
    rows = len(learner.x) if learner.x is not None else 1
    size = f"train.batch_size = {config.train.batch_size}, accepted: 2 or more"
    return f"BatchNorm needs several values per channel, and the batch has {rows} row{'s' * (rows > 1)}; {size}"


def _memory(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    full = isinstance(cause, MemoryError) or re.search(r"(?i)out of memory|can't allocate memory", text_of(cause))
    return f"train.batch_size = {config.train.batch_size}; a smaller one needs less memory" if full else None


def _no_gradient(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    if "does not require grad" not in text_of(cause):
        return None
    return (
        "the loss does not depend on any parameter that is trained (all frozen, detached, or computed under no_grad?)"
    )


def _unused(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    if "Expected to have finished reduction" not in text_of(cause):
        return None
    return (
        "some parameters get a gradient in some steps only; strategy.find_unused = always looks for them in each step"
    )


def _optimizer(cause: BaseException, what: str, task: Task, learner: Learner, config: RunConfig) -> str | None:
    return f"train.optimizer = {config.train.optimizer!r}" if what == "train.optimizer" else None


_HINTS: tuple[Callable[[BaseException, str, Task, Learner, RunConfig], str | None], ...] = (
    _label,
    _batch_of_one,
    _memory,
    _no_gradient,
    _unused,
    _optimizer,
)


# --- collectives ------------------------------------------------------------------------------------------------------


def _is_collective(spec: WorkerSpec) -> bool:
    return spec.config.strategy_class().delivery is Delivery.COLLECTIVE


def _cut_off(cause: BaseException, spec: WorkerSpec, mailbox: Mailbox) -> CollectiveError | None:
    """The error for a collective that was cut off, by the loss of a peer if membership reports one; None where it was
    not cut off."""
    if not _TRANSPORT.search(text_of(cause)):
        return None
    name, text = spec.config.strategy.name, text_of(cause)
    deadline_s = time.monotonic() + _LOSS_KNOWN_WITHIN_S
    neighbourhood = mailbox.neighbourhood()
    while not neighbourhood.gone and time.monotonic() < deadline_s:
        time.sleep(_LOOK_EVERY_S)
        neighbourhood = mailbox.neighbourhood()
    # A peer that is lost before it has ever been heard stays "unheard" for good.
    absent = neighbourhood.gone or set(neighbourhood.statuses) - neighbourhood.alive - neighbourhood.done
    if not absent:
        return CollectiveError(
            f"{name} stopped: its connection to the other peers failed, and none is known to be lost: {text}"
        )
    lost = ", ".join(f"{peer} ({neighbourhood.statuses.get(peer, 'gone')})" for peer in sorted(absent))
    return CollectiveError(f"{name} stopped, as it does when a peer is lost: {lost}: {text}")

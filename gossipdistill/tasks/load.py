"""Finding a task by its name: a ready-made one, or `module:function` of the user."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossipdistill.errors import ConfigError, UserCodeError, nearest
from gossipdistill.tasks import char_lm, cifar10, digits, fashion_mnist, logistic, quadratic, tabular
from gossipdistill.tasks.base import About, Task
from gossipdistill.tasks.fetch import folders
from gossipdistill.tasks.options import Option, annotations_of, check_options, options_of
from gossipdistill.tasks.shards import Shard
from gossipdistill.user_code import find_user_object, users_setup, where

TaskFactory = Callable[..., Task]

TASKS: dict[str, tuple[TaskFactory, About]] = {
    "digits": (digits.task, digits.ABOUT),
    "fashion_mnist": (fashion_mnist.task, fashion_mnist.ABOUT),
    "cifar10": (cifar10.task, cifar10.ABOUT),
    "tabular": (tabular.task, tabular.ABOUT),
    "char_lm": (char_lm.task, char_lm.ABOUT),
    "logistic": (logistic.task, logistic.ABOUT),
    "quadratic": (quadratic.task, quadratic.ABOUT),
}
"""This maps the name of a ready-made task to its factory, and to what is known of its data."""


@dataclass(frozen=True)
class TaskDescription:
    """What `gossipdistill task show` prints."""

    name: str
    doc: str
    options: dict[str, Option]
    about: About | None
    """It has origin, licence and sizes of the data; None for a user's task."""
    looks_in: tuple[str, ...]
    """The data are looked for in these places, in this order; empty where they come with the package."""


def load_task(name: str, shard: Shard, options: Mapping[str, object], folder: Path | None = None) -> Task:
    """The task `name` for this shard.

    Args:
        name: a key of `TASKS`, or `module:function`.
        shard: this peer's part of the examples.
        options: the task's own keys under `[task]`, with values as TOML gives them.
        folder: where the user's own modules lie; None is the current folder.

    Raises ConfigError, or DataMissingError where a data set is not to be had.
    """
    factory = _find(name, folder)
    checked = check_options(factory, options)
    source = _source(factory)
    try:
        with users_setup("the task", key="task.name", value=name, source=source):
            task = factory(shard, **checked)
    except UserCodeError:
        raise
    except ConfigError as error:
        if error.file is None and (error.key or "").startswith("Task."):
            # The mistake is in the call of Task(...), so say where that is.
            raise ConfigError(
                error.problem, file=where(error, source), key=error.key, value=error.value, accepted=error.accepted
            ) from error
        raise
    if not isinstance(task, Task):
        found = type(task).__name__
        raise ConfigError(f"must return a gossipdistill.Task, returned {found}", key="task.name", value=name)
    # A task may deal more than once, or choose by itself among what it was dealt: then nothing is known for certain.
    deals = [deal for deal in shard.deals if shard.pooled or deal.each == len(task.train[0])]
    object.__setattr__(task, "dealt", deals[-1] if deals else None)
    return task


def list_tasks() -> list[tuple[str, str]]:
    """Names of the ready-made tasks, each with one line on it."""
    return [(name, _doc(factory).partition("\n")[0]) for name, (factory, _) in TASKS.items()]


def task_options(name: str) -> dict[str, Option]:
    """The options of a task, in the order of its factory's parameters."""
    return options_of(_find(name))


def examples_per_peer_of(name: str) -> int | None:
    """Labelled examples of each peer where the run names no number; None: all examples are divided."""
    return getattr(sys.modules[_find(name).__module__], "EXAMPLES_PER_PEER", None) if name in TASKS else None


def task_annotations(name: str) -> dict[str, Any]:
    """The annotation of each of these options: what it accepts."""
    return annotations_of(_find(name))


def describe_task(name: str, data_dir: Path | None = None) -> TaskDescription:
    """What is known of a task, without its data; `data_dir` is the folder of `--data-dir` or GOSSIPDISTILL_DATA."""
    factory = _find(name)
    about = TASKS[name][1] if name in TASKS else None
    looks_in: tuple[str, ...] = ()
    if about is not None and about.folder:
        looks_in = (*map(str, folders(about.folder, data_dir)), about.url)
    return TaskDescription(name, _doc(factory), options_of(factory), about, looks_in)


def _source(factory: TaskFactory) -> str | None:
    """The file that it is defined in; None where there is none, as for what C defines."""
    try:
        return inspect.getsourcefile(inspect.unwrap(factory))
    except (TypeError, ValueError):
        return getattr(sys.modules.get(getattr(factory, "__module__", "")), "__file__", None)


def _doc(factory: TaskFactory) -> str:
    """The docstring of the factory, or else that of its module."""
    return inspect.getdoc(factory) or inspect.getdoc(sys.modules.get(factory.__module__)) or ""


def _find(name: str, folder: Path | None = None) -> TaskFactory:
    if name in TASKS:
        return TASKS[name][0]
    accepted = ", ".join(TASKS) + ", or module:function"
    if ":" not in name:
        raise ConfigError(f"no such task; {nearest(name, TASKS)}", key="task.name", value=name, accepted=accepted)
    found = find_user_object(name, "task.name", "task", accepted, folder)
    if not callable(found):
        function, kind = name.partition(":")[2], type(found).__name__
        raise ConfigError(f"{function} is no function, it is of type {kind}", key="task.name", value=name)
    return found

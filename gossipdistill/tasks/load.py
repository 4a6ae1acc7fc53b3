"""Finding a task by its name: a ready-made one, or `module:function` of the user."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.errors import ConfigError, GossipdistillError, nearest
from gossipdistill.tasks import digits, fashion_mnist, logistic, quadratic
from gossipdistill.tasks.base import About, Task
from gossipdistill.tasks.fetch import folders
from gossipdistill.tasks.options import Option, check_options, options_of
from gossipdistill.tasks.shards import Shard

TaskFactory = Callable[..., Task]

TASKS: dict[str, tuple[TaskFactory, About]] = {
    "digits": (digits.task, digits.ABOUT),
    "fashion_mnist": (fashion_mnist.task, fashion_mnist.ABOUT),
    "logistic": (logistic.task, logistic.ABOUT),
    "quadratic": (quadratic.task, quadratic.ABOUT),
}
"""Ready-made tasks: name -> its factory, and what is known of its data."""


@dataclass(frozen=True)
class TaskDescription:
    """What `gossipdistill task show` prints."""

    name: str
    doc: str
    options: dict[str, Option]
    about: About | None
    """Origin, licence and sizes of the data; None for a user's task."""
    looks_in: tuple[str, ...]
    """Where the data are looked for, in this order; empty where they come with the package."""


def load_task(name: str, shard: Shard, options: Mapping[str, object]) -> Task:
    """The task `name` for this shard.

    Args:
        name: a key of `TASKS`, or `module:function`; the current folder is importable.
        shard: this peer's part of the examples.
        options: the task's own keys under `[task]`, with values as TOML gives them.

    Raises ConfigError, or DataMissingError where a data set is not to be had.
    """
    factory = _find(name)
    checked = check_options(factory, options)
    source = inspect.getsourcefile(inspect.unwrap(factory))
    try:
        task = factory(shard, **checked)
    except ConfigError as error:
        if error.file is None and (error.key or "").startswith("Task."):
            # The mistake is in the call of Task(...), so say where that is.
            raise ConfigError(
                error.problem, file=_where(error, source), key=error.key, value=error.value, accepted=error.accepted
            ) from error
        raise
    except GossipdistillError:
        raise
    except Exception as error:
        raise ConfigError(f"failed: {_told(error, source)}", key="task.name", value=name) from error
    if not isinstance(task, Task):
        found = type(task).__name__
        raise ConfigError(f"must return a gossipdistill.Task, returned {found}", key="task.name", value=name)
    return task


def list_tasks() -> list[tuple[str, str]]:
    """Names of the ready-made tasks, each with one line on it."""
    return [(name, _doc(factory).partition("\n")[0]) for name, (factory, _) in TASKS.items()]


def task_options(name: str) -> dict[str, Option]:
    """The options of a task, in the order of its factory's parameters."""
    return options_of(_find(name))


def describe_task(name: str, data_dir: Path | None = None) -> TaskDescription:
    """What is known of a task, without its data; `data_dir` is the folder of `--data-dir` or GOSSIPDISTILL_DATA."""
    factory = _find(name)
    about = TASKS[name][1] if name in TASKS else None
    looks_in: tuple[str, ...] = ()
    if about is not None and about.folder:
        looks_in = (*map(str, folders(about.folder, data_dir)), about.url)
    return TaskDescription(name, _doc(factory), options_of(factory), about, looks_in)


def _doc(factory: TaskFactory) -> str:
    """The docstring of the factory, else that of its module."""
    return inspect.getdoc(factory) or inspect.getdoc(sys.modules.get(factory.__module__)) or ""


def _find(name: str) -> TaskFactory:
    if name in TASKS:
        return TASKS[name][0]
    accepted = ", ".join(TASKS) + ", or module:function"
    module_name, colon, function = name.partition(":")
    if not colon:
        raise ConfigError(f"no such task; {nearest(name, TASKS)}", key="task.name", value=name, accepted=accepted)
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        stem = Path(module_name).stem
        raise ConfigError(
            "names a file; a module is meant, found from the current folder",
            key="task.name", value=name, accepted=f"for example {stem}:{function or 'task'}",
        )  # fmt: skip
    if not module_name or not function:
        raise ConfigError("is half a name", key="task.name", value=name, accepted=accepted)
    return _user_factory(name, module_name, function)


def _user_factory(name: str, module_name: str, function: str) -> TaskFactory:
    module = _import(name, module_name)
    found: object = module
    for part in function.split("."):
        if not hasattr(found, part):
            # Its own functions; what it imported is no task.
            public = [key for key, value in vars(found).items() if getattr(value, "__module__", None) == module_name]
            raise ConfigError(f"{module_name} has no {part}; {nearest(part, public)}", key="task.name", value=name)
        found = getattr(found, part)
    if not callable(found):
        kind = type(found).__name__
        raise ConfigError(f"{function} is no function, it is of type {kind}", key="task.name", value=name)
    return found


def _import(name: str, module_name: str) -> object:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()  # a file written a moment ago would not be seen
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            files = [path.stem for path in Path(here).glob("*.py")]
            problem = f"no module {module_name} in {here} or installed; {nearest(module_name, files)}"
            raise ConfigError(problem, key="task.name", value=name) from None
        raise _import_failed(error, name, module_name) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(error, name, module_name) from error


def _import_failed(error: BaseException, name: str, module_name: str) -> ConfigError:
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        spec = None
    told = _told(error, spec.origin if spec else None)
    return ConfigError(f"importing {module_name} failed: {told}", key="task.name", value=name)


def _told(error: BaseException, source: str | None) -> str:
    """Type, text and place of an exception out of a user's code, in one line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({_where(error, source)})"


def _where(error: BaseException, source: str | None) -> str:
    """`file:line` where the user's own code was last: in `source` or below the current folder, else anywhere."""
    frames = traceback.extract_tb(error.__traceback__)
    here = os.getcwd() + os.sep
    own = [
        frame
        for frame in frames
        if frame.filename == source or (frame.filename.startswith(here) and "site-packages" not in frame.filename)
    ]
    frame = (own or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}"

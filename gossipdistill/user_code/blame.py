"""Which code is at fault for an exception, and where in the user's own files it happened."""

from __future__ import annotations

import functools
import os
import site
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from gossipdistill.errors import GossipdistillError, UserCodeError
from gossipdistill.user_code.text import in_one_line, text_of
from gossipdistill.user_code.torch_settings import Settings, TorchSettings

P = ParamSpec("P")
R = TypeVar("R")
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def told(error: BaseException, source: str | None = None, home: str = "") -> str:
    """Type, text and place of an exception out of a user's code, in one line.

    Args:
        source: a file of the user's, wherever it lies.
        home: `file:line` that stands for the code where it has no frame, as when torch refuses what it was given.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text_of(error)} ({in_one_line(error.filename)}:{error.lineno})"
    place = frame_of_user(error, source or home.rpartition(":")[0]) or home or where(error)
    return f"{text_of(error)} ({place})" if place else text_of(error)


def where(error: BaseException, source: str | None = None) -> str:
    """`file:line` where the user's own code was last; else the deepest frame that is not ours; else empty."""
    others = (place for place in _places(error) if not place.startswith(_PACKAGE))
    return frame_of_user(error, source) or next(others, "")


def frame_of_user(error: BaseException, source: str | None = None) -> str | None:
    """`file:line` of the innermost frame in a file of the user's, or in `source`, wherever that lies; None without one.

    A file is the user's unless it belongs to this package, to Python's standard library or to an installed package.
    """
    return next((place for place in _places(error) if _file(place) == source or _is_users(_file(place))), None)


def came_from(error: BaseException, folder: Path, source: str = "") -> bool:
    """Whether an exception has passed through the user's code in this folder, or in the file `source`: it is then the
    user's, wherever it was called from."""
    inside = str(folder.absolute()) + os.sep
    files = (_file(place) for place in _places(error))
    return any(file == source or (file.startswith(inside) and _is_users(file)) for file in files)


def users_code(what: str) -> _UsersCode:
    """The context in which a function of the user's is called: `with users_code("Task.loss"): ...`.

    Any exception becomes a UserCodeError, `SystemExit` as well; only errors of this package and Ctrl-C pass.
    It is cheap: it stands around each forward pass.
    """
    return _UsersCode(what)


def called(function: Callable[P, R], what: str) -> Callable[P, R]:
    """A function of the user's that is always called in `users_code`."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with _UsersCode(what):
            return function(*args, **kwargs)

    return inside


def users_setup(
    what: str,
    *,
    key: str | None = None,
    value: object = None,
    problem: str = "failed",
    source: str | None = None,
    home: str = "",
) -> _UsersSetup:
    """The context for code that may change settings of the process, such as torch's default type: what it sets holds
    inside the user's code, and ours goes on with the settings from before.

    Args:
        key, value: the key of a run file that the code is found by, for the message; else `what` is the key.
        problem: the text before that of the exception.
        source, home: as for `told`.
    """
    return _UsersSetup(what, key or what, value, problem, source, home)


class _UsersCode:
    """See `users_code`."""

    __slots__ = ("_ours", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._ours: Settings | None = None

    def __enter__(self) -> None:
        if TorchSettings.theirs is not None:
            self._ours = TorchSettings.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ours is not None:
            TorchSettings.leave(self._ours)
        if error is not None and not _passes(error):
            raise UserCodeError(self._what, told(error), key=self._what) from error


class _UsersSetup:
    """See `users_setup`."""

    __slots__ = ("_home", "_key", "_ours", "_problem", "_source", "_value", "_what")

    def __init__(self, what: str, key: str, value: object, problem: str, source: str | None, home: str) -> None:
        self._what, self._key, self._value = what, key, value
        self._problem, self._source, self._home = problem, source, home

    def __enter__(self) -> None:
        self._ours = TorchSettings.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        TorchSettings.leave(self._ours, kept=True)
        if error is None or _passes(error):
            return
        line = told(error, self._source, self._home)
        problem = f"{self._problem}: {line}"
        raise UserCodeError(self._what, line, key=self._key, value=self._value, problem=problem) from error


def _passes(error: BaseException) -> bool:
    """Whether an exception is not the user's, though it comes out of the user's code."""
    if isinstance(error, GossipdistillError | KeyboardInterrupt | GeneratorExit):
        return True
    # A handler of ours ends the process, wherever it interrupts.
    return isinstance(error, SystemExit) and next(iter(_places(error)), "").startswith(_PACKAGE)


def _places(error: BaseException) -> list[str]:
    """`file:line` of each frame, the deepest one first."""
    return [f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)][::-1]


def _file(place: str) -> str:
    return place.rpartition(":")[0]


@functools.cache
def _is_users(file: str) -> bool:
    if file.startswith(("<", _PACKAGE)) or "site-packages" in file or "dist-packages" in file:
        return False
    return not os.path.abspath(file).startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """Folders of Python itself and of installed packages."""
    paths = sysconfig.get_paths()
    names = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    names += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.join(name, "") for name in {*names, *map(os.path.realpath, names)})

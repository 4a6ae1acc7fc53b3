"""Finding what a user has written, by a name such as `moons:task`: `module:name`, from the current folder or installed.

Whatever goes wrong on the way is a `ConfigError` that names the key and where in the user's own code it happened.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path

from gossipdistill.errors import ConfigError, nearest


def find_user_object(name: str, key: str, usual: str, accepted: str) -> object:
    """What `module:name` stands for; the current folder is importable.

    Args:
        name: as the user wrote it.
        key: the dotted key that it is the value of, for messages.
        usual: a likely name in a module of that kind, for messages.
        accepted: what the key accepts, for messages.

    Raises:
        ConfigError: with the nearest names.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        stem = Path(module_name).stem
        raise ConfigError(
            "names a file; a module is meant, found from the current folder",
            key=key, value=name, accepted=f"for example {stem}:{attribute or usual}",
        )  # fmt: skip
    if not module_name or not attribute:
        raise ConfigError("is half a name", key=key, value=name, accepted=accepted)
    module = _import(name, key, module_name)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            # Its own names; what it imported from elsewhere is not meant.
            public = [word for word, value in vars(found).items() if getattr(value, "__module__", None) == module_name]
            raise ConfigError(f"{module_name} has no {part}; {nearest(part, public)}", key=key, value=name)
        found = getattr(found, part)
    return found


def told(error: BaseException, source: str | None) -> str:
    """Type, text and place of an exception out of a user's code, in one line; `source` is the file it is defined in."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({where(error, source)})"


def where(error: BaseException, source: str | None) -> str:
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


def _import(name: str, key: str, module_name: str) -> object:
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
            raise ConfigError(problem, key=key, value=name) from None
        raise _import_failed(error, name, key, module_name) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(error, name, key, module_name) from error


def _import_failed(error: BaseException, name: str, key: str, module_name: str) -> ConfigError:
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        spec = None
    problem = told(error, spec.origin if spec else None)
    return ConfigError(f"importing {module_name} failed: {problem}", key=key, value=name)

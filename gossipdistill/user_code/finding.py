"""Finding what a user has written, by a name such as `moons:task`: `module:name`, from the user's folder or installed.

The user's folder comes last in the search for modules: a file there that is called `random.py` or `torch.py` is in
nobody's way. A task in such a file is found all the same, under a name of its own. Whatever goes wrong on the way is a
`ConfigError` that names the key and where in the user's own code it happened.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from gossipdistill.errors import ConfigError, UserCodeError, nearest
from gossipdistill.user_code.blame import users_setup

_OWN_NAME = "_of_the_user_"
"""A module of the user's whose name is taken gets this prefix."""


def find_user_object(name: str, key: str, usual: str, accepted: str, folder: Path | None = None) -> object:
    """What `module:name` stands for.

    Args:
        name: as the user wrote it.
        key: the dotted key that it is the value of, for messages.
        usual: a likely name in a module of that kind, for messages.
        accepted: what the key accepts, for messages.
        folder: where the user's own modules lie; None is the current folder.

    Raises:
        ConfigError: with the nearest names.
    """
    module_name, _, attribute = name.partition(":")
    if module_name.endswith(".py") or "/" in module_name or os.sep in module_name:
        stem = Path(module_name).stem
        raise ConfigError(
            "names a file; a module is meant, found from the current folder",
            key=key,
            value=name,
            accepted=f"for example {stem}:{attribute or usual}",
        )
    if not module_name or not attribute:
        raise ConfigError("is half a name", key=key, value=name, accepted=accepted)
    module = _import(name, key, module_name, (folder or Path.cwd()).absolute())
    found: object = module
    for part in attribute.split("."):
        missing = object()
        with users_setup(key, value=name, problem=f"looking for {part} failed"):
            inner = getattr(found, part, missing)
        if inner is missing:
            # Its own names; what it imported from elsewhere is not meant.
            named = getattr(found, "__dict__", {}).items()
            own = [word for word, value in named if getattr(value, "__module__", None) == module.__name__]
            raise ConfigError(f"{module_name} has no {part}; {nearest(part, own)}", key=key, value=name)
        found = inner
    return found


def _import(name: str, key: str, module_name: str, folder: Path) -> ModuleType:
    top = module_name.partition(".")[0]
    lies_here = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    taken = lies_here and _is_taken(top, folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()  # a file written a moment ago would not be seen
    asked = module_name
    problem, source = f"importing {module_name} failed", _file_of(module_name, folder)
    try:
        with users_setup(key, value=name, problem=problem, source=source):
            if taken:
                asked = _OWN_NAME + module_name
                _put_in_place(_OWN_NAME + top, folder, top)
            return importlib.import_module(asked)
    except UserCodeError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError):
            missing = cause.name or ""
            if asked == missing or asked.startswith(missing + "."):
                files = [path.stem for path in folder.glob("*.py")]
                problem = f"no module {module_name} in {folder} or installed; {nearest(module_name, files)}"
                raise ConfigError(problem, key=key, value=name) from None
        if isinstance(cause, ImportError) and cause.name and (folder / f"{cause.name}.py").is_file():
            hint = f"{cause.name} is not {folder / cause.name}.py here, but {cause.path or 'another module'}: rename it"
            raise UserCodeError(key, error.told, key=key, value=name, problem=f"{error.problem}; {hint}") from cause
        raise


def _is_taken(top: str, folder: Path) -> bool:
    """Whether a module of this name is Python's own or installed, so that it must not come from the folder."""
    if top in sys.stdlib_module_names:
        return True
    loaded = sys.modules.get(top)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return file is not None and not Path(file).is_relative_to(folder)
    elsewhere = [entry for entry in sys.path if Path(entry or ".").absolute() != folder]
    found = PathFinder.find_spec(top, elsewhere)
    return found is not None and found.origin is not None


def _put_in_place(own_name: str, folder: Path, top: str) -> None:
    """Make the user's module or package importable under `own_name`."""
    file, package = folder / f"{top}.py", folder / top
    init = package / "__init__.py"
    place = str(init if init.is_file() else file if file.is_file() else package)
    loaded = sys.modules.get(own_name)
    if loaded is not None and loaded.__spec__ is not None and loaded.__spec__.origin == place:
        return
    for name in [name for name in sys.modules if name == own_name or name.startswith(own_name + ".")]:
        del sys.modules[name]  # of another folder
    spec: ModuleSpec | None
    if place == str(package):
        spec = ModuleSpec(own_name, None, origin=place, is_package=True)
        spec.submodule_search_locations = [place]
    else:
        inner = [str(package)] if place == str(init) else None
        spec = importlib.util.spec_from_file_location(own_name, place, submodule_search_locations=inner)
    assert spec is not None
    module = sys.modules[own_name] = importlib.util.module_from_spec(spec)
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[own_name]
            raise


def _file_of(module_name: str, folder: Path) -> str | None:
    """The file of the module, if it lies in the folder or is installed: where its errors are to be looked for."""
    path = folder.joinpath(*module_name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return str(file)
    try:
        spec = importlib.util.find_spec(module_name)
    except Exception:  # it imports what it is in
        return None
    return spec.origin if spec is not None else None

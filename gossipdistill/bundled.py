"""Ready-made files, and the reading of files that a user wrote.

A ready-made roster, topology or fault plan is named without a suffix; anything with a slash or a suffix is a path. The
files lie at the top of the repository, where people edit them, and are copied into the wheel at build time.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from gossipdistill import files
from gossipdistill.errors import ConfigError, GossipdistillError, nearest
from gossipdistill.printable import printable
from gossipdistill.toml import decimal_comma, parse_toml

Folder = Literal["peers", "topologies", "faults"]
SUFFIXES = (".toml", ".py")

Model = TypeVar("Model", bound=BaseModel)


def ready_made(folder: Folder) -> Path:
    """The folder of ready-made files: inside an installed package, or at the top of a clone."""
    package = Path(__file__).resolve().parent
    for place in (package / "ready_made" / folder, package.parent / folder):
        if place.is_dir():
            return place
    raise GossipdistillError(
        f"the installation lacks its folder of ready-made {folder}; please reinstall gossipdistill"
    )


def listing(folder: Folder) -> list[tuple[str, Path]]:
    """Name and file of everything ready-made in `folder`, sorted by name."""
    return sorted((file.stem, file) for file in ready_made(folder).iterdir() if file.suffix in SUFFIXES)


def summary(file: Path) -> str:
    """One line on what a file is: the first comment of a TOML file, the first docstring line of a Python file."""
    text = read_text(file)
    if file.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    first = text.partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""


def find(folder: Folder, where: str, base: Path | None = None) -> Path:
    """The file that `where` means: a ready-made name, or a path relative to `base` (default: the current folder)."""
    bundled = dict(listing(folder))
    asked = Path(where).expanduser()
    if not asked.suffix and "/" not in where and "\\" not in where:
        if where in bundled:
            return bundled[where]
        raise ConfigError(_no_such_name(folder, where, base, bundled))
    file = (base or Path.cwd()) / asked
    if files.is_file(file):
        return file
    if asked.stem in bundled:
        hint = f"; the ready-made one is called {asked.stem!r}, without a suffix"
        raise ConfigError(_problem(file) + hint, file=file)
    raise ConfigError(_problem(file) + _beside(file), file=file)


def _no_such_name(folder: Folder, where: str, base: Path | None, bundled: Mapping[str, Path]) -> str:
    problem = f"{where!r} is not a ready-made name in {folder}: {nearest(where, bundled)}"
    for suffix in SUFFIXES:
        if where and files.is_file((base or Path.cwd()) / f"{where}{suffix}"):
            return f"{problem} For the file that lies here write {where}{suffix}"
    return problem


def read_text(file: Path) -> str:
    """The text of a file, or a `ConfigError` that says why it cannot be read."""
    try:
        return files.read_text(file)
    except files.UnusableError as reason:
        raise ConfigError(f"{reason}{_beside(file) if reason.missing else ''}", file=file) from None


def read_toml(file: Path) -> dict[str, Any]:
    """The content of a TOML file, or a `ConfigError` with the line at fault."""
    try:
        return parse_toml(read_text(file))
    except files.UnusableError as reason:
        raise ConfigError(str(reason), file=file) from None


def _problem(file: Path) -> str:
    """The reason why a path is no readable file."""
    try:
        with files.opened(file):
            return "cannot be read"
    except files.UnusableError as reason:
        return "no such file" if reason.missing else str(reason)


def _beside(file: Path) -> str:
    """The files beside a missing one whose names are near."""
    names = {other.stem: other.name for other in files.entries(file.parent, f"*{file.suffix}") if other != file}
    near = difflib.get_close_matches(file.stem, names, n=3)
    return f"; did you mean {' or '.join(printable(names[stem]) for stem in near)}?" if near else ""


def validated(model: type[Model], data: Mapping[str, Any], *, file: object = None) -> Model:
    """`data` as a `model`, or a `ConfigError` about the first key at fault, with the nearest known keys."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        # A misspelt key is reported before the one that is missing because of it.
        first = next((problem for problem in found if problem["type"] == "extra_forbidden"), found[0])
    key = printable("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip("."))
    if first["type"] == "extra_forbidden":
        raise ConfigError(f"unknown key; {nearest(key, model.model_fields)}", file=file, key=key)
    if first["type"] == "missing":
        raise ConfigError("is missing", file=file, key=key)
    problem = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].replace("Input", "it", 1)
    problem += decimal_comma(first["input"])
    raise ConfigError(problem, file=file, key=key or None, value=first["input"] if key else None)

"""A table of values as a model of pydantic's, or an error that names file, key, value and what would be accepted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gossipdistill.config.tables import flatten
from gossipdistill.errors import ConfigError, nearest
from gossipdistill.toml import decimal_comma


def checked(
    kind: type[Any], table: Mapping[str, Any], section: str, source: Mapping[str, Path | str], known: list[str]
) -> Any:
    """`table` as a `kind`.

    Args:
        section: in which the keys of `table` stand; empty at the top.
        source: where each key comes from: a file, or words for it.
        known: the keys that could have been meant.

    Raises:
        ConfigError: about the first key at fault.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in (*([section] if section else []), *first["loc"]))
    file = source.get(key) or next((file for name, file in source.items() if name.startswith(f"{key}.")), None)
    if first["type"] == "extra_forbidden":
        if isinstance(first["input"], Mapping) and first["input"]:
            inner, first["input"] = next(iter(flatten(first["input"]).items()))
            key = f"{key}.{inner}"
        names = [f"{section}.{name}" if section else name for name in known]
        raise ConfigError(f"unknown key; {nearest(key, names)}", file=file, key=key, value=first["input"])
    problem = first["msg"][:1].lower() + first["msg"][1:].replace("Input", "it", 1)
    problem = problem.replace("input should", "should") + decimal_comma(first["input"])
    raise ConfigError(problem, file=file, key=key, value=first["input"])

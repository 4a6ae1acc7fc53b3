"""Dotted keys as nested tables, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossipdistill.errors import ConfigError

Dotted = Mapping[str, object]


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"task": {"name": "digits"}} -> {"task.name": "digits"}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(values: Dotted) -> dict[str, Any]:
    """The inverse of `flatten`. A key that is both a value and a section is refused."""
    table: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.split(".")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError("is a single value, it has no keys of its own", key=".".join(path), value=inner)
        inner[last] = value
    return table

"""Peers that train their own models and teach one another by gossip over ZeroMQ.

`import gossipdistill` alone imports neither torch nor anything else: what is exported is loaded on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gossipdistill.tasks import Shard as Shard
    from gossipdistill.tasks import Task as Task

    __version__: str

_HOME = {"Shard": "gossipdistill.tasks", "Task": "gossipdistill.tasks"}
"""Exported name -> module that defines it."""

__all__ = ["Shard", "Task", "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        # The version lives in pyproject.toml only; a source folder that was never installed has none.
        from importlib import metadata

        try:
            value: object = metadata.version("gossipdistill")
        except metadata.PackageNotFoundError:
            value = "0+source"
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

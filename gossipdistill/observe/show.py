"""Finding a run that was, and waiting for one that is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from gossipdistill.errors import ConfigError
from gossipdistill.observe import comparison, report

Render = Callable[[dict[str, Any]], RenderableType]
_LOOK_EVERY_S = 0.5


def find_and_wait(out: Path, run: str | None, wait_s: float, console: Console) -> tuple[dict[str, Any], Render]:
    """The summary of a run (or of a comparison) and what renders it.

    With `wait_s`, waits until there is a run and all its peers have written their results.
    """
    deadline_s = time.monotonic() + wait_s
    said = ""
    while True:
        missing = ""
        try:
            folder = report.find_run(out, run)
            missing = _missing(folder)
        except ConfigError as error:
            if time.monotonic() >= deadline_s:
                raise
            missing = str(error)
        if not missing or time.monotonic() >= deadline_s:
            break
        if missing != said:
            console.print(f"waiting: {missing}", markup=False)
            said = missing
        time.sleep(_LOOK_EVERY_S)
    path = folder / "compare.json"
    if path.exists():
        return dict(json.loads(path.read_text())), comparison.render
    return report.load_summary(folder), report.render


def _missing(folder: Path) -> str:
    """Whose results are not there yet."""
    if (folder / "summary.json").exists() or (folder / "compare.json").exists():
        return ""
    names = [config.parent.name for config in sorted(folder.glob("*/config.json"))]
    without = [name for name in names if not (folder / name / "result.json").exists()]
    return f"no result yet of {', '.join(without)}" if without else ""

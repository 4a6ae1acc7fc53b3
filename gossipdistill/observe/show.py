"""Finds a run that has ended, or waits for one that is running."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from rich.console import Console, RenderableType

from gossipdistill.errors import ConfigError
from gossipdistill.files import changed_s, entries, is_there
from gossipdistill.observe import comparison, report
from gossipdistill.observe.record import read_record
from gossipdistill.observe.records import CompareRecord, PeerRecord, SummaryRecord, read_setting
from gossipdistill.roster import classify, load_roster

Found = SummaryRecord | CompareRecord
_LOOK_EVERY_S = 0.5
_WRITES_EVERY_S = 25.0
"""A peer that has written nothing for this many seconds counts as lost. A worker saves a checkpoint every ten seconds
by default."""


def find_and_wait(out: Path, run: str | None, wait_s: float, console: Console) -> Found:
    """The summary of a run, or of a comparison.

    With `wait_s`, waits at most that many seconds until there is a run and all its peers have written their results.
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
            console.print(f"waiting: {missing}", markup=False, soft_wrap=True)
            said = missing
        time.sleep(_LOOK_EVERY_S)
    if is_there(folder / "compare.json"):
        return read_record(folder / "compare.json", CompareRecord)
    return report.load_summary(folder)


def render(found: Found) -> RenderableType:
    """The table of a run or a comparison."""
    return report.render(found) if isinstance(found, SummaryRecord) else comparison.render(found)


def _missing(folder: Path) -> str:
    """The peers whose results are missing, in words; empty if there is nothing left to wait for."""
    if is_there(folder / "summary.json") or is_there(folder / "compare.json"):
        return ""
    results = {path.parent.name: _is_serving(path) for path in entries(folder, "*/result.json")}
    without = [name for name in _expected(folder) if name not in results]
    if not without:
        return ""
    if results and not any(results.values()):
        # All finished peers have stopped waiting for these: they are lost, unless they still write.
        without = [name for name in without if _wrote_lately(folder / name)]
    return f"no result yet of {', '.join(without)}" if without else ""


def _expected(folder: Path) -> list[str]:
    """The peers of a run: those of its roster if it can still be read, else those that have a folder."""
    configs = entries(folder, "*/config.json")
    with contextlib.suppress(ConfigError):
        where = read_setting(configs[0], "peers") if configs else None
        if isinstance(where, str) and classify(where) == "roster":
            return list(load_roster(where).names)
    return [config.parent.name for config in configs]


def _is_serving(path: Path) -> bool:
    """Whether this result says that its peer still serves the others. A damaged result will not be written again."""
    with contextlib.suppress(ConfigError):
        return read_record(path, PeerRecord).serving
    return False


def _wrote_lately(folder: Path) -> bool:
    newest_s = max(map(changed_s, entries(folder, "*")), default=0.0)
    return time.time() - newest_s < _WRITES_EVERY_S

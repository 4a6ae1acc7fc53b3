"""Where events go: `events.jsonl` of the peer, and whoever watches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from gossipdistill.events import Event

Report = Callable[[dict[str, Any]], None]
"""Takes one record, a JSON-able dictionary with a `type`."""


class Recorder:
    """Appends events to a file and passes them on. `began_s` is the clock reading that the file calls 0."""

    def __init__(self, folder: Path, report: Report, began_s: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / "events.jsonl", "a", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
        self._report, self._began_s = report, began_s

    def record(self, event: Event) -> None:
        """Write one event at once: a killed process must leave its last words behind."""
        at_s = round(event.at_s - self._began_s, 3)
        entry: dict[str, Any] = {"at_s": at_s, "kind": event.kind.value, "peer": event.peer, "reason": event.reason}
        if event.detail:
            entry["detail"] = event.detail
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._report(
            {"type": "event", "at_s": at_s, "kind": event.kind.value, "peer": event.peer, "line": event.line()}
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

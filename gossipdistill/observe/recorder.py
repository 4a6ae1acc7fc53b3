"""Where events go: `events.jsonl` of the peer, and whoever watches. What is older than the newest lines that fit lies
in `events.1.jsonl`, and what is older still is gone: a peer may run for months beside one that comes and goes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from gossipdistill.events import Event

Report = Callable[[dict[str, Any]], None]
"""Takes one record, a JSON-able dictionary with a `type`."""


FILE, OLDER_FILE = "events.jsonl", "events.1.jsonl"
FILE_BYTES_MAX = 16 * 1024 * 1024
"""Of each of the two files; about a hundred thousand events."""


class Recorder:
    """Appends events to a file and passes them on. `began_s` is the clock reading that the file calls 0."""

    def __init__(self, folder: Path, report: Report, began_s: float, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bytes_max = folder, file_bytes_max
        self._report, self._began_s = report, began_s
        self._open()

    def _open(self) -> None:
        self._file: TextIO = open(self._folder / FILE, "a", encoding="utf-8")  # noqa: SIM115 - closed in __exit__
        self._bytes = os.fstat(self._file.fileno()).st_size

    def record(self, event: Event) -> None:
        """Write one event at once: a killed process must leave its last words behind."""
        at_s = round(event.at_s - self._began_s, 3)
        entry: dict[str, Any] = {"at_s": at_s, "kind": event.kind.value, "peer": event.peer, "reason": event.reason}
        if event.detail:
            entry["detail"] = event.detail
        line = json.dumps(entry) + "\n"
        if self._bytes + len(line) > self._bytes_max:
            self._file.close()
            os.replace(self._folder / FILE, self._folder / OLDER_FILE)
            self._open()
        self._bytes += len(line)  # JSON is ASCII
        self._file.write(line)
        self._file.flush()
        self._report(
            {"type": "event", "at_s": at_s, "kind": event.kind.value, "peer": event.peer, "line": event.line()}
        )

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

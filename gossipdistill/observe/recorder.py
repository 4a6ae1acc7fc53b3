"""Where events go: `events.jsonl` of the peer, and the display. What is older than the newest lines that fit lies
in `events.1.jsonl`, and what is older still is gone: a peer may run for months beside one that comes and goes."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import TracebackType

from gossipdistill.durable import Disk, reason_of
from gossipdistill.events import Event, EventKind
from gossipdistill.observe.told import Happened, Report

FILE, OLDER_FILE = "events.jsonl", "events.1.jsonl"
FILE_BYTES_MAX = 16 * 1024 * 1024
"""Of each of the two files; about a hundred thousand events."""


def event_line(event: Event, at_s: float) -> str:
    """The line of this event in `events.jsonl`, `at_s` after the start that the file calls 0."""
    entry = {"at_s": round(at_s, 3), "kind": event.kind.value, "peer": event.peer, "reason": event.reason}
    return json.dumps(entry | ({"detail": event.detail} if event.detail else {})) + "\n"


class Recorder:
    """Appends events to a file and passes them on. `began_s` is the clock reading that the file calls 0. A disk that
    takes no more ends nothing: that is said once, and how many events are missing at the end."""

    def __init__(
        self,
        folder: Path,
        report: Report,
        began_s: float,
        file_bytes_max: int = FILE_BYTES_MAX,
        disk: Disk | None = None,
    ) -> None:
        self._file, self._older, self._bytes_max = folder / FILE, folder / OLDER_FILE, file_bytes_max
        self._report, self._began_s = report, began_s
        self._disk = disk or Disk()
        self._bytes: int | None = None
        self._torn = False
        self._lost, self._reason = 0, ""

    @property
    def problem(self) -> str:
        """How many events are missing in the file, and why; empty where none is."""
        return f"{self._reason} ({self._lost} event{'s' * (self._lost > 1)} missing)" if self._lost else ""

    def prepare(self) -> None:
        """Make the file, and see how long it is.

        Raises:
            OSError: when it cannot be written.
        """
        self._disk.make_folder(self._file.parent)
        self._disk.append(self._file, b"")
        self._bytes = self._file.stat().st_size

    def record(self, event: Event) -> None:
        """Write one event at once: a killed process must leave its last words behind."""
        at_s = round(event.at_s - self._began_s, 3)
        self._report(Happened(at_s, event.kind.value, event.line(), event.peer))
        try:
            self._write(event_line(event, at_s))
        except OSError as error:
            error.filename = error.filename or str(self._file)
            self._lost += 1
            self._torn = True
            if not self._reason:
                self._reason = reason_of(error)
                line = f"warning: events cannot be written: {self._reason}"
                self._report(Happened(at_s, "warning", line))

    def _write(self, line: str) -> None:
        if self._bytes is None:
            self.prepare()
        if self._torn:
            line = "\n" + line  # what was begun is no event
        assert self._bytes is not None
        if self._bytes + len(line) > self._bytes_max:
            self._disk.rename(self._file, self._older)
            self._bytes, line = 0, line.lstrip()
        self._disk.append(self._file, line.encode("ascii"))
        self._bytes += len(line)  # JSON is ASCII
        self._torn = False

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._lost:
            event = Event(EventKind.WARNING, 0.0, "", f"events are missing: {self.problem}")
            with contextlib.suppress(OSError):
                self._write(event_line(event, event.at_s))

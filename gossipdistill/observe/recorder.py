"""Writes events into `events.jsonl` of the peer, and passes them to the display. When the file is full it becomes
`events.1.jsonl`, which replaces the one before: a peer may run for months beside one that comes and goes."""

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
"""Each of the two files has at most this many bytes, which is about a hundred thousand events."""


def event_line(event: Event, at_s: float) -> str:
    """The line of this event in `events.jsonl`; `at_s` is in seconds since the start, which is 0 in the file."""
    entry = {"at_s": round(at_s, 3), "kind": event.kind.value, "peer": event.peer, "reason": event.reason}
    return json.dumps(entry | ({"detail": event.detail} if event.detail else {})) + "\n"


class Recorder:
    """Appends events to a file and passes them on. `began_s` is the clock reading that is 0 in the file. A full disk
    ends nothing: it is reported once, and at the end the number of missing events is reported."""

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
        """The number of events missing in the file, and why; empty if none is."""
        return f"{self._reason} ({self._lost} event{'s' * (self._lost > 1)} missing)" if self._lost else ""

    def prepare(self) -> None:
        """Create the file, and read its length.

        Raises:
            OSError: when it cannot be written.
        """
        self._disk.make_folder(self._file.parent)
        self._disk.append(self._file, b"")
        self._bytes = self._file.stat().st_size

    def record(self, event: Event) -> None:
        """Write one event at once, so that a killed process has written its last events."""
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
            line = "\n" + line  # the partial line is not an event
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

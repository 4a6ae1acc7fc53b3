"""Standard output and error of a process whose disk may be full: a failing write loses its text, and ends nothing."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class _Unfailing(io.RawIOBase):
    """A descriptor to write to. Only a reader that has closed its end raises an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            return os.write(self._number, view)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            return len(view)


def unfailing(stream: TextIO) -> TextIO:
    """The same stream, which ignores failing writes: it is a log, and training goes on without it."""
    raw = _Unfailing(stream.fileno())
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors="backslashreplace", line_buffering=True
    )


def keep_going() -> None:
    """Prevent a full disk behind standard error from ending this process; a test's replacement stream is kept."""
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = unfailing(sys.stderr)

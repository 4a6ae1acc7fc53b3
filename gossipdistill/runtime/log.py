"""Standard output and error of a process whose disk may be full: what does not go there is lost, and ends nothing."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO


class _Unfailing(io.RawIOBase):
    """A descriptor to write to. Only a reader that has gone away is an error, as it is for everybody."""

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
    """The same stream, of which a failing write is passed over: it is a log, and training goes on without it."""
    raw = _Unfailing(stream.fileno())
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors="backslashreplace", line_buffering=True
    )


def keep_going() -> None:
    """Let no full disk behind standard error end this process; a test's stream in its place stays."""
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = unfailing(sys.stderr)

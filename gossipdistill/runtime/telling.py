"""Sends a worker's records to its launcher on a separate thread, so that no step ever waits for the reader.

A launcher may be stopped (Ctrl-Z, SIGSTOP) for any length of time. Then the pipe is full within seconds.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import TextIO

from gossipdistill.observe.told import Progress, Told, encoded

_RECORDS_MAX = 10_000
"""At most this many records wait to be written. Beyond that the oldest are dropped; they are on disk as well."""


class Telling:
    """Writes records as JSON lines, in order. A record of progress replaces an older one that is not written yet."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: deque[Told] = deque(maxlen=_RECORDS_MAX)
        self._news = threading.Condition()
        self._writing = False
        self._gone = False
        threading.Thread(target=self._write, daemon=True, name="telling").start()

    def __call__(self, record: Told) -> None:
        """Queue a record to be written (from any thread).

        Raises:
            BrokenPipeError: when the reader has closed the pipe.
        """
        with self._news:
            if self._gone:
                raise BrokenPipeError
            if self._waiting and isinstance(record, Progress) and isinstance(self._waiting[-1], Progress):
                self._waiting.pop()
            self._waiting.append(record)
            self._news.notify_all()

    def settle(self) -> None:
        """Return when all is written, or the reader has closed the pipe."""
        with self._news:
            self._news.wait_for(lambda: self._gone or not (self._waiting or self._writing))

    def _write(self) -> None:
        while True:
            with self._news:
                self._writing = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting)
                record, self._writing = self._waiting.popleft(), True
            try:
                self._out.write(json.dumps(encoded(record)) + "\n")
                self._out.flush()
            except (OSError, ValueError):
                with self._news:
                    self._gone = True
                    self._news.notify_all()
                return

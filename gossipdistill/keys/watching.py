"""Detects that the roster's keys have changed while a worker runs: a peer was revoked, trusted, or has a new key.

A separate thread reads the file every `LOOK_EVERY_S` seconds, and takes only keys from it. If the file cannot be read,
trusted peers stay trusted, and a warning is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from gossipdistill.errors import ConfigError
from gossipdistill.roster import read_roster

LOOK_EVERY_S = 1.0


class KeyWatch:
    """Calls `changed` with the public keys by name and the names of revoked peers, at the first look and after each
    change; and `warn` with the reason why a file cannot be used."""

    def __init__(
        self,
        file: Path,
        changed: Callable[[Mapping[str, str], frozenset[str]], None],
        warn: Callable[[str], None],
    ) -> None:
        self._file, self._changed, self._warn = file, changed, warn
        self._known: tuple[Mapping[str, str], frozenset[str]] | None = None
        self._seen = (0, 0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="keys")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Read the file once."""
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            roster = read_roster(self._file)
        except ConfigError as error:
            self._warn(f"the keys stay as they are: {error}")
            return
        if (roster.trusted, roster.revoked) != self._known:
            self._known = (roster.trusted, roster.revoked)
            self._changed(roster.trusted, roster.revoked)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.look()

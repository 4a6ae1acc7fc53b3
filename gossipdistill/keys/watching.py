"""Notice that the roster's keys have changed while a worker runs: somebody was revoked, trusted, or has a new key.

The file is looked at every `LOOK_EVERY_S`, on a thread of its own; only keys are taken from it. One that cannot be read
changes nothing: trusted peers stay trusted, and it is said.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from gossipdistill.errors import ConfigError
from gossipdistill.roster import read_roster

LOOK_EVERY_S = 1.0


class KeyWatch:
    """Tells `changed` the public keys by name, and who is revoked, at the first look and whenever they are others; and
    `warn` why a file cannot be used."""

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
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look once."""
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

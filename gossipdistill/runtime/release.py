"""The launcher's "go", and what it says about how long the others have been training already."""

from __future__ import annotations

import threading
import time


class Release(threading.Event):
    """Set when training may begin. `began_s` is what this process's monotonic clock read at the start of the run."""

    began_s: float | None = None

    def give(self, ago_s: float = 0.0) -> None:
        """Training may begin, and the run began `ago_s` seconds ago (a restarted peer is late)."""
        self.began_s = time.monotonic() - ago_s
        self.set()

    def heard(self, line: str) -> None:
        """One line of the launcher: `go`, or `go SECONDS`."""
        word, _, ago_s = line.partition(" ")
        if word == "go":
            self.give(float(ago_s or 0.0))

"""The launcher's "go", with the time for which the other peers have been training."""

from __future__ import annotations

import threading
import time


class Release(threading.Event):
    """An event that is set when training may begin. `began_s` is the start of the run on this process's monotonic
    clock."""

    began_s: float | None = None

    def give(self, ago_s: float = 0.0) -> None:
        """Let training begin. The run began `ago_s` seconds ago, which is more than 0 for a restarted peer."""
        self.began_s = time.monotonic() - ago_s
        self.set()

    def heard(self, line: str) -> None:
        """Handle one line of the launcher: `go`, or `go SECONDS`."""
        word, _, ago_s = line.partition(" ")
        if word == "go":
            self.give(float(ago_s or 0.0))

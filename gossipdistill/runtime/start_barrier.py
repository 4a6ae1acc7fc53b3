"""Waits until a worker process may train: its launcher says so, or enough of the others are there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from gossipdistill.config.spec import WorkerSpec
from gossipdistill.events import Event, EventKind
from gossipdistill.mailbox import Mailbox
from gossipdistill.observe.recorder import Recorder
from gossipdistill.observe.told import Report, Waiting
from gossipdistill.runtime.release import Release
from gossipdistill.runtime.stopping import StopRequest
from gossipdistill.runtime.welcome import Welcome

_LOOK_EVERY_S = 0.02
_IN_PROGRESS_AFTER_S = 1.0
_SAY_WAITING_AFTER_S, _SAY_WAITING_EVERY_S = 0.5, 2.0


@dataclass
class StartBarrier:
    """Waits for the start. `look` is called repeatedly meanwhile, and may end the process."""

    spec: WorkerSpec
    report: Report
    stop: StopRequest
    released: Release
    mailbox: Mailbox
    recorder: Recorder
    welcome: Welcome

    def wait(self, look: Callable[[], None]) -> None:
        """Wait until the launcher says go. Without a launcher: until `start_when` peers are there, or `start_within_s`
        is over."""
        if not self.spec.released_by_launcher:
            self._wait_for_peers(look)
            return
        while self.stop.reason is None and not self.released.wait(_LOOK_EVERY_S):
            look()

    def run_is_in_progress(self) -> bool:
        """Whether others began to train some time before this process, according to its launcher."""
        released_s = self.released.began_s
        return released_s is None or time.monotonic() - released_s >= _IN_PROGRESS_AFTER_S

    def _wait_for_peers(self, look: Callable[[], None]) -> None:
        spec, began_s = self.spec, time.monotonic()
        deadline_s, say_at_s = began_s + spec.start_within_s, began_s + _SAY_WAITING_AFTER_S
        while self.stop.reason is None:
            look()
            neighbourhood, now = self.mailbox.neighbourhood(), time.monotonic()
            here = 1 + len(neighbourhood.alive)
            if here >= spec.start_when and not self.welcome.in_flight():
                return
            missing = sorted(map(str, set(neighbourhood.statuses) - neighbourhood.alive)) or ["peers not known yet"]
            names = ", ".join(missing)
            if now >= deadline_s:
                reason = f"starting with {here} of {spec.start_when} peers; did not come: {names}"
                self.recorder.record(Event(EventKind.WARNING, now, "", reason))
                return
            if now >= say_at_s:
                say_at_s = now + _SAY_WAITING_EVERY_S
                text = f"{here} of {spec.start_when} peers here; waiting {deadline_s - now:.0f} s more for {names}"
                self.report(Waiting(text, names))
            time.sleep(_LOOK_EVERY_S)

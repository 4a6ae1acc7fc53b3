"""The progress of a worker process in its run, in steps and in seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from gossipdistill.config.schema import RunConfig
from gossipdistill.observe.clock_words import left_s
from gossipdistill.runtime.release import Release


@dataclass
class RunClock:
    """In its methods, `now` is a reading of the monotonic clock (s), and `step` is the number of steps made by then."""

    config: RunConfig
    released: Release
    elapsed_before_s: float = 0.0
    """The seconds of the run that were over when the checkpoint was written that this process resumes from."""
    began_s: float = 0.0
    """The monotonic time (s) at which this process began to train; 0 before that."""
    steps_before: int = 0
    """The number of steps made by earlier processes of this name."""
    _cpu_began_s: float = 0.0

    @classmethod
    def after(cls, progress: Mapping[str, float], config: RunConfig, released: Release) -> RunClock:
        """The clock of a process that resumes from a checkpoint with this progress, which is empty without a
        checkpoint."""
        return cls(config, released, carried_over_s(progress.get("elapsed_s", 0.0), config.seconds))

    def begin(self, step: int) -> None:
        """This process begins to train; earlier processes have made `step` steps."""
        self.began_s, self._cpu_began_s, self.steps_before = time.monotonic(), time.process_time(), step

    @property
    def run_began_s(self) -> float:
        """The monotonic time (s) at which the run began. A peer that is restarted during a run ends together with the
        others; a resumed run has the rest of its seconds."""
        began_s = self.began_s if self.released.began_s is None else self.released.began_s
        return min(began_s, self.began_s - self.elapsed_before_s)

    def cpu_s(self) -> float:
        """The CPU seconds of this process since it began to train."""
        return time.process_time() - self._cpu_began_s

    def is_over(self, now: float) -> bool:
        """Whether the seconds of the run are over."""
        return self.config.seconds is not None and now - self.run_began_s >= self.config.seconds

    def share(self, now: float, step: int) -> float:
        """The share of the run that is over, 0 to 1, by the nearer limit."""
        shares = [step / self.config.steps] if self.config.steps else []
        if self.config.seconds:
            shares.append((now - self.run_began_s) / self.config.seconds)
        return min(max(shares), 1.0)

    def steps_per_s(self, now: float, step: int) -> float:
        """Steps per second of this process."""
        return (step - self.steps_before) / max(now - self.began_s, 1e-9)

    def left_s(self, now: float, step: int) -> float | None:
        """Seconds until the nearer limit, at the pace so far."""
        steps_left = self.config.steps - step if self.config.steps else None
        seconds_left = self.config.seconds - (now - self.run_began_s) if self.config.seconds else None
        return left_s(steps_left, self.steps_per_s(now, step), seconds_left)


def carried_over_s(elapsed_s: float, seconds: float | None) -> float:
    """The seconds that count as over when a run limited to `seconds` resumes from a checkpoint written after
    `elapsed_s`. A run that was cut short has the rest of its seconds; a run that had ended has all of them again."""
    return elapsed_s if seconds is not None and elapsed_s < seconds else 0.0

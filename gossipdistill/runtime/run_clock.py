"""How far a worker process is in its run, by steps and by seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from gossipdistill.config.schema import RunConfig
from gossipdistill.observe.clock_words import left_s
from gossipdistill.runtime.release import Release


@dataclass
class RunClock:
    """`now` are readings of the monotonic clock (s), `step` the number of steps that the peer has made by then."""

    config: RunConfig
    released: Release
    elapsed_before_s: float = 0.0
    """Seconds of the run that were over when the checkpoint was written from which this process goes on."""
    began_s: float = 0.0
    """When this process began to train; 0 before that."""
    steps_before: int = 0
    """The processes of this name before this one have made this many."""
    _cpu_began_s: float = 0.0

    @classmethod
    def after(cls, progress: Mapping[str, float], config: RunConfig, released: Release) -> RunClock:
        """For a process that goes on from a checkpoint of this progress, which is empty for one that begins."""
        return cls(config, released, carried_over_s(progress.get("elapsed_s", 0.0), config.seconds))

    def begin(self, step: int) -> None:
        """This process begins to train, after so many steps of others."""
        self.began_s, self._cpu_began_s, self.steps_before = time.monotonic(), time.process_time(), step

    @property
    def run_began_s(self) -> float:
        """A peer that is restarted while the others go on ends with them; a run that is resumed, after the rest of its
        seconds."""
        began_s = self.began_s if self.released.began_s is None else self.released.began_s
        return min(began_s, self.began_s - self.elapsed_before_s)

    def cpu_s(self) -> float:
        """Of this process, since it began to train."""
        return time.process_time() - self._cpu_began_s

    def is_over(self, now: float) -> bool:
        """Whether the seconds of the run are over."""
        return self.config.seconds is not None and now - self.run_began_s >= self.config.seconds

    def share(self, now: float, step: int) -> float:
        """How much of the run is over, 0 to 1, by the limit that is nearer."""
        shares = [step / self.config.steps] if self.config.steps else []
        if self.config.seconds:
            shares.append((now - self.run_began_s) / self.config.seconds)
        return min(max(shares), 1.0)

    def steps_per_s(self, now: float, step: int) -> float:
        """Of this process."""
        return (step - self.steps_before) / max(now - self.began_s, 1e-9)

    def left_s(self, now: float, step: int) -> float | None:
        """Until the nearer limit, at the pace so far."""
        steps_left = self.config.steps - step if self.config.steps else None
        seconds_left = self.config.seconds - (now - self.run_began_s) if self.config.seconds else None
        return left_s(steps_left, self.steps_per_s(now, step), seconds_left)


def carried_over_s(elapsed_s: float, seconds: float | None) -> float:
    """What of a run by `seconds` is over when it goes on from a checkpoint of this age of the run. A run that was cut
    short goes on with the rest of them, and one that had ended has all of them once more."""
    return elapsed_s if seconds is not None and elapsed_s < seconds else 0.0

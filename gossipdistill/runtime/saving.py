"""Checkpoints of a worker process: taken at intervals, on a signal and at the end; written on a separate thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from gossipdistill.config.schema import RunConfig
from gossipdistill.durable import CheckpointFolder, reason_of
from gossipdistill.events import Event, EventKind
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.keeping import UnkeptError
from gossipdistill.learning.teachers import RunningLoss
from gossipdistill.runtime.resuming import settings_of
from gossipdistill.runtime.run_clock import RunClock
from gossipdistill.training.worker import Worker

_FIRST_AFTER_S = 1.0
_LAST_S = 60.0
"""The last checkpoint may take at most this many seconds."""


@dataclass
class Rhythm:
    """When a checkpoint is due: `every_s` seconds after the one before; 0 for never. After a start the intervals are
    shorter and double each time, so that a peer that is lost early loses at most half of its work."""

    every_s: float
    _next_s: float = 0.0
    _gap_s: float = _FIRST_AFTER_S

    def begin(self, now: float) -> None:
        """The training begins."""
        self._gap_s = min(_FIRST_AFTER_S, self.every_s)
        self._next_s = now + self._gap_s

    def due(self, now: float) -> bool:
        """Whether a checkpoint is due."""
        return self.every_s > 0 and now >= self._next_s

    def taken(self, now: float) -> None:
        """A checkpoint is being taken, because it was due or requested."""
        self._next_s = now + self._gap_s
        self._gap_s = min(2 * self._gap_s, self.every_s)


@dataclass
class Saver:
    """Writes the newest of the copies that it is given; the trainer never waits for the disk. Errors are reported and
    training goes on: the checkpoint before is still there."""

    folder: CheckpointFolder
    _next: tuple[Checkpoint, float | None] | None = None
    _busy: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    problem: str = ""
    """It says why the last requested checkpoint could not be written, and what is on disk instead; empty if it was."""
    _news: list[str] = field(default_factory=list)

    def save(self, checkpoint: Checkpoint, score: float | None = None) -> None:
        """Have it written; returns at once. It replaces a checkpoint that still waits to be written."""
        with self._changed:
            self._next = (checkpoint, score)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def failed(self, error: Exception) -> None:
        """A requested checkpoint could not be copied, for this error."""
        with self._changed:
            self._note(error)

    def settle(self, within_s: float) -> bool:
        """Wait until nothing is left to write; False after `within_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next is None and not self._busy, within_s)

    def news(self) -> list[str]:
        """The changes since the last call in whether checkpoints can be written, in words."""
        with self._changed:
            news, self._news = self._news, []
            return news

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None)
                assert self._next is not None
                (checkpoint, score), self._next, self._busy = self._next, None, True
            problem: Exception | None = None
            try:
                self.folder.save(*checkpoint.encode(), score)
            except Exception as error:  # a full disk, or a state that is not JSON: training goes on in any case
                problem = error
            with self._changed:
                self._busy = False
                self._note(problem)
                self._changed.notify_all()

    def _note(self, error: Exception | None) -> None:
        """Note the result of the last attempt; the caller holds the lock."""
        before, self.problem = self.problem, ""
        if error is not None:
            stays = "the one before it stays" if self.folder.holds_some() else "there is none yet"
            reason = str(error) if isinstance(error, UnkeptError) else reason_of(error)
            self.problem = f"{reason}; {stays}"
        if self.problem and not before:
            self._news.append(f"no checkpoint could be written: {self.problem}")
        elif before and not self.problem:
            self._news.append("checkpoints can be written again")


@dataclass
class Checkpoints:
    """Decides when a checkpoint of one worker process is taken, and adds the progress of the run to it. `starts` is the
    number of processes of this name so far."""

    worker: Worker
    config: RunConfig
    saver: Saver
    clock: RunClock
    starts: int
    _loss: RunningLoss = field(default_factory=RunningLoss)
    _rhythm: Rhythm = field(init=False)

    def __post_init__(self) -> None:
        self._rhythm = Rhythm(self.config.train.checkpoint_every_s)

    def begin(self, now: float) -> None:
        """The training begins."""
        self._rhythm.begin(now)

    def stepped(self, loss: float) -> None:
        """A step is over with this loss. The best checkpoint is the one with the lowest running loss."""
        self._loss.look(loss)

    def look(self, now: float, wanted: bool) -> None:
        """Take a checkpoint if it is due or `wanted`."""
        if wanted or self._rhythm.due(now):
            self._rhythm.taken(now)
            self.save()

    def save(self) -> None:
        """Take a checkpoint now, and have it written."""
        elapsed_s = time.monotonic() - self.clock.run_began_s
        progress = {"elapsed_s": elapsed_s, "starts": self.starts, "saved_unix_s": time.time()}
        try:
            checkpoint = replace(self.worker.checkpoint(**progress), settings=settings_of(self.config))
        except Exception as error:  # such as a state that cannot be copied: training goes on in any case
            self.saver.failed(error)
            return
        self.saver.save(checkpoint, self._loss.value if self._loss.looks else None)

    def settle(self) -> None:
        """Wait until the last checkpoint is on disk; only then may this peer report that it is done."""
        if not self.saver.settle(_LAST_S):
            self.saver.failed(TimeoutError(f"the disk has not taken it within {_LAST_S:.0f} s"))

    def news(self, now: float) -> list[Event]:
        """Events about failed and recovered checkpoints since the last call."""
        return [Event(EventKind.WARNING, now, "", problem) for problem in self.saver.news()]

    def unwritten(self) -> list[str]:
        """Why the last checkpoint is not on disk; empty if it is."""
        return [f"the last checkpoint: {self.saver.problem}"] if self.saver.problem else []

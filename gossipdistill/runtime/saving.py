"""Checkpoints of a worker process: written on a thread of their own, asked for by time, by a signal and by the end."""

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
"""The most time that the last checkpoint may take."""


@dataclass
class Rhythm:
    """When a checkpoint is due: `every_s` after the one before, 0 for never. After a start they come sooner, each after
    twice as long as the one before, so that who is lost early loses at most half of what it did."""

    every_s: float
    _next_s: float = 0.0
    _gap_s: float = _FIRST_AFTER_S

    def begin(self, now: float) -> None:
        """The training begins."""
        self._gap_s = min(_FIRST_AFTER_S, self.every_s)
        self._next_s = now + self._gap_s

    def due(self, now: float) -> bool:
        """Whether one is due."""
        return self.every_s > 0 and now >= self._next_s

    def taken(self, now: float) -> None:
        """One is being taken, because it was due or asked for."""
        self._next_s = now + self._gap_s
        self._gap_s = min(2 * self._gap_s, self.every_s)


@dataclass
class Saver:
    """Takes copies and writes the newest; the trainer never waits for a disk. What goes wrong is said, and training
    goes on: the checkpoint before is still there."""

    folder: CheckpointFolder
    _next: tuple[Checkpoint, float | None] | None = None
    _busy: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread | None = None
    problem: str = ""
    """Why the last one that was asked for could not be written, and what there is in its place; empty where it was."""
    _news: list[str] = field(default_factory=list)

    def save(self, checkpoint: Checkpoint, score: float | None = None) -> None:
        """Have it written; returns at once. One that still waits for its turn gives way to this one."""
        with self._changed:
            self._next = (checkpoint, score)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def failed(self, error: Exception) -> None:
        """No copy could be taken for one that was asked for."""
        with self._changed:
            self._note(error)

    def settle(self, within_s: float) -> bool:
        """Wait until nothing is left to write; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next is None and not self._busy, within_s)

    def news(self) -> list[str]:
        """What went wrong since the last call, once per change, in words."""
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
            except Exception as error:  # a full disk, or a state that is no JSON: whatever it is, the training goes on
                problem = error
            with self._changed:
                self._busy = False
                self._note(problem)
                self._changed.notify_all()

    def _note(self, error: Exception | None) -> None:
        """What came of the last attempt; called with the lock."""
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
    """The checkpoints of one worker process: when one is taken, and what it says of the run. `starts` counts the
    processes of this name."""

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
        """A step is over; the best checkpoint is that of the least running loss."""
        self._loss.look(loss)

    def look(self, now: float, wanted: bool) -> None:
        """Take one if it is due or `wanted`."""
        if wanted or self._rhythm.due(now):
            self._rhythm.taken(now)
            self.save()

    def save(self) -> None:
        """Take one now, and have it written."""
        elapsed_s = time.monotonic() - self.clock.run_began_s
        progress = {"elapsed_s": elapsed_s, "starts": self.starts, "saved_unix_s": time.time()}
        try:
            checkpoint = replace(self.worker.checkpoint(**progress), settings=settings_of(self.config))
        except Exception as error:  # whatever it is (a state that cannot be kept): the training goes on
            self.saver.failed(error)
            return
        self.saver.save(checkpoint, self._loss.value if self._loss.looks else None)

    def settle(self) -> None:
        """The last one is to lie on the disk before anybody hears that this peer is done."""
        if not self.saver.settle(_LAST_S):
            self.saver.failed(TimeoutError(f"the disk has not taken it within {_LAST_S:.0f} s"))

    def news(self, now: float) -> list[Event]:
        """What went wrong since the last call."""
        return [Event(EventKind.WARNING, now, "", problem) for problem in self.saver.news()]

    def unwritten(self) -> list[str]:
        """Why the last one is not on the disk, if it is not."""
        return [f"the last checkpoint: {self.saver.problem}"] if self.saver.problem else []

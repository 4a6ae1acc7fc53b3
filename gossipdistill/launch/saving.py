"""Checkpoints of a worker process: written on a thread of their own, asked for by time, by a signal and by the end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from gossipdistill.durable import CheckpointFolder, reason_of
from gossipdistill.learning.checkpoint import Checkpoint
from gossipdistill.learning.keeping import UnkeptError


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

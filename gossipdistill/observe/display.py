"""Live progress: one row per peer on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from gossipdistill.observe.clock_words import clock_words
from gossipdistill.observe.fitting import Column, Fitting
from gossipdistill.observe.notices import Notices
from gossipdistill.observe.told import (
    Done,
    Exited,
    Failure,
    Happened,
    Phase,
    Progress,
    Ready,
    Restarting,
    Started,
    Told,
    Waiting,
)
from gossipdistill.printable import printable

_PLAIN_EVERY_S = 5.0
_PLAIN_PEERS_MAX = 8
"""With more peers than this, one line shows all of them together."""
_NAMES_MAX = 4
_STATE_CHARS_MAX = 34
_QUIET_KINDS = {"started", "joined", "finished", "left", "fault", "left_out", "listened_to"}
"""These kinds of events are frequent in a healthy run. They are shown in the row or in the story, not as separate
lines."""
_COLUMNS = (
    Column("peer"),
    Column("process"),
    Column("state"),
    Column("", dispensable=5),
    Column("step", right=True),
    Column("steps/s", right=True, dispensable=4),
    Column("loss", right=True, dispensable=3),
    Column("accuracy", right=True),
    Column("exchanges", right=True, dispensable=2),
    Column("peers"),
    Column("left", right=True),
)


@dataclass
class Row:
    """The displayed state of one peer."""

    pid: int = 0
    state: str = "starting"
    record: Progress | None = None


class Display:
    """Displays the records of a `LocalRun`; use it as a context manager around the run."""

    def __init__(self, console: Console, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._title, self._clock = console, title, clock
        self._rows: dict[str, Row] = {}
        self._began_s = self._said_s = clock()
        self._waiting: dict[str, tuple[float, str | None]] = {}
        self._ended = threading.Event()
        self._talking = threading.RLock()
        self._notices = Notices()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self.__rich__)
        self._is_live = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        else:
            self._say(self._title)
            # A peer that starts or waits may send no record for a long time.
            threading.Thread(target=self._tick, daemon=True, name="progress").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._say_notices(math.inf)
        if self._is_live:
            self._live.stop()

    def _tick(self) -> None:
        while not self._ended.wait(_PLAIN_EVERY_S / 5):
            self._say_notices(time.monotonic())
            self.say_progress()

    def __call__(self, name: str, record: Told) -> None:
        """Take one record of the peer `name`."""
        if not name:  # a record of the whole run: its fault plan
            if isinstance(record, Happened):
                self._say(f"{record.at_s:7.2f} s  {record.line}", "magenta")
            return
        row = self._rows.setdefault(name, Row())
        match record:
            case Started():
                row.pid, row.state = record.pid, "starting"
                if not self._is_live:
                    self._say(f"{name}: process {row.pid}")
            case Phase():
                row.state = record.text
            case Ready():
                row.state = READY
                if record.told:
                    self._say(f"{name}: {record.told}")
            case Progress():
                row.state, row.record = TRAINING, record
            case Waiting():
                row.state = f"waits for {record.awaited}"
                self._say_waiting(name, record)
            case Done():
                row.state = "done, serves the others"
            case Exited():
                row.state = (record.status or "finished") if record.finished else "gone"
                if not record.finished:
                    self._say(f"{name} (process {row.pid}) is gone: {record.how}", "red")
            case Restarting():
                row.state = "restarting"
                self._say(f"{name}: restarting, {record.attempt} of at most {record.of}", "yellow")
            case Failure():
                with self._talking:
                    self._notices.add(time.monotonic(), None, name, record.message)
            case Happened() if record.kind not in _QUIET_KINDS:
                with self._talking:
                    self._notices.add(time.monotonic(), record.at_s, name, record.line)
        self._say_notices(time.monotonic())
        self.say_progress()

    def _say_waiting(self, name: str, record: Waiting) -> None:
        """Without rows, print which peers a peer waits for, when they change and every few seconds."""
        at_s, names = self._waiting.get(name, (-math.inf, None))
        awaited = record.awaited
        if not self._is_live and (names != awaited or self._clock() - at_s >= _PLAIN_EVERY_S):
            self._waiting[name] = (self._clock(), awaited)
            self._said_s = self._clock()
            self._say(f"{name}: {record.text}", "yellow")

    def _say_notices(self, now_s: float) -> None:
        with self._talking:
            due = self._notices.due(now_s)
        for at_s, names, line in due:
            if at_s is None:
                self._say(f"{', '.join(names)}: {line}", "red")
            else:
                self._say(f"{at_s:7.2f} s  {', '.join(names)} | {line}", "yellow")

    def _say(self, line: str, style: str = "") -> None:
        # Above the live rows, so that it stays when they are removed.
        self._console.print(Text(printable(line), style=style), soft_wrap=not self._is_live)

    def say_progress(self) -> None:
        """Without a terminal, print every few seconds what the peers are doing."""
        with self._talking:
            now = self._clock()
            if self._is_live or now - self._said_s < _PLAIN_EVERY_S:
                return
            self._said_s = now
            rows = list(self._rows.items())
            training = [(name, row.record) for name, row in rows if row.state == TRAINING and row.record]
            if not training:
                told = self._starting(rows)
                if told:
                    self._say(f"{clock_words(now - self._began_s)} since the start: {told}")
            elif len(training) <= _PLAIN_PEERS_MAX:
                for name, record in training:
                    self._say(f"{name}: {progress_words(record)}")
            else:
                name, record = min(training, key=lambda one: one[1].share)
                self._say(f"{len(training)} peers train; the last of them, {name}: {progress_words(record)}")

    def _starting(self, rows: Sequence[tuple[str, Row]]) -> str:
        """What the run waits for before any peer trains: the peers, grouped by what they do."""
        doing: dict[str, list[str]] = {}
        for name, row in rows:
            if not row.record and row.state not in _ENDS:
                doing.setdefault(row.state, []).append(name)
        return "; ".join(f"{_names(names)}: {state}" for state, names in doing.items())

    def __rich__(self) -> RenderableType:
        """A title, a line of time, and a row for each peer."""
        # A copy, because another thread draws it.
        rows = list(self._rows.items())
        late = [name for name, row in rows if row.state not in (READY, TRAINING, *_ENDS) and not row.record]
        cells = [_cells(name, row, late) for name, row in rows]
        return Group(Text(self._title, style="bold"), Text(self._time(rows)), Fitting(_columns(rows), cells))

    def _time(self, rows: Sequence[tuple[str, Row]]) -> str:
        """The elapsed and the remaining time."""
        records = [row.record for _, row in rows if row.record]
        since_start = clock_words(self._clock() - self._began_s)
        if not records:
            return f"starting for {since_start}"
        training = [row.record for _, row in rows if row.record and row.state == TRAINING]
        elapsed = f"{since_start} since the start, {clock_words(max(r.elapsed_s for r in records))} of training"
        if not training:
            return elapsed
        known = [r.left_s for r in training if r.left_s is not None]
        return f"{elapsed}, " + (f"about {clock_words(max(known))} left" if known else "the end is not known yet")


READY, TRAINING = "ready", "training"
_ENDS = ("gone", "finished", "failed", "left", "interrupted", "lost", "diverged", "collapsed", "short")


def progress_words(record: Progress) -> str:
    """One record of progress as a line."""
    r = record
    parts = [
        f"step {r.step} ({100 * r.share:.0f} %)",
        f"{r.steps_per_s:.1f} steps/s",
        f"loss {_loss(r)}",
        *([f"{_validation_name(r)} {_validation(r)}"] if _validation(r) else []),
        f"{r.exchanges} exchanges",
        f"{r.alive} of {r.expected} peers",
    ]
    times = f"{clock_words(r.elapsed_s)} of training"
    times += f", about {clock_words(r.left_s)} left" if r.left_s is not None else ""
    return f"{', '.join(parts)}; {times}"


def _columns(rows: Sequence[tuple[str, Row]]) -> Sequence[Column]:
    """The columns; if a task has no accuracy, the loss on validation rows is shown in its place."""
    lacking = any(row.record and row.record.val_rows and row.record.val_accuracy is None for _, row in rows)
    return [replace(c, title="val. loss") if lacking and c.title == "accuracy" else c for c in _COLUMNS]


def _cells(name: str, row: Row, late: Sequence[str]) -> list[RenderableType]:
    r = row.record
    bar = ProgressBar(total=1.0, completed=r.share if r else 0.0, width=12)
    state = row.state
    if state == READY:
        state = f"ready, waits for {_names(late)}" if late else "ready"
    state = printable(state if len(state) <= _STATE_CHARS_MAX else f"{state[: _STATE_CHARS_MAX - 3]}...")
    if r is None:
        return [name, str(row.pid), Text(state), bar, *[""] * (len(_COLUMNS) - 4)]
    seen = Text(f"{r.alive} of {r.expected}", style="" if r.alive == r.expected else "yellow")
    pace = f"{r.steps_per_s:.1f}"
    sees = "" if row.state == "gone" else seen
    left = r.left_s if row.state == TRAINING else None
    return [
        name,
        str(row.pid),
        Text(state),
        bar,
        str(r.step),
        pace,
        _loss(r),
        _validation(r),
        str(r.exchanges),
        sees,
        clock_words(left) if left is not None else "",
    ]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_MAX]) + (f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else "")


def _validation_name(record: Progress) -> str:
    return "accuracy" if record.val_accuracy is not None else "validation loss"


def _validation(record: Progress) -> str:
    """The approximate accuracy on some of the validation rows, or the loss if there is no accuracy; "" before the first
    measurement."""
    accuracy, loss = record.val_accuracy, record.val_loss
    if accuracy is not None:
        return f"~{100 * accuracy:.0f} %"
    return f"~{loss:.3f}" if loss is not None else ""


def _loss(record: Progress) -> str:
    return "not finite" if record.loss is None else f"{record.loss:.3f}"

"""Live progress: one row per peer on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from gossipdistill.observe.fitting import Column, Fitting
from gossipdistill.observe.notices import Notices
from gossipdistill.printable import printable

_PLAIN_EVERY_S = 5.0
_QUIET_KINDS = {"started", "joined", "finished", "left", "fault", "left_out", "listened_to"}
"""Kinds of events that a healthy run is full of: shown in the row, or in the story, not as lines of their own."""
_COLUMNS = (
    Column("peer"),
    Column("process"),
    Column("state"),
    Column("", dispensable=3),
    Column("step", right=True),
    Column("steps/s", right=True, dispensable=1),
    Column("loss", right=True, dispensable=2),
    Column("exchanges", right=True),
    Column("peers"),
)


@dataclass
class Row:
    """What is shown of one peer."""

    pid: int = 0
    state: str = "starting"
    record: dict[str, Any] = field(default_factory=dict)


class Display:
    """Takes what `LocalRun` watches; use it as a context manager around the run."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._rows: dict[str, Row] = {}
        self._said_s = time.monotonic()
        self._notices = Notices()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._render)
        self._is_live = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        else:
            self._say(self._title)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._say_notices(math.inf)
        if self._is_live:
            self._live.stop()

    def __call__(self, name: str, record: dict[str, Any]) -> None:
        """One record of the peer `name`."""
        if not name:  # of the run as a whole: its fault plan
            self._say(f"{record['at_s']:7.2f} s  {record['line']}", "magenta")
            return
        row = self._rows.setdefault(name, Row())
        match record.get("type"):
            case "started":
                row.pid, row.state = record["pid"], "starting"
                if not self._is_live:
                    self._say(f"{name}: process {row.pid}")
            case "ready":
                row.state = "ready"
            case "progress":
                row.state, row.record = "training", record
            case "waiting":
                row.state = "waiting for others"
                self._say(f"{name}: {record['text']}", "yellow")
            case "done":
                row.state = "done, serving"
            case "exited":
                row.state = str(record.get("status") or "finished") if record["finished"] else "gone"
                if not record["finished"]:
                    self._say(f"{name} (process {row.pid}) is gone: {record['how']}", "red")
            case "restarting":
                row.state = "restarting"
                self._say(f"{name}: restarting, {record['attempt']} of at most {record['of']}", "yellow")
            case "error":
                self._say(f"{name}: {record['message']}", "red")
            case "event" if record["kind"] not in _QUIET_KINDS:
                self._notices.add(time.monotonic(), record["at_s"], name, record["line"])
        self._say_notices(time.monotonic())
        self._say_progress()

    def _say_notices(self, now_s: float) -> None:
        for at_s, names, line in self._notices.due(now_s):
            self._say(f"{at_s:7.2f} s  {', '.join(names)} | {line}", "yellow")

    def _say(self, line: str, style: str = "") -> None:
        # Above the live rows, so that it stays when they are gone.
        self._console.print(Text(printable(line), style=style), soft_wrap=not self._is_live)

    def _say_progress(self) -> None:
        now = time.monotonic()
        if self._is_live or now - self._said_s < _PLAIN_EVERY_S:
            return
        self._said_s = now
        for name, row in self._rows.items():
            if row.state == "training" and row.record:
                r = row.record
                self._say(
                    f"{name}: step {r['step']} ({100 * r['share']:.0f} %), {r['steps_per_s']:.1f} steps/s, "
                    f"loss {_loss(r)}, {r['exchanges']} exchanges, {r['alive']} of {r['expected']} peers"
                )

    def _render(self) -> RenderableType:
        # A copy: it is drawn by a thread of its own.
        rows = [_cells(name, row) for name, row in list(self._rows.items())]
        return Group(Text(self._title, style="bold", no_wrap=True, overflow="ellipsis"), Fitting(_COLUMNS, rows))


def _cells(name: str, row: Row) -> list[RenderableType]:
    r = row.record
    bar = ProgressBar(total=1.0, completed=r.get("share", 0.0), width=18)
    if not r:
        return [name, str(row.pid), row.state, bar, "", "", "", "", ""]
    seen = Text(f"{r['alive']} of {r['expected']}", style="" if r["alive"] == r["expected"] else "yellow")
    pace = f"{r['steps_per_s']:.1f}"
    sees = "" if row.state == "gone" else seen
    return [name, str(row.pid), row.state, bar, str(r["step"]), pace, _loss(r), str(r["exchanges"]), sees]


def _loss(record: dict[str, Any]) -> str:
    return "not finite" if record["loss"] is None else f"{record['loss']:.3f}"

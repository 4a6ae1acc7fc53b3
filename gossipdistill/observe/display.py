"""Live progress: one row per peer on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LINES_KEPT = 6
_PLAIN_EVERY_S = 5.0
_QUIET_KINDS = {"started", "joined", "finished", "left"}
"""Kinds of events that a healthy run is full of: shown in the row, not as lines of their own."""


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
        self._lines: list[str] = []
        self._said_s = time.monotonic()
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._render)
        self._is_live = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> Display:
        if self._is_live:
            self._live.start()
        else:
            self._console.print(self._title, highlight=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_live:
            self._live.stop()

    def __call__(self, name: str, record: dict[str, Any]) -> None:
        """One record of the peer `name`."""
        row = self._rows.setdefault(name, Row())
        match record.get("type"):
            case "started":
                row.pid, row.state = record["pid"], "starting"
                if not self._is_live:
                    self._console.print(f"{name}: process {row.pid}", highlight=False)
            case "ready":
                row.state = "ready"
            case "progress":
                row.state, row.record = "training", record
            case "waiting":
                row.state = record["text"]
                self._say(f"{name}: {record['text']}")
            case "done":
                row.state = "done, serving"
            case "exited":
                row.state = "finished" if record["finished"] else f"gone (exit code {record['exit_code']})"
                if not record["finished"]:
                    self._say(f"{name} (process {row.pid}): gone, exit code {record['exit_code']}")
            case "restarting":
                row.state = "restarting"
                self._say(f"{name}: restarting, {record['attempt']} of at most {record['of']}")
            case "error":
                self._say(f"{name}: {record['message']}")
            case "event" if record["kind"] not in _QUIET_KINDS:
                self._say(f"{record['at_s']:7.2f} s  {name} | {record['line']}")
        self._say_progress()

    def _say(self, line: str) -> None:
        if self._is_live:
            self._lines = [*self._lines, line][-_LINES_KEPT:]
        else:
            self._console.print(escape(line), highlight=False, soft_wrap=True)

    def _say_progress(self) -> None:
        now = time.monotonic()
        if self._is_live or now - self._said_s < _PLAIN_EVERY_S:
            return
        self._said_s = now
        for name, row in self._rows.items():
            if row.state == "training" and row.record:
                r = row.record
                self._console.print(
                    f"{name}: step {r['step']} ({100 * r['share']:.0f} %), {r['steps_per_s']:.1f} steps/s, "
                    f"loss {r['loss']:.3f}, {r['exchanges']} exchanges, {r['alive']} of {r['expected']} peers",
                    highlight=False,
                )

    def _render(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("peer", "process", "state", "", "step", "steps/s", "loss", "exchanges", "peers"):
            table.add_column(title, justify="right" if title in ("step", "steps/s", "loss", "exchanges") else "left")
        for name, row in self._rows.items():
            r = row.record
            bar = ProgressBar(total=1.0, completed=r.get("share", 0.0), width=18)
            if not r:
                table.add_row(name, str(row.pid), row.state, bar)
                continue
            seen = f"{r['alive']} of {r['expected']}"
            table.add_row(
                name, str(row.pid), row.state, bar, str(r["step"]), f"{r['steps_per_s']:.1f}", f"{r['loss']:.3f}",
                str(r["exchanges"]), Text(seen, style="" if r["alive"] == r["expected"] else "yellow"),
            )  # fmt: skip
        return Group(Text(self._title, style="bold"), table, *(Text(line, style="yellow") for line in self._lines))

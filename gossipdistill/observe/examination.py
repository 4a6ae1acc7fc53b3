"""The findings of a doctor as a table: what is wrong is said with what to do about it."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.printable import printable_all

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def render(summary: dict[str, Any]) -> RenderableType:
    """The table, and one line for the whole."""
    summary = printable_all(summary)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("about", no_wrap=True)
    table.add_column("found", overflow="fold")
    before = ""
    for found in summary["findings"]:
        title, verdict = found["check"], found["verdict"]
        said = Text(found["found"])
        if found["advice"]:
            said.append(f"\n-> {found['advice']}", style=_STYLES[verdict])
        shown = title if title != before else ""
        table.add_row(shown, Text(verdict, style=_STYLES[verdict]), Text(found["about"]), said)
        before = title
    return Group(table, Text(""), Text(_whole(summary)))


def _whole(summary: dict[str, Any]) -> str:
    counts = summary["counts"]
    if not counts["problem"] and not counts["warning"]:
        return f"All is well: {counts['ok']} checks."
    parts = [_count(counts[verdict], verdict) for verdict in ("problem", "warning") if counts[verdict]]
    return f"{' and '.join(parts)}; {counts['ok']} checks are well."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number > 1)}"

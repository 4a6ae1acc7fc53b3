"""The findings of a doctor as a table; each problem is shown with advice."""

from __future__ import annotations

from pydantic import Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossipdistill.observe.record import Number, Record

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


class FindingRecord(Record):
    """One finding of a doctor's check; `verdict` is ok, warning or problem."""

    check: str
    about: str
    verdict: str
    found: str
    advice: str


class MeetingRecord(Record):
    """The measurements of one other peer, for scripts; null where nothing was measured."""

    kind: str | None
    reached: bool
    reaches_me: bool
    round_trip_s: Number | None
    small_transfer_s: Number | None
    large_transfer_bytes: int
    large_transfer_bytes_per_s: Number | None
    clock_ahead_s: Number | None
    versions: dict[str, str]


class ExaminationRecord(Record):
    """All findings of a doctor, as printed by `--format json`."""

    version: int = Field(1, validation_alias="schema")
    peers: str
    name: str | None
    exit_code: int
    waited_s: Number
    counts: dict[str, int]
    versions: dict[str, str]
    findings: list[FindingRecord]
    others: dict[str, MeetingRecord]


def render(summary: ExaminationRecord) -> RenderableType:
    """The table, and one line as a summary."""
    summary = summary.printable()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("about", no_wrap=True)
    table.add_column("found", overflow="fold")
    before = ""
    for found in summary.findings:
        title, verdict = found.check, found.verdict
        said = Text(found.found)
        if found.advice:
            said.append(f"\n-> {found.advice}", style=_STYLES[verdict])
        shown = title if title != before else ""
        table.add_row(shown, Text(verdict, style=_STYLES[verdict]), Text(found.about), said)
        before = title
    return Group(table, Text(""), Text(_whole(summary)))


def _whole(summary: ExaminationRecord) -> str:
    counts = summary.counts
    if not counts["problem"] and not counts["warning"]:
        return f"All is well: {counts['ok']} checks."
    parts = [_count(counts[verdict], verdict) for verdict in ("problem", "warning") if counts[verdict]]
    return f"{' and '.join(parts)}; {counts['ok']} checks are well."


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number > 1)}"

"""Is the roster readable, and are its names valid? An invalid roster is refused earlier, with file, key and value."""

from __future__ import annotations

from gossipdistill.doctor.case import Case, Finding, ok, warning


def check(case: Case) -> list[Finding]:
    """One finding."""
    count = len(case.roster.peer)
    if count == 1:
        text = "has only one peer: there is no other to learn from"
        return [warning(case.where, text, "add a [[peer]] entry for each machine")]
    called = (
        f"; {len(case.meetings)} of them are called, the next in the roster"
        if 0 < len(case.meetings) < count - 1
        else ""
    )
    return [ok(case.where, f"{count} peers, names valid and distinct: {_some(case.roster.names)}{called}")]


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")

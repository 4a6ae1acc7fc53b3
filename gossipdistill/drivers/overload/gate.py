"""Whether others may connect: open, or closed because files or memory are short, with the reason. A value machine."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.events import EventKind
from gossipdistill.limits import Limits

_ROOM_AGAIN = 1.25
"""The gate opens again when this many times the reserved files are free."""
_FALLEN = 0.95
"""The gate opens again when memory has fallen to this share of the value that closed it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of the process at one time; None where a value is not available."""

    open_files: int | None
    files_max: int
    resident_bytes: int | None
    resident_bytes_max: int | None
    queued_bytes: int = 0
    """The bytes that wait to be read on all connections together."""


@dataclass(slots=True)
class Gate:
    """Only `look` changes `is_open` and `lacks_files`, which says whether the gate is closed because files are
    short."""

    limits: Limits
    is_open: bool = True
    lacks_files: bool = False

    def look(self, usage: Usage) -> tuple[EventKind, str] | None:
        """Update the gate. Returns what has changed, and why; None when nothing has."""
        factor, fallen = (1.0, 1.0) if self.is_open else (_ROOM_AGAIN, _FALLEN)
        files_short = self._files_short(usage, factor)
        self.lacks_files = bool(files_short)
        short = files_short or self._memory_short(usage, fallen) or self._queue_short(usage)
        if bool(short) is not self.is_open:
            return None
        self.is_open = not short
        if short:
            return EventKind.LISTENER_CLOSED, f"takes no more connections in: {short}"
        return EventKind.LISTENER_OPENED, "takes connections in again: there are files and memory enough"

    def sheds(self, usage: Usage) -> bool:
        """Whether existing connections must be ended."""
        return bool(self._memory_short(usage, 1.0))

    def is_behind(self, usage: Usage) -> bool:
        """Whether more bytes wait to be read than allowed."""
        return bool(self._queue_short(usage))

    def _queue_short(self, usage: Usage) -> str:
        if usage.queued_bytes <= self.limits.queued_bytes_max:
            return ""
        waits, most = usage.queued_bytes / 1e6, self.limits.queued_bytes_max / 1e6
        return f"{waits:.0f} MB wait to be read, more than {most:.0f} MB"

    def _files_short(self, usage: Usage, factor: float) -> str:
        if usage.open_files is None:
            return ""
        reserved = min(self.limits.files_reserved, usage.files_max // 2)
        if usage.files_max - usage.open_files >= factor * reserved:
            return ""
        return f"{usage.open_files} of {usage.files_max} files are open, and {reserved} stay in reserve (ulimit -n)"

    def _memory_short(self, usage: Usage, factor: float) -> str:
        if usage.resident_bytes is None or usage.resident_bytes_max is None:
            return ""
        if usage.resident_bytes <= factor * usage.resident_bytes_max:
            return ""
        return f"{usage.resident_bytes / 1e6:.0f} MB are in use, more than {usage.resident_bytes_max / 1e6:.0f} MB"

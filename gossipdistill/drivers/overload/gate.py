"""Whether others may connect: open, or closed for want of files or memory, with the reason. A value machine."""

from __future__ import annotations

from dataclasses import dataclass

from gossipdistill.events import EventKind
from gossipdistill.limits import Limits

_ROOM_AGAIN = 1.25
"""Files that must be free before it opens, of those in reserve."""
_FALLEN = 0.95
"""To what memory must have fallen, of what closed it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at the process; None where it cannot be told."""

    open_files: int | None
    files_max: int
    resident_bytes: int | None
    resident_bytes_max: int | None
    queued_bytes: int = 0
    """What waits to be read, of all connections together."""


@dataclass(slots=True)
class Gate:
    """`is_open` changes with `look` alone, and so does `lacks_files`: whether it is closed for want of files."""

    limits: Limits
    is_open: bool = True
    lacks_files: bool = False

    def look(self, usage: Usage) -> tuple[EventKind, str] | None:
        """What has changed, and why; None when nothing has."""
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
        """Whether connections that are there must go."""
        return bool(self._memory_short(usage, 1.0))

    def is_behind(self, usage: Usage) -> bool:
        """Whether more waits to be read than may."""
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

"""What the system says of processes and folders (Linux): memory, open files, what lies where, who is left behind."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
LOGS = ("events.jsonl", "events.1.jsonl", "stderr.log")
"""Files that a peer adds lines to; everything else in its folder is replaced or removed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process at one moment."""

    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Contents:
    """Of one folder and all below it at one moment; `log_bytes` are those of `LOGS`."""

    at_s: float
    files: int
    log_bytes: int
    other_bytes: int


def usage(pid: int, at_s: float) -> Usage | None:
    """Resident memory, open files and threads of a process; None when it is gone."""
    try:
        resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (OSError, ValueError, IndexError):
        return None
    return Usage(at_s, resident_pages * os.sysconf("SC_PAGE_SIZE"), descriptors, threads)


def contents(folder: Path, at_s: float) -> Contents:
    """What lies in a folder now; a file that goes while we look counts as gone."""
    files = log_bytes = other_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size = os.stat(os.path.join(parent, name)).st_size
                files += 1
                if name in LOGS:
                    log_bytes += size
                else:
                    other_bytes += size
    return Contents(at_s, files, log_bytes, other_bytes)


def left_behind(mark: str) -> list[str]:
    """Processes but this one that have `mark` in their environment, as `pid command`: they inherit it, however they
    were started."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark.encode() in Path(f"/proc/{entry}/environ").read_bytes():
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{entry} {command.strip()}")
    return found


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through points, least squares: per hour, and its standard error as if points were independent."""

    per_hour: float
    error: float


def slope(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Of (seconds, value); None with fewer than three points, or all at one time."""
    if len(points) < 3 or len({at_s for at_s, _ in points}) < 2:
        return None
    at_mean, value_mean = (statistics.fmean(column) for column in zip(*points, strict=True))
    spread = sum((at_s - at_mean) ** 2 for at_s, _ in points)
    per_s = sum((at_s - at_mean) * (value - value_mean) for at_s, value in points) / spread
    left = sum((value - value_mean - per_s * (at_s - at_mean)) ** 2 for at_s, value in points)
    return Slope(3600 * per_s, 3600 * (left / (len(points) - 2) / spread) ** 0.5)

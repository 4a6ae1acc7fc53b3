"""What this process may use of its machine: all of it, or what Linux control groups allow, as set by a container's
`--cpus` and `--memory` or by a batch system.

Each group above that of the process may be tighter, so all are read, and the lowest limit counts. Version 2 has one
tree, version 1 one per controller.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Number = TypeVar("Number", int, float)
_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_quota(own: Path = _OWN, root: Path = _ROOT) -> float | None:
    """The number of CPUs that the control groups of this process allow; None means no limit."""
    return _least("cpu", _quota, own, root)


def memory_bytes(own: Path = _OWN, root: Path = _ROOT) -> int | None:
    """The bytes of memory that this process can have at most: those of the machine, or of its control groups if that is
    less, which it shares with all other members. None where neither is known."""
    limits = [_least("memory", _limit_bytes, own, root)]
    with contextlib.suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((limit for limit in limits if limit is not None), default=None)


def _least(controller: str, limit_of: Callable[[Path], Number | None], own: Path, root: Path) -> Number | None:
    limits: list[Number | None] = []
    line: str
    for line in _read(own).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            tops = [root, root / "unified"]
        elif controller in controllers.split(","):
            tops = [root / controllers, root / controller]
        else:
            continue
        inner: Path = Path(path.lstrip("/"))
        limits += [limit_of(top / group) for top in tops for group in (inner, *inner.parents)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(group: Path) -> float | None:
    numbers = _read(group / "cpu.max").split()
    if not numbers:
        numbers = [_read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
        return None  # "max", -1, or no such file
    return int(numbers[0]) / int(numbers[1])


def _limit_bytes(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        said = _read(group / name).strip()
        if said.isdecimal():  # "max", or no such file
            return int(said)
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""

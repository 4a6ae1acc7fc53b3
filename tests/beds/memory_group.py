"""A control group of the test's own whose memory is limited."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryGroup:
    """Raises OSError where this process may not make one."""

    def __init__(self) -> None:
        is_old = _V1.is_dir()
        self.folder = (_V1 if is_old else _V2) / f"gossipdistill-bed-{os.getpid()}"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_old else ("memory.max", "memory.current")
        self._limit, self._used = (self.folder / name for name in names)
        self.folder.mkdir()
        try:
            self.used_bytes()  # version 2 has these files only where the controller is handed on
        except OSError:
            self.remove()
            raise

    def within(self) -> Sequence[str]:
        """Words in front of a command that is to run in this group."""
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh"]

    def used_bytes(self) -> int:
        """What its processes have now, with what the kernel can take back."""
        return int(self._used.read_text())

    def limit_to(self, limit_bytes: int) -> None:
        """At most this much from now on."""
        self._limit.write_text(str(limit_bytes))

    def remove(self) -> None:
        """Once its processes have ended."""
        self.folder.rmdir()

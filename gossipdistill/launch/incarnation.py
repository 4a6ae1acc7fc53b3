"""How often a peer has been started, and the number of this start."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from gossipdistill.durable import Disk, put
from gossipdistill.ids import next_boot


@dataclass(frozen=True)
class Incarnation:
    """`count` starts so far; `boot` of this one is above those of all earlier ones, whatever the clock says."""

    count: int
    boot: int

    @staticmethod
    def next(folder: Path, fresh: bool, highest_known: int = 0) -> Incarnation:
        """The start that happens now; noted in `folder`, which is made if needed. `highest_known` is a boot that is
        known from elsewhere, should the note be lost."""
        path = folder / "boots.json"
        folder.mkdir(parents=True, exist_ok=True)
        count = highest = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # first start, or a torn file
            before = json.loads(path.read_text())
            count, highest = int(before["count"]), int(before["boot"])
        made = Incarnation(1 if fresh else count + 1, next_boot(time.time(), max(highest, highest_known)))
        disk = Disk()
        put(path, [json.dumps({"count": made.count, "boot": made.boot}).encode()], disk)
        disk.sync(folder)
        return made

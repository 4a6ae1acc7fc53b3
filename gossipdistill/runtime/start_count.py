"""Counts the starts of a peer, and numbers this one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gossipdistill.durable import Disk, put
from gossipdistill.files import UnusableError, check_shape, read_object
from gossipdistill.ids import next_boot


class _Note(BaseModel):
    """`boots.json`."""

    model_config = ConfigDict(strict=True)

    count: Annotated[int, Field(ge=0, le=2**53)]
    boot: Annotated[int, Field(ge=0, le=10**18)]


@dataclass(frozen=True)
class StartCount:
    """`count` is the number of starts so far. `boot`, the number of this start, is above those of all earlier ones even
    if the clock was set back."""

    count: int
    boot: int
    problem: str = field(default="", compare=False)
    """It says why the record of earlier starts could not be used; then counting begins again. Empty otherwise."""

    @staticmethod
    def next(folder: Path, fresh: bool, highest_known: int = 0, disk: Disk | None = None) -> StartCount:
        """Count this start, and write it into `folder`, which is made if needed. `highest_known` is a boot number known
        from elsewhere, in case the file is lost.

        Raises:
            OSError: when it cannot be written.
        """
        disk = disk or Disk()
        path = folder / "boots.json"
        disk.make_folder(folder)
        before, problem = _Note(count=0, boot=0), ""
        try:
            before = check_shape(_Note, read_object(path))
        except UnusableError as reason:
            problem = "" if reason.missing else f"{path} is damaged: {reason}; starts are counted from 1 again"
        boot = next_boot(time.time(), max(before.boot, highest_known))
        made = StartCount(1 if fresh else before.count + 1, boot, problem)
        put(path, [json.dumps({"count": made.count, "boot": made.boot}).encode()], disk)
        disk.sync(folder)
        return made

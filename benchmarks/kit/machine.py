"""Where and when a benchmark ran, for its report."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any


def circumstances(module: str) -> dict[str, Any]:
    """Command, date, machine and versions."""
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("gossipdistill", "torch", "pyzmq", "msgpack", "uvloop")},
    }


def heading(about: dict[str, Any]) -> list[str]:
    """The same in words, with what a person has to say about it (`--note`)."""
    note = f" {about['note']}" if about.get("note") else ""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return [
        f"`{about['command']}`, {about['date']}; {about['cores']} cores ({about['processor']}), load at the start "
        f"{about['load_at_start'][0]}; {versions}.{note}",
    ]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()

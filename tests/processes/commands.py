"""Real processes for tests: started, watched line by line, and cleaned up by process id."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

START_S = 180.0
"""A generous bound for four workers to import torch on a loaded machine with two cores."""
GONE_S = 2.0
"""What is promised."""
SLACK_S = 1.0
"""Of a loaded machine, on top of that."""


class Command:
    """`python -m gossipdistill ARGS...` with its standard error read as it comes. `within`: words in front of it, which
    become that very process (`nsenter ...`)."""

    def __init__(
        self, args: tuple[str, ...], folder: Path, env: dict[str, str] | None = None, within: Sequence[str] = ()
    ) -> None:
        # Nor the width of a terminal, which a test process may find set (those of pytest-xdist do) and another not.
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("GOSSIPDISTILL_") and key not in ("COLUMNS", "LINES")
        }
        self.folder = folder
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "gossipdistill", *args],
            cwd=folder,
            env=clean | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._out: list[str] = []
        self._readers = [threading.Thread(target=self._read_err), threading.Thread(target=self._read_out)]
        for reader in self._readers:
            reader.start()

    def _read_err(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self._out.append(self.process.stdout.read())

    def expect(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        """The first line on standard error that matches, as soon as it is there."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._news:
            match = self._news.wait_for(found, timeout_s)
        assert match, f"no line matches {pattern!r} within {timeout_s} s:\n{self.err}"
        return match

    def pids(self, count: int = 4) -> dict[str, int]:
        """Process ids of the workers by name, once `count` of them were shown."""

        def shown() -> dict[str, int]:
            matches = [re.fullmatch(r"(\S+): process (\d+)", line) for line in self.lines]
            return {match[1]: int(match[2]) for match in matches if match}

        with self._news:
            self._news.wait_for(lambda: len(shown()) >= count, START_S)
        assert len(shown()) >= count, self.err
        return shown()

    def end(self, timeout_s: float = START_S) -> int:
        """Wait for the end; returns the exit code."""
        code = self.process.wait(timeout_s)
        for reader in self._readers:
            reader.join(SLACK_S)
        return code

    @property
    def out(self) -> str:
        """Standard output, once the command has ended."""
        return "".join(self._out)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return "\n".join(self.lines)

    def json(self) -> dict[str, Any]:
        """Standard output as the one object that it must be."""
        return dict(json.loads(self.out))

    def clean_up(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for pid in [self.process.pid, *self.shown_pids()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.end()

    def shown_pids(self) -> list[int]:
        """All process ids that were shown so far."""
        return [int(pid) for pid in re.findall(r"^\S+: process (\d+)$", self.err, re.MULTILINE)]


def state_of(pid: int) -> str:
    """The letter that the kernel shows: T is stopped, Z a zombie; empty without such a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return state_of(pid) not in ("", "Z")


def until(holds: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Poll until `holds()`; returns the seconds that it took."""
    began_s, pause = time.monotonic(), threading.Event()
    while not holds():
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s} s: {what}"
        pause.wait(0.01)
    return time.monotonic() - began_s


def assert_gone(pids: list[int]) -> None:
    """No process of these is left, two seconds from now at the latest."""
    until(lambda: not any(map(is_alive, pids)), GONE_S + SLACK_S, f"the end of {[p for p in pids if is_alive(p)]}")


def free_pairs(count: int) -> list[int]:
    """Control ports whose next port is free as well, all different."""
    found: list[int] = []
    for port in range(23_000 + 2 * (os.getpid() % 2000), 32_000, 2):
        if len(found) < count and all(_is_free(p) for p in (port, port + 1)):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_roster(path: Path, names: list[str], ports: list[int], settings: list[str] | None = None) -> Path:
    """A roster of local peers; `settings` are the insides of their `set`."""
    entries = [
        f'[[peer]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\nset = {{ {chosen} }}\n'
        for name, port, chosen in zip(names, ports, settings or [""] * len(names), strict=True)
    ]
    path.write_text("\n".join(entries))
    return path

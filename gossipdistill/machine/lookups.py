"""Looks up names, addresses and ports on this machine. A look-up of a name takes at most `LOOK_UP_S` seconds."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LOOK_UP_S = 5.0
"""A host name that is not found within this many seconds counts as unknown. A worker tries again every two seconds."""
_LOOK_UPS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class LookUp:
    """The result of looking up a host: its addresses, or why it has none."""

    addresses: tuple[str, ...]
    took_s: float
    error: str = ""
    mine: bool = False
    """Whether the first address is one of this machine's."""


def look_up_all(hosts: Iterable[str], within_s: float = LOOK_UP_S) -> dict[str, LookUp]:
    """Look up the addresses of all hosts, many at once, in threads that do not delay the end of the process."""
    found: dict[str, LookUp] = {}
    wanted = list(dict.fromkeys(hosts))
    waiting = deque(wanted)

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                host = waiting.popleft()
                found[host] = _look_up(host)

    threads = [threading.Thread(target=work, daemon=True) for _ in wanted[:_LOOK_UPS_AT_ONCE]]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, began_s + within_s - time.monotonic()))
    late = LookUp((), within_s, f"no answer within {within_s:g} s")
    return {host: found.get(host, late) for host in wanted}


def _look_up(host: str) -> LookUp:
    began_s = time.perf_counter()
    try:
        # A worker uses the IPv4 address of `localhost`, whichever a machine returns first.
        answers = socket.getaddrinfo("127.0.0.1" if host == "localhost" else host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return LookUp((), time.perf_counter() - began_s, getattr(error, "strerror", None) or str(error))
    took_s = time.perf_counter() - began_s
    addresses = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
    return LookUp(addresses, took_s, mine=bool(addresses) and is_mine(addresses[0]))


def is_mine(address: str) -> bool:
    """Whether this IP address is one of this machine's: only those can be bound."""
    with socket_of(address, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on a TCP port, as `process 12 (python -m http.server)`; "" if the system does not show
    it."""
    inodes = _listening(port, proc)
    if not inodes:
        return ""
    for process in proc.glob("[0-9]*"):
        try:
            if inodes.isdisjoint(_links(process / "fd")):
                continue
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        return f"process {process.name} ({' '.join(words).strip()[:120]})"
    return ""


def _links(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(entry)


def _listening(port: int, proc: Path) -> set[str]:
    """The names under /proc of the sockets that listen on a port."""
    found: set[str] = set()
    for table in "tcp", "tcp6":
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                found.add(f"socket:[{fields[9]}]")
    return found


def socket_of(address: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)

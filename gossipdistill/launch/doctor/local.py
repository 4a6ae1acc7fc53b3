"""What this machine says of itself: its addresses, ports, limits and versions. Nothing here waits for another machine
longer than `LOOK_UP_S`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import gossipdistill
from gossipdistill.drivers.resources import files_within_reach
from gossipdistill.launch.doctor.case import LookUp, Machine, Port
from gossipdistill.launch.threads import Cpus
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.presence import Address
from gossipdistill.wire.codec import WIRE_VERSION

LOOK_UP_S = 5.0
"""Who has not been found by then is as good as unknown: a worker would try again every two seconds."""
_DIAL_S = 2.0
_LOOK_UPS_AT_ONCE = 64


def machine() -> Machine:
    """CPUs, limits and versions."""
    files_max = files_within_reach(DEFAULT_LIMITS.files_wanted)
    return Machine(Cpus.read().usable, os.environ.get("OMP_NUM_THREADS"), files_max, versions())


def versions() -> dict[str, str]:
    """What must be alike on all machines, or had better be."""
    return {
        "gossipdistill": str(gossipdistill.__version__),
        "wire": str(WIRE_VERSION),
        "torch": _version("torch"),
        "pyzmq": _version("pyzmq"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def look_up_all(hosts: Iterable[str], within_s: float = LOOK_UP_S) -> dict[str, LookUp]:
    """Each host's addresses, many asked at once, in threads that hold up nobody's end."""
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
        # A worker takes `localhost` for the IPv4 address, whatever a machine says first.
        answers = socket.getaddrinfo("127.0.0.1" if host == "localhost" else host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return LookUp((), time.perf_counter() - began_s, getattr(error, "strerror", None) or str(error))
    took_s = time.perf_counter() - began_s
    addresses = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
    return LookUp(addresses, took_s, mine=bool(addresses) and is_mine(addresses[0]))


def is_mine(address: str) -> bool:
    """Whether this IP address is one of this machine's: nothing else can be bound to."""
    with _socket(address, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def ports_of(host: str, control: int) -> tuple[Port, ...]:
    """Control and data port of this peer on the IP address `host`, and who has them if they are taken."""
    return tuple(_port(host, number) for number in (control, control + 1))


def _port(host: str, number: int) -> Port:
    with _socket(host, socket.SOCK_STREAM) as probe:
        # As ZeroMQ does: a port that only waits out its last connection is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen(1)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            return Port(number, error.strerror or str(error), holder(number) if taken else "")
    return Port(number)


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Who listens on a TCP port, as `process 12 (python -m http.server)`; "" when the system does not show it."""
    inodes = _listening(port, proc)
    if not inodes:
        return ""
    for process in proc.glob("[0-9]*"):
        try:
            if inodes.isdisjoint(_links(process / "fd")):
                continue
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        return f"process {process.name} ({' '.join(words).strip()[:120]})"
    return ""


def _links(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(entry)


def _listening(port: int, proc: Path) -> set[str]:
    """What the descriptors of those who listen on a port are called."""
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


def dial_all(addresses: dict[str, tuple[str, int]], within_s: float = _DIAL_S) -> dict[str, str]:
    """Name -> why no bare connection to its IP address and port was made; "" where one was. All at once."""
    found: dict[str, str] = {}
    threads = [
        threading.Thread(target=_dial, args=(name, host, port, within_s, found), daemon=True)
        for name, (host, port) in addresses.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within_s + 1.0)
    return {name: found.get(name, "timed out") for name in addresses}


def _dial(name: str, host: str, port: int, within_s: float, found: dict[str, str]) -> None:
    try:
        socket.create_connection((host, port), timeout=within_s).close()
        found[name] = ""
    except OSError as error:
        found[name] = (error.strerror or str(error)).lower()


def bound(address: Address, look_ups: dict[str, LookUp]) -> str:
    """The IP address that this peer would listen on; "" when its host was not found."""
    known = look_ups.get(address.host)
    return known.addresses[0] if known is not None and known.addresses else ""


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)

"""The facts of this machine: addresses, ports, limits and versions. Nothing here waits for another machine longer than
`lookups.LOOK_UP_S`."""

from __future__ import annotations

import errno
import os
import socket
import threading
from importlib import metadata

import gossipdistill
from gossipdistill.config.threads import Cpus
from gossipdistill.doctor.case import Machine, Port
from gossipdistill.drivers.overload.resources import files_within_reach
from gossipdistill.limits import DEFAULT_LIMITS
from gossipdistill.machine.listening import bind_error
from gossipdistill.machine.lookups import LookUp, holder
from gossipdistill.presence import Address
from gossipdistill.wire.codec import WIRE_VERSION

_DIAL_S = 2.0


def machine() -> Machine:
    """CPUs, limits and versions."""
    files_max = files_within_reach(DEFAULT_LIMITS.files_wanted)
    return Machine(Cpus.read().usable, os.environ.get("OMP_NUM_THREADS"), files_max, versions())


def versions() -> dict[str, str]:
    """The versions that must, or should, be equal on all machines."""
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


def ports_of(host: str, control: int) -> tuple[Port, ...]:
    """The control and data port of this peer on the IP address `host`, and the process that holds them if they are
    taken."""
    return tuple(_port(host, number) for number in (control, control + 1))


def _port(host: str, number: int) -> Port:
    error = bind_error(Address(host, number))
    if error is None:
        return Port(number)
    taken = error.errno == errno.EADDRINUSE
    return Port(number, error.strerror or str(error), holder(number) if taken else "")


def dial_all(addresses: dict[str, tuple[str, int]], within_s: float = _DIAL_S) -> dict[str, str]:
    """Open a plain TCP connection to each IP address and port, all at once. Returns name -> error, "" for success."""
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
    """The IP address that this peer would listen on; "" if its host was not found."""
    known = look_ups.get(address.host)
    return known.addresses[0] if known is not None and known.addresses else ""

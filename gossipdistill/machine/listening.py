"""Finds ports where this machine can listen, or says why it cannot, with advice that fits the reason."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gossipdistill.errors import AddressError
from gossipdistill.machine.lookups import holder, is_mine, look_up_all
from gossipdistill.presence import NOWHERE, Address

_PORTS_OF_ROOT_END = 1024
_EPHEMERAL = range(20_000, 32_000, 2)
"""Free pairs of ports are looked for in this range. It is below Linux's own ephemeral range, from which other programs
take ports."""
_SHOWN_MAX = 6
_IF_INET6 = Path("/proc/net/if_inet6")
_SIOCGIFADDR = 0x8915
"""The ioctl request (<linux/sockios.h>) for the IPv4 address of an interface."""


def refuse_unusable(addresses: Mapping[str, Address], hint: str) -> None:
    """Raise an error if a peer cannot listen on its two ports, before anything is started.

    Args:
        addresses: peer's name -> the address where it is to listen.
        hint: what to do if a port is in use, as the end of "end that program, or ...".

    Raises:
        AddressError: naming the peer, the address, the reason and what to do.
    """
    for name, address in addresses.items():
        if address != NOWHERE and address.port:
            _refuse(name, address, hint)


def _refuse(name: str, address: Address, hint: str) -> None:
    host = _host_of(name, address)
    for port in (address.port, address.data_port):
        error = bind_error(Address(host, port))
        if error is None:
            continue
        head = f"{name} cannot listen at {address._replace(port=port)}: "
        if error.errno == errno.EADDRINUSE:
            by = holder(port)
            who = f" by {by}; end that program, or {hint}" if by else f"; end the other program, or {hint}"
            raise AddressError(f"{head}{error.strerror}{who}")
        if error.errno == errno.EADDRNOTAVAIL or not is_mine(host):
            meant = f"{address.host} is {host}, which" if host != address.host else host
            raise AddressError(f"{head}{meant} is no address of this machine; {_advice(name, address)}")
        if error.errno == errno.EACCES and port < _PORTS_OF_ROOT_END:
            raise AddressError(
                f"{head}ports below {_PORTS_OF_ROOT_END} are the system's; give a port from {_PORTS_OF_ROOT_END} on"
            )
        raise AddressError(f"{head}{error.strerror or error}; {_advice(name, address)}")


def _host_of(name: str, address: Address) -> str:
    """The IP address that the host of this address means."""
    found = look_up_all([address.host])[address.host]
    if not found.addresses:
        raise AddressError(
            f"{name} cannot listen at {address}: the name {address.host} is not found ({found.error}); "
            + _advice(name, address)
        )
    return found.addresses[0]


def _advice(name: str, address: Address) -> str:
    mine = own_addresses()
    shown = ", ".join(mine[:_SHOWN_MAX]) + (", ..." if len(mine) > _SHOWN_MAX else "")
    return (
        f"this machine has {shown}. If others reach this machine by {address.host} (a router, a container), give "
        f"--listen 0.0.0.0:{address.port} --advertise {address}; else give --listen an address of this machine, or "
        f"start {name} on the machine that has {address.host}"
    )


def bind_error(address: Address) -> OSError | None:
    """The reason why this port of an IP address cannot be listened on; None if it can."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As ZeroMQ does: a port whose last connection is in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def free_ports(names: Iterable[str], host: str, taken: set[int], seed: int | None = None) -> dict[str, int]:
    """A free pair of ports (p, p + 1) on `host` for each name."""
    candidates = list(_EPHEMERAL)
    random.Random(seed).shuffle(candidates)
    found: dict[str, int] = {}
    for name in names:
        while candidates:
            port = candidates.pop()
            if (
                port not in taken
                and port + 1 not in taken
                and all(bind_error(Address(host, p)) is None for p in (port, port + 1))
            ):
                found[name] = port
                break
        else:
            raise AddressError(f"no free pair of ports between {_EPHEMERAL.start} and {_EPHEMERAL.stop} on {host}")
    return found


def own_addresses() -> list[str]:
    """The IP addresses of this machine, as far as the system shows them. Those that other machines can use come
    first."""
    candidates = dict.fromkeys([*_of_interfaces(), *_by_name(), "127.0.0.1"])
    mine = [address for address in candidates if is_mine(address)]
    return sorted(mine, key=lambda address: (address in ("127.0.0.1", "::1"), ":" in address))


def _of_interfaces() -> Iterator[str]:
    """One IPv4 address of each interface, and the IPv6 addresses that need no scope (on Linux)."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, interface in socket.if_nameindex():
                with contextlib.suppress(OSError):  # the interface has no address
                    request = interface.encode()[:15].ljust(256, b"\0")
                    yield socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
    with contextlib.suppress(OSError, ValueError):
        for line in _IF_INET6.read_text().splitlines():
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
            if not address.startswith("fe80"):
                yield address


def _by_name() -> Iterator[str]:
    with contextlib.suppress(OSError, UnicodeError):
        for answer in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            yield str(answer[4][0])

"""What the machine offers: devices, CPU threads and free ports."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterable, Mapping

import torch

from gossipdistill.errors import AddressError, ConfigError
from gossipdistill.presence import Address

_EPHEMERAL = range(20_000, 32_000, 2)
"""Where free pairs of ports are looked for: below Linux's own ephemeral range, so nothing else takes them by chance."""


def choose_device(asked: str, place: int) -> torch.device:
    """The device of a peer: `auto` shares the GPUs of this machine round robin among local peers.

    Raises:
        ConfigError: for a device that this machine does not have.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked in ("auto", "cuda"):
        if gpus:
            return torch.device("cuda", place % gpus)
        if asked == "auto":
            return torch.device("cpu")
    if asked == "cpu":
        return torch.device("cpu")
    kind, _, index = asked.partition(":")
    if kind == "cuda" and index.isdigit() and int(index) < gpus:
        return torch.device("cuda", int(index))
    accepted = "auto, cpu" + "".join(f", cuda:{k}" for k in range(gpus))
    raise ConfigError("is not to be had on this machine", key="device", value=asked, accepted=accepted)


def threads_per_peer(peers: int) -> int:
    """CPU threads divided among local peers, at least one each."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, usable // peers)


def free_ports(names: Iterable[str], host: str, taken: set[int], seed: int | None = None) -> dict[str, int]:
    """A free pair of ports (p, p + 1) on `host` for each name."""
    candidates = list(_EPHEMERAL)
    random.Random(seed).shuffle(candidates)
    found: dict[str, int] = {}
    for name in names:
        while candidates:
            port = candidates.pop()
            if port not in taken and port + 1 not in taken and not in_use(Address(host, port)):
                found[name] = port
                break
        else:
            raise AddressError(f"no free pair of ports between {_EPHEMERAL.start} and {_EPHEMERAL.stop} on {host}")
    return found


def in_use(address: Address) -> str | None:
    """Why control or data port of an address cannot be listened on; None if both can."""
    for port in (address.port, address.port + 1):
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As ZeroMQ does: a port that only waits out its last connection is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.host, port))
                probe.listen(1)
            except OSError as error:
                return f"{address._replace(port=port)}: {error.strerror or error}"
    return None


def refuse_ports_in_use(addresses: Mapping[str, Address], hint: str) -> None:
    """Say which peer cannot have its ports, before anything is started.

    Raises:
        AddressError: naming the peer, the address, the reason and what to do.
    """
    for name, address in addresses.items():
        problem = in_use(address)
        if problem:
            raise AddressError(f"{name} cannot listen at {problem}; end the other program, or {hint}")

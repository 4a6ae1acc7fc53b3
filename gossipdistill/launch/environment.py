"""What the machine offers: devices and free ports."""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch

from gossipdistill.errors import AddressError, ConfigError
from gossipdistill.launch.listening import bind_error
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

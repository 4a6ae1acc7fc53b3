"""Chooses the device of this machine that a peer computes on."""

from __future__ import annotations

import torch

from gossipdistill.errors import ConfigError


def choose_device(asked: str, place: int) -> torch.device:
    """The device of a peer. `auto` assigns the GPUs of this machine to local peers round robin.

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
    raise ConfigError("is not available on this machine", key="device", value=asked, accepted=accepted)

"""A peer's state on disk: one safetensors file, replaced atomically. Never pickle.

Tensors are named `model.<name>` and `optimizer.<parameter>.<entry>`; everything else is JSON in the file's metadata.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gossipdistill.errors import ConfigError

_FORMAT = "1"


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, int | float]
) -> None:
    """Write model, optimiser and `progress` (step, exchanges, ...); a crash leaves the old file or the new one."""
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    plain: dict[str, Any] = {}
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
            else:
                plain[f"{index}.{key}"] = value
    metadata = {
        "format": _FORMAT,
        "progress": json.dumps(progress),
        "optimizer_plain": json.dumps(plain),
        "optimizer_groups": json.dumps(state["param_groups"]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    # Shared tensors (tied weights) are cloned: safetensors refuses aliases.
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, scratch, metadata)
    with open(scratch, "rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int | float]:
    """Put a checkpoint into model and optimiser; returns its `progress`.

    Raises:
        ConfigError: when the file is damaged or belongs to another model; nothing was changed then.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress = json.loads(metadata["progress"])
        groups, plain = json.loads(metadata["optimizer_groups"]), json.loads(metadata["optimizer_plain"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ConfigError(
            f"this checkpoint cannot be read ({type(error).__name__}); remove it or start with --fresh", file=path
        ) from None
    wanted = {f"model.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name.startswith("model.")}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise ConfigError(
            f"this checkpoint is of another model ({odd} differs); remove it or start with --fresh", file=path
        )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensors[f"model.{name}"])
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    for name, value in plain.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return dict(progress)

"""What a peer remembers of its training: a copy of it, as bytes and JSON, and the way back. Never pickle.

Tensors are named `model.<name>`, `optimizer.<parameter>.<entry>`, `memory.<name>` and `rng.<device>`, in a safetensors
file; everything else is JSON. Where they lie, and that they survive a crash, is the matter of `durable.py`. No state
of a link is kept: exactly-once across a crash is impossible with checkpoints that nobody coordinates.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from gossipdistill.durable import RefusedCheckpointError

Memory = Mapping[str, Tensor | float]
"""What a strategy keeps over a restart, by name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A copy of a peer's training, which goes on meanwhile: all tensors are on the CPU, and share nothing with it.
    `progress` counts what was done (step, exchanges, ...)."""

    tensors: dict[str, Tensor]
    progress: dict[str, int | float]
    optimizer: dict[str, Any]
    strategy: str = ""
    memory: dict[str, float] = field(default_factory=dict)
    generators: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, int | float],
        strategy: str = "",
        memory: Memory | None = None,
    ) -> Checkpoint:
        """The one copy that the training waits for."""
        state, plain = optimizer.state_dict(), {}
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value
                else:
                    plain[f"{index}.{key}"] = value
        kept = memory or {}
        tensors |= {f"memory.{name}": value for name, value in kept.items() if isinstance(value, Tensor)}
        tensors["rng.cpu"] = torch.get_rng_state()
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        if device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
        return Checkpoint(
            {name: _copied(tensor) for name, tensor in tensors.items()},
            dict(progress),
            copy.deepcopy({"kind": type(optimizer).__name__, "groups": state["param_groups"], "plain": plain}),
            strategy,
            {name: value for name, value in kept.items() if not isinstance(value, Tensor)},
            {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)},
        )

    def encode(self) -> tuple[list[bytes | memoryview], dict[str, Any]]:
        """(the tensors as parts of one safetensors file, which are the tensors themselves; all else as JSON)."""
        numpy = self.generators["numpy"]
        state = numpy["state"] | {"key": numpy["state"]["key"].tolist()}
        return _parts(self.tensors), {
            "progress": self.progress,
            "optimizer": self.optimizer,
            "strategy": self.strategy,
            "memory": self.memory,
            "generators": {"python": self.generators["python"], "numpy": numpy | {"state": state}},
        }

    @staticmethod
    def decode(data: bytes, content: Mapping[str, Any]) -> Checkpoint:
        """The inverse of `encode`.

        Raises:
            RefusedCheckpointError: when it is none.
        """
        keys = ("progress", "optimizer", "strategy", "memory", "generators")
        try:
            return Checkpoint(load(data), *(content[key] for key in keys))
        except (SafetensorError, KeyError) as error:
            raise RefusedCheckpointError(f"it cannot be read ({type(error).__name__}: {error})") from None

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put model and optimiser where they were.

        Raises:
            RefusedCheckpointError: when this is of another model or optimiser; nothing was changed then.
        """
        wanted = {f"model.{name}": _kind(tensor) for name, tensor in model.state_dict().items()}
        found = {name: _kind(tensor) for name, tensor in self.tensors.items() if name.startswith("model.")}
        if wanted != found:
            odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
            raise RefusedCheckpointError(
                f"it is of another model: {odd} is {found.get(odd, 'not there')}, not {wanted.get(odd, 'wanted')}"
            )
        kind = type(optimizer).__name__
        if self.optimizer["kind"] != kind:
            raise RefusedCheckpointError(f"it is of another optimizer: {self.optimizer['kind']}, not {kind}")
        groups = [len(group["params"]) for group in self.optimizer["groups"]]
        if groups != [len(group["params"]) for group in optimizer.param_groups]:
            raise RefusedCheckpointError("it is of another optimizer: its groups of parameters differ")
        state: dict[int, dict[str, Any]] = {}
        entries: dict[str, Any] = {name: value for name, value in self.tensors.items() if name.startswith("optimizer.")}
        entries |= {f"optimizer.{name}": value for name, value in self.optimizer["plain"].items()}
        for name, value in entries.items():
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(self.tensors[f"model.{name}"])
        optimizer.load_state_dict({"state": state, "param_groups": self.optimizer["groups"]})

    def recalled(self, strategy: str) -> dict[str, Tensor | float]:
        """What this strategy kept; nothing where another one wrote the checkpoint."""
        if strategy != self.strategy:
            return {}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name.startswith("memory.")}
        return {**self.memory, **{name.removeprefix("memory."): tensor for name, tensor in tensors.items()}}

    def restore_generators(self, device: torch.device) -> None:
        """Put the global random generators where they were; the last thing before training goes on."""
        torch.set_rng_state(self.tensors["rng.cpu"])
        if device.type == "cuda" and "rng.cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["rng.cuda"], device)
        version, words, gauss = self.generators["python"]
        random.setstate((version, tuple(words), gauss))
        numpy = self.generators["numpy"]
        key = np.array(numpy["state"]["key"], dtype=np.uint32)
        np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})


def _copied(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, and nobody else's: safetensors refuses aliases, and the training goes on."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def _parts(tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """A safetensors file: the length of the header in 8 bytes, the header, and all tensors without gaps.

    Its own library makes one long copy of them, in which no other thread runs: 0.15 s for 100 MB, the step of a
    trainer that is not to wait.
    """
    header: dict[str, dict[str, Any]] = {}
    parts: list[bytes | memoryview] = [b""]
    at = 0
    # The widest types first, so that everything is aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        if tensor.dtype not in _TYPES:
            raise TypeError(f"{name} is of {tensor.dtype}, which a checkpoint cannot hold")
        part = tensor.reshape(-1).view(torch.uint8).numpy().data
        header[name] = {
            "dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(part)]
        }  # fmt: skip
        at += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts[0] = len(text).to_bytes(8, "little") + text
    return parts


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

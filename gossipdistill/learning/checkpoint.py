"""A checkpoint of a peer's training: a copy of it, as bytes and JSON, and its restoration. Pickle is never used.

Tensors are named `model.<name>`, `optimizer.<place in its state>`, `memory.<name>` and `rng.<device>`, in a safetensors
file; everything else is JSON, as `keeping.py` has it. `durable.py` decides where they lie, and ensures that they
survive a crash. No state of a link is kept: exactly-once delivery across a crash is impossible with uncoordinated
checkpoints.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gossipdistill.durable import RefusedCheckpointError
from gossipdistill.learning.checkpoint_content import (
    numpy_state,
    python_state,
    read_tensors,
    refuse_malformed,
    refuse_odd_state,
)
from gossipdistill.learning.hyperparameters import Change, Group, constructor_values, renew
from gossipdistill.learning.keeping import NAMED_TYPES, Absent, Giver, Keeper, Node, is_function
from gossipdistill.learning.restoring import (
    kind_of,
    parameters_of,
    put_into_model,
    put_into_optimizer,
    put_into_schedules,
    refuse_if_it_cannot_step,
    schedules_of,
)
from gossipdistill.printable import printable

Memory = Mapping[str, Tensor | float]
"""A strategy keeps these values over a restart, by name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A copy of a peer's training, which goes on meanwhile: all tensors are on the CPU, and share nothing with it.

    `progress` counts what was done (step, exchanges, ...). `optimizer` has the `kind`, the `state` (what its
    `state_dict` says) and the values that its constructor `gave`, if they are known. `model` and `memory` are nodes;
    entries of the model that are just a tensor are left out there. `settings` are those of the run, for comparing.
    """

    tensors: dict[str, Tensor]
    progress: dict[str, int | float]
    optimizer: dict[str, Any]
    strategy: str = ""
    memory: dict[str, Node] = field(default_factory=dict)
    generators: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Node] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, int | float],
        strategy: str = "",
        memory: Memory | None = None,
        gave: Sequence[Group] | None = None,
    ) -> Checkpoint:
        """The one copy that the training waits for. `gave`: the values of the groups that the constructor gave.

        Raises:
            UnkeptError: for what a checkpoint cannot hold, by its name.
        """
        keeper = Keeper(parameters_of(optimizer))
        nodes = {name: keeper.keep(value, f"model.{name}") for name, value in model.state_dict().items()}
        memories = {name: keeper.keep(value, f"memory.{name}") for name, value in (memory or {}).items()}
        entries = [[key, value] for key, value in optimizer.state_dict().items()]
        of_parameters = [[k, keeper.keep(v, f"optimizer.{k}")] for k, v in entries if k != "param_groups"]
        keeper.absent = is_function  # in groups: today's constructor gives them again
        of_groups = [[k, keeper.keep(v, f"optimizer.{k}")] for k, v in entries if k == "param_groups"]
        kept = {
            "kind": type(optimizer).__name__,
            "groups": [len(group["params"]) for group in optimizer.param_groups],
            "state": {"dict": of_parameters + of_groups},
            "gave": None if gave is None else [keeper.keep(group, f"gave.{n}") for n, group in enumerate(gave)],
            "schedules": keeper.keep(schedules_of(optimizer), "optimizer.schedules"),
        }
        keeper.tensors["rng.cpu"] = torch.get_rng_state()
        device = _device_of(model)
        if device.type == "cuda":
            keeper.tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
        return Checkpoint(
            keeper.tensors,
            dict(progress),
            kept,
            strategy,
            memories,
            {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)},
            {name: node for name, node in nodes.items() if node != {"tensor": f"model.{name}"}},
        )

    def encode(self) -> tuple[list[bytes | memoryview], dict[str, Any]]:
        """(the tensors as parts of one safetensors file, which are the tensors themselves; all else as JSON)."""
        numpy = self.generators["numpy"]
        state = numpy["state"] | {"key": numpy["state"]["key"].tolist()}
        return file_parts(self.tensors), {
            "progress": self.progress,
            "optimizer": self.optimizer,
            "strategy": self.strategy,
            "memory": self.memory,
            "generators": {"python": self.generators["python"], "numpy": numpy | {"state": state}},
            "model": self.model,
            "settings": self.settings,
        }

    @staticmethod
    def decode(data: bytes, content: Mapping[str, Any]) -> Checkpoint:
        """The inverse of `encode`. Those of release 0.1 are read as well.

        Raises:
            RefusedCheckpointError: when it is none.
        """
        keys = ("progress", "optimizer", "strategy", "memory", "generators")
        tensors = read_tensors(data)
        refuse_malformed(content, tensors)
        try:
            older = "plain" in content["optimizer"]
            fields = {key: content[key] for key in keys}
            if older:
                fields["optimizer"] = _of_first_format(content["optimizer"], tensors)
            made = Checkpoint(tensors, **fields, model=content.get("model", {}), settings=content.get("settings", {}))
            made.recalled(made.strategy)  # that every node of the memory is one
        except Exception as error:  # a malformed node can fail in many ways
            raise RefusedCheckpointError(f"it cannot be read ({_said(error)})") from None
        return made

    def restore(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        built: Sequence[Group] | None = None,
        unsure: Collection[str] = (),
    ) -> list[Change]:
        """Put model and optimizer where they were; returns what today's constructor has changed of the groups.

        Args:
            built: the values that today's constructor gave to the groups; left out, the optimizer has them still.
            unsure: as in `hyperparameters.renew`.

        Raises:
            RefusedCheckpointError: when this is of another model or optimizer; nothing was changed then. Also where
                today's settings do not go with the saved state.
        """
        today = constructor_values(optimizer) if built is None else built
        giver = Giver(self.tensors, parameters_of(optimizer), _device_of(model))
        try:
            entries = self._model_entries(model, giver)
            self._refuse_another_optimizer(optimizer)
            state = giver.give(self.optimizer["state"])
            refuse_odd_state(optimizer, state, today)
            gave = self.optimizer["gave"]
            then = None if gave is None else [giver.give(group) for group in gave]
            put_into_model(model, entries)
            put_into_optimizer(optimizer, _without_absent(state))
            changes = renew(optimizer, then, today, unsure)
            put_into_schedules(optimizer, giver.give(self.optimizer.get("schedules")) or {})
        except RefusedCheckpointError:
            raise
        except Exception as error:  # a malformed node, or what a model or an optimizer does not take back
            raise RefusedCheckpointError(f"it cannot be used ({_said(error)})") from None
        refuse_if_it_cannot_step(optimizer, changes)
        return changes

    def _refuse_another_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        kind = type(optimizer).__name__
        if self.optimizer.get("kind") != kind:
            theirs = printable(str(self.optimizer.get("kind")))
            raise RefusedCheckpointError(f"it is of another optimizer: {theirs}, not {kind}")
        if self.optimizer.get("groups") != [len(group["params"]) for group in optimizer.param_groups]:
            raise RefusedCheckpointError("it is of another optimizer: its groups of parameters differ")

    def _model_entries(self, model: nn.Module, giver: Giver) -> dict[str, Any]:
        """By name, what is to be put into the model."""
        wanted = {name: kind_of(value) for name, value in model.state_dict().items()}
        names = {name.removeprefix("model.") for name in self.tensors if name.startswith("model.")}
        parts = {name for node in self.model.values() for name in _tensors_in(node)}
        entries: dict[str, Any] = {
            name: self.tensors[f"model.{name}"] for name in names if f"model.{name}" not in parts
        }
        entries |= {name: giver.give(node) for name, node in self.model.items()}
        found = {name: kind_of(value) for name, value in entries.items()}
        if wanted != found:
            odd = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
            theirs, mine = found.get(odd, "not there"), wanted.get(odd, "wanted")
            raise RefusedCheckpointError(f"it is of another model: model.{printable(odd)} is {theirs}, not {mine}")
        return entries

    def recalled(self, strategy: str) -> dict[str, Tensor | float]:
        """The values that this strategy kept; none where another strategy wrote the checkpoint."""
        if strategy != self.strategy:
            return {}
        giver = Giver(self.tensors)
        known = {name for node in self.memory.values() for name in _tensors_in(node)}
        tensors = {name: tensor for name, tensor in self.tensors.items() if name.startswith("memory.")}
        alone = {name.removeprefix("memory."): tensor for name, tensor in tensors.items() if name not in known}
        return {**{name: giver.give(node) for name, node in self.memory.items()}, **alone}

    def restore_generators(self, device: torch.device) -> None:
        """Put the global random generators where they were; the last thing before training goes on."""
        torch.set_rng_state(self.tensors["rng.cpu"])
        if device.type == "cuda" and "rng.cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["rng.cuda"], device)
        random.setstate(python_state(self.generators))
        np.random.set_state(numpy_state(self.generators))


def file_parts(tensors: Mapping[str, Tensor]) -> list[bytes | memoryview]:
    """A safetensors file: the length of the header in 8 bytes, the header, and all tensors without gaps.

    Its own library makes one long copy of them, in which no other thread runs: 0.15 s for 100 MB, the step of a
    trainer that is not to wait.
    """
    header: dict[str, dict[str, Any]] = {}
    parts: list[bytes | memoryview] = [b""]
    at = 0
    # The widest types first, so that everything is aligned.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        if tensor.dtype not in NAMED_TYPES:
            raise TypeError(f"{name} is of {tensor.dtype}, which a checkpoint cannot hold")
        part = tensor.reshape(-1).view(torch.uint8).numpy().data
        header[name] = {
            "dtype": NAMED_TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(part)],
        }
        at += len(part)
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    parts[0] = len(text).to_bytes(8, "little") + text
    return parts


def _said(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _tensors_in(node: Node) -> list[str]:
    """The names of all tensors that a node refers to."""
    if isinstance(node, list):
        return [name for one in node for name in _tensors_in(one)]
    if not isinstance(node, dict):
        return []
    own = [node[word] for word in ("tensor", "array") if isinstance(node.get(word), str)]
    return own + [name for value in node.values() for name in _tensors_in(value)]


def _without_absent(state: dict[str, Any]) -> dict[str, Any]:
    """Callables in groups were not kept: today's constructor gives them."""
    groups = state.get("param_groups", ())
    for group in groups if isinstance(groups, list) else ():
        for key in [key for key, value in group.items() if isinstance(value, Absent)]:
            del group[key]
    return state


def _of_first_format(optimizer: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The optimizer's state of release 0.1: tensors as `optimizer.<parameter>.<key>`, other entries separate, groups as
    JSON."""
    entries: dict[str, Any] = {name: {"tensor": name} for name in tensors if name.startswith("optimizer.")}
    entries |= {f"optimizer.{name}": value for name, value in optimizer["plain"].items()}
    state: dict[int, list[Any]] = {}
    for name, node in entries.items():
        _, index, key = name.split(".", 2)
        state.setdefault(int(index), []).append([key, node])
    nodes = [[index, {"dict": pairs}] for index, pairs in state.items()]
    groups = [{"dict": [list(pair) for pair in group.items()]} for group in optimizer["groups"]]
    return {
        "kind": optimizer["kind"],
        "groups": [len(group["params"]) for group in optimizer["groups"]],
        "state": {"dict": [["state", {"dict": nodes}], ["param_groups", groups]]},
        "gave": None,
    }

"""Asking a model something without leaving a trace in its training: its modes, what its modules keep, and chance."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OURS = frozenset(vars(nn.Module())) - {"training"}
"""Attributes of every module: parameters, buffers, submodules, and hooks, which nobody changes in a forward pass."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode. Afterwards each module is in the mode in which it was, so that a frozen
    BatchNorm stays frozen, and its plain attributes are what they were: a hidden state that is kept between calls, a
    counter, a list that collects activations. Buffers that a forward pass changes even in this mode are not undone.
    """
    before = [(module, module.training, _attributes(module)) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training, attributes in before:
            _put_back(module, attributes)
            if module.training != training:
                module.training = training


@contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards the global random generators (Python's, NumPy's, torch's on all devices in use) stand where they stood
    before."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and nothing is differentiated. Afterwards all is as it was, buffers and
    generators too: what is trained next is the same, bit for bit."""
    buffers = [_Buffer.of(module, name) for module in model.modules() for name in module._buffers]
    try:
        with generators_kept(), evaluating(model), torch.no_grad():
            yield
    finally:
        for buffer in buffers:
            buffer.restore()


@dataclass(frozen=True, slots=True)
class _Buffer:
    """A buffer of a module, and what was in it."""

    module: nn.Module
    name: str
    tensor: Tensor | None
    values: Tensor | None
    version: int

    @staticmethod
    def of(module: nn.Module, name: str) -> _Buffer:
        tensor = module._buffers[name]
        if tensor is None or tensor.is_inference():
            return _Buffer(module, name, tensor, None, 0)
        return _Buffer(module, name, tensor, tensor.detach().clone(), tensor._version)

    def restore(self) -> None:
        """Put the tensor back, and its values where something was written into it."""
        self.module._buffers[self.name] = self.tensor
        if self.tensor is not None and self.values is not None and self.tensor._version != self.version:
            with torch.no_grad():
                self.tensor.copy_(self.values)


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """(attribute, and a shallow copy of it where it is a container) of what is no parameter, buffer or submodule."""
    kept = {}
    for name, value in vars(module).items():
        if name not in _OURS:
            kind = next((kind for kind in (list, dict, set) if isinstance(value, kind)), None)
            kept[name] = (value, None if kind is None else kind(value))
    return kept


def _put_back(module: nn.Module, kept: dict[str, tuple[Any, Any]]) -> None:
    attributes = vars(module)
    for name in [name for name in attributes if name not in kept and name not in _OURS]:
        del attributes[name]
    for name, (value, copied) in kept.items():
        attributes[name] = value
        if copied is None or _same(value, copied):
            continue
        value.clear()
        if isinstance(value, list):
            value.extend(copied)
        else:
            value.update(copied)


def _same(value: Any, copied: Any) -> bool:
    """Whether a container holds the same objects, in the same order, as its copy; nothing is compared by value."""
    if len(value) != len(copied):
        return False
    if isinstance(value, dict):
        one, other = [*value, *value.values()], [*copied, *copied.values()]
    else:
        one, other = [*value], [*copied]
    return all(mine is theirs for mine, theirs in zip(one, other, strict=True))

"""Evaluating a model without a trace in its training: in modes, buffers, what modules keep, or random generators."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_OURS = frozenset(vars(nn.Module())) - {"training"}
"""Every module has these attributes: parameters, buffers, submodules, and hooks, which do not change in a forward
pass."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode. Afterwards it is as it was, as with `restored`."""
    with restored(model):
        model.eval()
        yield


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Afterwards each module is in the mode in which it was, so that a frozen BatchNorm stays frozen, and what it keeps
    is what it was: its buffers, which some modules change in every mode (observers of a quantisation), and its plain
    attributes (a hidden state, a counter, a list of activations). A buffer that has got its shape meanwhile keeps it.
    """
    modes = modes_of(model)
    before = [(module, _attributes(module)) for module in model.modules()]
    buffers = [_Buffer(module, name, held) for module, _ in before for name, held in _buffers(module)]
    try:
        yield
    finally:
        set_modes(model, modes)
        for module, attributes in before:
            _put_back(module, attributes)
        set_modes(model, modes)
        for buffer in buffers:
            buffer.put_back()


def modes_of(model: nn.Module) -> list[bool]:
    """Whether each module is in training mode, in the order of `modules()`."""
    return [module.training for module in model.modules()]


def set_modes(model: nn.Module, modes: Iterable[bool]) -> None:
    """Put each module into its mode, by its own `train`: some do more there than to note the mode (LoRA layers merge
    their weights for evaluation, and take them apart again)."""
    for module, training in zip(model.modules(), modes, strict=True):
        if module.training != training:
            module.train(training)
        if module.training != training:  # its own `train` did not set it
            module.training = training


@contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards the global random generators (Python's, NumPy's, torch's on all devices in use) have the state that
    they had before."""
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
    """`evaluating`, without gradients, and with the generators kept: what is trained next is the same, bit for bit."""
    with generators_kept(), evaluating(model), torch.no_grad():
        yield


class _Buffer:
    """One buffer as it was, to be put back if it has changed."""

    __slots__ = ("_copied", "_held", "_module", "_name", "_version")

    def __init__(self, module: nn.Module, name: str, held: Tensor) -> None:
        self._module, self._name, self._held = module, name, held
        self._version, self._copied = held._version, held.detach().clone()

    def put_back(self) -> None:
        held = self._held
        if getattr(self._module, self._name) is not held and not isinstance(self._module, torch.jit.ScriptModule):
            setattr(self._module, self._name, held)
        if held.shape == self._copied.shape and self._changed():
            with torch.no_grad():
                held.copy_(self._copied)

    def _changed(self) -> bool:
        if self._held.layout is not torch.strided or self._held.is_quantized:
            return self._held._version != self._version
        return not torch.equal(self._held, self._copied)  # BatchNorm writes without a new version


def _buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Its own buffers that can be put back."""
    if not module._buffers:
        return []
    named = module.named_buffers(recurse=False, remove_duplicate=False)
    return [(name, held) for name, held in named if not (is_lazy(held) or held.is_meta or held.is_inference())]


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """(attribute, and a shallow copy of it where it is a container) of what is no parameter, buffer or submodule."""
    attributes = vars(module)
    return {name: (attributes[name], _copied(attributes[name])) for name in attributes.keys() - _OURS}


def _copied(value: Any) -> Any:
    if isinstance(value, list | deque):
        return list(value)
    return dict(value) if isinstance(value, dict) else set(value) if isinstance(value, set) else None


def _put_back(module: nn.Module, kept: dict[str, tuple[Any, Any]]) -> None:
    attributes = vars(module)
    for name in attributes.keys() - kept.keys() - _OURS:
        del attributes[name]
    for name, (value, copied) in kept.items():
        if attributes.get(name, kept) is not value:
            attributes[name] = value
        if copied is None or _same(value, copied):
            continue
        value.clear()
        if isinstance(value, list | deque):
            value.extend(copied)
        else:
            value.update(copied)


def _same(value: Any, copied: Any) -> bool:
    """Whether a container holds the same objects as its copy, in the same order; values are not compared."""
    if len(value) != len(copied):
        return False
    if isinstance(value, dict):
        one, other = [*value, *value.values()], [*copied, *copied.values()]
    else:
        one, other = [*value], [*copied]
    return all(mine is theirs for mine, theirs in zip(one, other, strict=True))

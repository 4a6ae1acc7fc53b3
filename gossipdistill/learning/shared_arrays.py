"""Which arrays of a model its peers share: each piece of memory once, under one name, as real numbers.

A model may register one tensor under several names (tied weights), several views of one tensor, tensors whose entries
share memory (`expand`), complex numbers, and constants that are not finite (masks of -inf). Mixing by name would mix
tied weights twice, and one constant -inf would make the whole model look diverged. So a model is looked at once, before
anything has changed it, and what was decided then holds for the whole run:

- Memory that is registered under several names travels under one of them. The other names are *aliases*.
- A dimension that `expand` made (stride 0) travels with length 1.
- A complex array [...] travels as pairs of real numbers [..., 2].
- A floating-point buffer or frozen parameter that is not finite at the start is *left out*: each peer keeps its own.
- A parameter that goes, comes or changes its shape later (pruning, a layer added in training) ends a peer whose weights
  are shared: its peers would mix what no longer belongs together. A buffer that comes later is the peer's own.
- An array that cannot be shared (sparse, quantised, without memory) is *unfit*. Strategies that share weights refuse
  such a model.

Buffers that are not persistent, and extra state (`get_extra_state`), are no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from gossipdistill.errors import UserCodeError
from gossipdistill.wire.encodings.raw import CARRIERS

_NAMES_TOLD_MAX = 8


@dataclass(frozen=True, slots=True)
class SharedArrays:
    """The decision about one model. Names are those of `state_dict`, in its order."""

    names: tuple[str, ...] = ()
    """These are all arrays that are shared."""
    parameters: tuple[str, ...] = ()
    """These are the floating-point parameters among them: the parts of the model as one vector (learning/flat.py)."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """This maps a name to the name under which the same memory is shared."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """This maps a name to the reason why each peer keeps its own array."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """This maps a name to the reason why the weights of this model cannot be shared."""
    known: Mapping[str, torch.Size] = field(default_factory=dict)
    """These are all names that were registered, with their shapes at that time."""

    @staticmethod
    def of(model: nn.Module) -> SharedArrays:
        """Look at a model as it is before its training."""
        left_out: dict[str, str] = {}
        unfit: dict[str, str] = {}
        fit: dict[str, Tensor] = {}
        parameters: set[str] = set()
        for name, tensor in registered(model):
            problem = _problem(tensor)
            if problem:
                unfit[name] = problem
                continue
            fit[name] = tensor
            if isinstance(tensor, nn.Parameter):
                parameters.add(name)
        aliases = _aliases(fit, parameters, left_out, unfit)
        for name, tensor in fit.items():
            if name in aliases or name in left_out or name in unfit or is_finite(canonical(tensor)):
                continue
            if tensor.requires_grad:
                unfit[name] = "it is not finite before the first step"
            else:
                left_out[name] = "it is not finite before the first step"
        names = tuple(name for name in fit if not (name in aliases or name in left_out or name in unfit))
        vector = tuple(name for name in names if name in parameters and canonical(fit[name]).is_floating_point())
        kept = {name: other for name, other in aliases.items() if other in names}
        known = {name: fit[name].shape if name in fit else torch.Size() for name, _ in registered(model)}
        return SharedArrays(names, vector, kept, left_out, unfit, known)

    def told(self) -> str:
        """What is left out and why, in words; empty where nothing is."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left_out.items():
            by_reason.setdefault(reason, []).append(name)
        listed = (f"{_listed(names)} ({reason})" for reason, names in by_reason.items())
        return f"not shared, so each peer keeps its own: {'; '.join(listed)}" if by_reason else ""

    def arrays(self, model: nn.Module) -> dict[str, Tensor]:
        """The shared arrays of this model, or of a copy of it, by name; they share its memory.

        Raises:
            UserCodeError: when the model no longer has the parameters that it had, or lacks a shared buffer.
        """
        by_name = self._as_before(model)
        return {name: canonical(by_name[name]) for name in self.names}

    def vector(self, model: nn.Module) -> dict[str, Tensor]:
        """Those of the arrays that are floating-point parameters. Raises as `arrays`."""
        by_name = self._as_before(model)
        return {name: canonical(by_name[name]) for name in self.parameters}

    def _as_before(self, model: nn.Module) -> dict[str, Tensor]:
        """All registered arrays by name, if the shared ones are still what was decided on."""
        by_name = dict(registered(model))
        changes = [f"{name} is gone" for name in self.names if name not in by_name]
        for name, tensor in by_name.items():
            if not isinstance(tensor, nn.Parameter):
                continue
            if name not in self.known:
                changes.append(f"{name} is new")
            elif name in self.names and tensor.shape != self.known[name]:
                changes.append(f"{name} was {list(self.known[name])} and is {list(tensor.shape)}")
        if changes:
            told = f"its arrays are others than before the first step: {_listed(changes)}"
            remedy = "weights are shared by name, so change the model before training"
            raise UserCodeError("Task.model", f"{told}; {remedy}")
        return by_name


def registered(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of all parameters and persistent buffers, each under every name that it has.

    Not `state_dict`: a module may return copies there, and a copy cannot be mixed in place.
    """
    for prefix, module in model.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield start + name, parameter
        passing = getattr(module, "_non_persistent_buffers_set", ())
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in passing:
                yield start + name, buffer


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_TOLD_MAX
    return ", ".join(names[:_NAMES_TOLD_MAX]) + (f" and {more} more" if more > 0 else "")


def canonical(tensor: Tensor) -> Tensor:
    """The same memory, with each entry once, as real numbers, without a graph."""
    tensor = tensor.detach()
    for axis, (length, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and length > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of any type holds neither NaN nor infinity."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.element_size() == 1:
        tensor = tensor.float()  # float8 has neither sums nor isfinite
    # One NaN or infinity makes the sum so; only a sum that overflowed honestly needs the slower look.
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def word_of(dtype: torch.dtype) -> str:
    """A type as it is named in a layout: `float32`."""
    return str(dtype).removeprefix("torch.")


def _problem(tensor: Tensor) -> str:
    """Why this array cannot be shared, whatever it holds; empty if it can."""
    if nn.parameter.is_lazy(tensor):
        return "it has no shape yet (a lazy module)"
    if is_traceable_wrapper_subclass(tensor):
        return f"it is a {type(tensor).__name__}, which holds its entries in other tensors"
    if tensor.is_meta:
        return "it has no memory (device meta)"
    if tensor.is_quantized:
        return f"it is quantised ({word_of(tensor.dtype)})"
    if word_of(tensor.dtype) not in CARRIERS:
        return f"its type {word_of(tensor.dtype)} has no encoding"
    if tensor.layout is not torch.strided:
        return f"its layout is {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_conj() or tensor.is_neg():
        return "it is a conjugate view of other memory; store tensor.resolve_conj().resolve_neg()"
    if tensor.numel() and not _each_entry_apart(canonical(tensor)):
        return "some of its entries share memory"
    return ""


def _aliases(
    tensors: Mapping[str, Tensor], parameters: set[str], left_out: dict[str, str], unfit: dict[str, str]
) -> dict[str, str]:
    """Name -> name under which all of its memory is registered already. An array of which only a part is so is noted as
    left out, or, if it is a parameter, as unfit."""
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    aliases: dict[str, str] = {}
    for names in groups.values():
        if len(names) < 2:
            continue
        # Parameters first: they are what a strategy averages. Of two, the larger, which may contain the other.
        names.sort(key=lambda name: (name not in parameters, -canonical(tensors[name]).numel()))
        kept: list[str] = []
        for name in names:
            own = canonical(tensors[name])
            met = [other for other in kept if _meet(own, canonical(tensors[other]))]
            if not met:
                kept.append(name)
            elif _covered(own, [canonical(tensors[other]) for other in met]):
                aliases[name] = met[0]
            else:
                where = unfit if name in parameters else left_out
                where[name] = f"it shares a part of its memory with {', '.join(met[:3])}"
    return aliases


def _bytes_of(tensor: Tensor) -> tuple[int, int]:
    """First byte, and the byte after the last, inside its storage."""
    size = tensor.element_size()
    first = tensor.storage_offset() * size
    reach = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return int(first), int(first + (reach + 1) * size)


def _is_dense(tensor: Tensor) -> bool:
    """Whether every byte between its first and its last is its own."""
    first, end = _bytes_of(tensor)
    return end - first == tensor.numel() * tensor.element_size() and _each_entry_apart(tensor)


def _each_entry_apart(tensor: Tensor) -> bool:
    """Whether no two entries share memory."""
    reach = 0
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length == 1:
            continue
        if stride <= reach:
            break
        reach += (length - 1) * stride
    else:
        return True
    starts = _starts(tensor)
    return len(np.unique(starts)) == len(starts)


def _starts(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The byte at which each entry begins."""
    starts = np.array([tensor.storage_offset()], dtype=np.int64)
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        starts = (starts[:, None] + stride * np.arange(length, dtype=np.int64)).reshape(-1)
    return starts * tensor.element_size()


def _cells(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """All its bytes."""
    return np.unique(_starts(tensor)[:, None] + np.arange(tensor.element_size(), dtype=np.int64))


def _meet(one: Tensor, other: Tensor) -> bool:
    (start, end), (other_start, other_end) = _bytes_of(one), _bytes_of(other)
    if end <= other_start or other_end <= start:
        return False
    if _is_dense(one) and _is_dense(other):
        return True
    return bool(np.intersect1d(_cells(one), _cells(other), assume_unique=True).size)


def _covered(one: Tensor, others: list[Tensor]) -> bool:
    start, end = _bytes_of(one)
    for other in others:
        first, last = _bytes_of(other)
        if _is_dense(other) and first <= start and end <= last:
            return True
    return bool(np.isin(_cells(one), np.concatenate([_cells(other) for other in others])).all())

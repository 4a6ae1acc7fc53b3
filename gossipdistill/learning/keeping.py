"""Nested Python values with tensors in them, as JSON beside plain tensors, and back: bit for bit, and never pickle.

A *node* is a value as JSON. None, truth values, whole numbers, finite floats, texts and lists stand for themselves.
Everything else is an object with one key that says what it is:

    {"dict": [[key, value], ...]}  {"tuple": [...]}  {"deque": [[...], length or null]}  {"set": [...]}
    {"float": "nan"}               {"complex": [re, im]}   {"bytes": base64}             {"size": [...]}
    {"dtype": "float32"}           {"device": "cpu"}       {"parameter": index}          {"absent": type}
    {"tensor": name, ...}          {"array": name}

The tensors lie apart, by name, dense, contiguous and on the CPU. Beside its name a tensor node says what such a tensor
cannot: `dtype` (complex128, which lies as float64 pairs; a type that the file has no name for, which lies as bytes),
`shape`, `strides` (channels_last), `on` (the device), `layout` and `coalesced` (sparse), `scheme` (quantised).
A tensor that stands at two places is one tensor again, and a parameter is the parameter itself.
"""

from __future__ import annotations

import base64
import functools
import math
import types
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Node = Any
"""A node is JSON: None, a truth value, a number, a text, a list of nodes, or an object of those at the head of this
module."""

NAMED_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""A safetensors file has a name for these types of tensors."""
_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
_DEPTH_MAX = 64
_PLAIN = (bool, int, str)


class UnkeptError(TypeError):
    """A value that cannot be kept; the message names the entry and says what it is."""


@dataclass(slots=True)
class Keeper:
    """Turns values into nodes. `tensors` collects copies that share no memory with them; `parameters` are kept as what
    they are. Values for which `absent` is true are left out, and named by their type only."""

    parameters: Sequence[Tensor] = ()
    absent: Callable[[object], bool] = lambda value: False
    tensors: dict[str, Tensor] = field(default_factory=dict)
    _seen: dict[int, tuple[Tensor, Node]] = field(default_factory=dict)
    _places: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._places = {id(parameter): place for place, parameter in enumerate(self.parameters)}

    def keep(self, value: object, name: str, depth: int = 0) -> Node:
        """The node of `value`; its tensors are called `name`, or after their place in it.

        Raises:
            UnkeptError: for what cannot be kept.
        """
        if depth > _DEPTH_MAX:
            raise UnkeptError(f"{name} is nested more than {_DEPTH_MAX} deep, which a checkpoint cannot hold")
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if isinstance(value, Mapping):
            return {
                "dict": [
                    [self.keep(k, f"{name}.key", depth + 1), self.keep(v, f"{name}.{k}", depth + 1)]
                    for k, v in value.items()
                ]
            }
        if isinstance(value, float | complex | np.generic):
            return _number(value)
        if isinstance(value, list | tuple | deque | set | frozenset):
            return self._sequence(value, name, depth)
        if isinstance(value, _PLAIN):  # a subclass, such as an IntEnum: its value
            return next(kind(value) for kind in _PLAIN if isinstance(value, kind))
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            self._put(torch.from_numpy(np.ascontiguousarray(value)), name)
            return {"array": name, "shape": list(value.shape), "dtype": value.dtype.str}
        if isinstance(value, bytes | bytearray):
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, torch.dtype):
            return {"dtype": _name_of(value)}
        if isinstance(value, torch.device):
            return {"device": str(value)}
        if self.absent(value):
            return {"absent": type(value).__name__}
        raise UnkeptError(f"{name} is of type {type(value).__name__}, which a checkpoint cannot hold")

    def _sequence(self, value: Any, name: str, depth: int) -> Node:
        nodes = [self.keep(one, f"{name}.{place}", depth + 1) for place, one in enumerate(value)]
        if isinstance(value, list):
            return nodes
        if isinstance(value, torch.Size):
            return {"size": nodes}
        if isinstance(value, deque):
            return {"deque": [nodes, value.maxlen]}
        return {"tuple" if isinstance(value, tuple) else "set": nodes}

    def _tensor(self, tensor: Tensor, name: str) -> Node:
        if id(tensor) in self._places:
            return {"parameter": self._places[id(tensor)]}
        if id(tensor) not in self._seen:
            try:
                self._seen[id(tensor)] = (tensor, self._put(tensor.detach(), name))
            except UnkeptError:
                raise
            except (RuntimeError, NotImplementedError, TypeError) as error:
                problem = " ".join(str(error).split())[:160]
                raise UnkeptError(f"{name} ({_words(tensor)}) cannot be copied: {problem}") from None
        return self._seen[id(tensor)][1]

    def _put(self, tensor: Tensor, name: str) -> Node:
        if tensor.is_meta or tensor.is_nested or tensor.is_mkldnn or is_traceable_wrapper_subclass(tensor):
            raise UnkeptError(f"{name} is {_words(tensor)}, which a checkpoint cannot hold")
        node: dict[str, Any] = {"tensor": name}
        if tensor.device.type != "cpu":
            node["on"] = tensor.device.type
        if tensor.layout is not torch.strided:
            return node | self._sparse(tensor, name)
        if tensor.is_quantized:
            return node | self._quantised(tensor, name)
        kept = torch.empty(tensor.shape, dtype=tensor.dtype)
        kept.copy_(tensor)
        if not tensor.is_contiguous() and torch.empty_like(kept).stride() != torch.empty_like(tensor).stride():
            node["strides"] = list(torch.empty_like(tensor).stride())
        if tensor.dtype not in NAMED_TYPES:
            node |= {"dtype": _name_of(tensor.dtype), "shape": list(tensor.shape)}
            flat = kept.reshape(-1)
            kept = torch.view_as_real(flat) if tensor.dtype == torch.complex128 else flat.view(torch.uint8)
        self.tensors[name] = kept
        return node

    def _sparse(self, tensor: Tensor, name: str) -> dict[str, Any]:
        node: dict[str, Any] = {"layout": _name_of(tensor.layout), "shape": list(tensor.shape)}
        if tensor.layout is torch.sparse_coo:
            node["coalesced"] = tensor.is_coalesced()
            parts = {"indices": tensor._indices(), "values": tensor._values()}
        elif tensor.layout in _COMPRESSED:
            first, second = _COMPRESSED[tensor.layout]
            parts = {first: getattr(tensor, first)(), second: getattr(tensor, second)(), "values": tensor.values()}
        else:
            raise UnkeptError(f"{name} is {_words(tensor)}, which a checkpoint cannot hold")
        return node | {"parts": [self._put(part, f"{name}.{word}") for word, part in parts.items()]}

    def _quantised(self, tensor: Tensor, name: str) -> dict[str, Any]:
        scheme = _name_of(tensor.qscheme())
        parts = [self._put(tensor.int_repr(), name)]
        node: dict[str, Any] = {"scheme": scheme, "dtype": _name_of(tensor.dtype), "parts": parts}
        if scheme.startswith("per_tensor"):
            return node | {"scale": tensor.q_scale(), "zero": tensor.q_zero_point()}
        if scheme.startswith("per_channel"):
            ends = {"scales": tensor.q_per_channel_scales(), "zeros": tensor.q_per_channel_zero_points()}
            parts += [self._put(end, f"{name}.{word}") for word, end in ends.items()]
            return node | {"axis": tensor.q_per_channel_axis()}
        raise UnkeptError(f"{name} is {_words(tensor)}, which a checkpoint cannot hold")


@dataclass(slots=True)
class Giver:
    """Turns nodes into values again. What was on another device than the CPU goes to `device`; tensors are copies."""

    tensors: Mapping[str, Tensor]
    parameters: Sequence[Tensor] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _given: dict[str, Tensor] = field(default_factory=dict)

    def give(self, node: Node) -> Any:
        """The value of `node`.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError, IndexError: where it is none.
        """
        if isinstance(node, list):
            return [self.give(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "tensor" in node:
            name = node["tensor"]
            if name not in self._given:
                self._given[name] = self._tensor(node)
            return self._given[name]
        if "array" in node:
            return self.tensors[node["array"]].numpy().copy().reshape(node["shape"]).astype(node["dtype"], copy=False)
        ((kind, inside),) = node.items()
        return self._other(kind, inside)

    def _other(self, kind: str, inside: Any) -> Any:
        match kind:
            case "dict":
                return {self.give(key): self.give(value) for key, value in inside}
            case "tuple":
                return tuple(map(self.give, inside))
            case "set":
                return set(map(self.give, inside))
            case "deque":
                return deque(map(self.give, inside[0]), inside[1])
            case "size":
                return torch.Size(inside)
            case "float":
                return float(inside)
            case "complex":
                return complex(*map(self.give, inside))
            case "bytes":
                return base64.b64decode(inside, validate=True)
            case "dtype":
                return _of_name(inside, torch.dtype)
            case "device":
                return torch.device(inside)
            case "parameter":
                return self.parameters[inside]
            case "absent":
                return Absent(inside)
        raise ValueError(f"{kind[:40]!r} is no kind of value")

    def _tensor(self, node: Mapping[str, Any]) -> Tensor:
        made = self._on_cpu(node)
        return made.to(self.device) if "on" in node else made

    def _on_cpu(self, node: Mapping[str, Any]) -> Tensor:
        if "layout" in node:
            return self._sparse(node)
        if "scheme" in node:
            return self._quantised(node)
        kept = self.tensors[node["tensor"]]
        if "dtype" in node:
            dtype = _of_name(node["dtype"], torch.dtype)
            flat = torch.view_as_complex(kept) if dtype == torch.complex128 else kept.reshape(-1).view(dtype)
            kept = flat.reshape(node["shape"])
        if "strides" in node:
            return torch.empty_strided(kept.shape, node["strides"], dtype=kept.dtype).copy_(kept)
        return kept.clone()

    def _sparse(self, node: Mapping[str, Any]) -> Tensor:
        layout = _of_name(node["layout"], torch.layout)
        parts = [self._on_cpu(part) for part in node["parts"]]
        if layout is torch.sparse_coo:
            # Checked as a whole: a list of indices that is not sorted is no coalesced one.
            indices, values = parts
            return torch.sparse_coo_tensor(
                indices, values, node["shape"], is_coalesced=node["coalesced"], check_invariants=True
            )
        first, second, values = parts
        return torch.sparse_compressed_tensor(
            first, second, values, size=node["shape"], layout=layout, check_invariants=True
        )

    def _quantised(self, node: Mapping[str, Any]) -> Tensor:
        parts = [self._on_cpu(part) for part in node["parts"]]
        if "axis" in node:
            whole, scales, zeros = parts
            return torch._make_per_channel_quantized_tensor(whole, scales, zeros, node["axis"])
        return torch._make_per_tensor_quantized_tensor(parts[0], node["scale"], node["zero"])


@dataclass(frozen=True, slots=True)
class Absent:
    """Stands for a value that was not kept, of type `kind`."""

    kind: str


def is_function(value: object) -> bool:
    """Whether this is a function, a method or a class: something that the code of today has again."""
    kinds = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, type)
    return isinstance(value, kinds)


def same(one: object, other: object) -> bool:
    """Whether two values are equal, tensors in them bit for bit; a list is no tuple, and NaN is NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = (one.dtype, one.shape, one.layout) == (other.dtype, other.shape, other.layout)
        return alike and torch.equal(one.detach().cpu(), other.detach().cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    numbers = (int, float)
    if type(one) is not type(other) and not (type(one) in numbers and type(other) in numbers):
        return False
    if isinstance(one, list | tuple | deque):
        assert isinstance(other, list | tuple | deque)
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, np.asarray(other), equal_nan=one.dtype.kind in "fc")
    return bool(one == other or (one != one and other != other))


def _number(value: Any) -> Node:
    if isinstance(value, np.generic):
        value = value.item()
        if not isinstance(value, float | complex):
            return value
    if isinstance(value, complex):
        return {"complex": [_number(value.real), _number(value.imag)]}
    return float(value) if math.isfinite(value) else {"float": repr(float(value))}


def _words(tensor: Tensor) -> str:
    kind = "" if type(tensor) in (Tensor, torch.nn.Parameter) else f"{type(tensor).__name__} of "
    state = "without data (meta) " if tensor.is_meta else "nested " if tensor.is_nested else ""
    layout = "" if tensor.layout is torch.strided else f"{_name_of(tensor.layout)} "
    return f"{kind}{state}{layout}{_name_of(tensor.dtype)}"


def _name_of(word: object) -> str:
    return str(word).removeprefix("torch.")


def _of_name(name: str, kind: type[Any]) -> Any:
    found = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(found, kind):
        raise ValueError(f"torch has no {kind.__name__} {str(name)[:40]!r}")
    return found

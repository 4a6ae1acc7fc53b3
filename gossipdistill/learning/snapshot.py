"""Tensors to payloads and back: at most one copy on each side, and the gate that nothing malformed passes.

A payload is refused whole, with its reason, before any of it touches a model: wrong names, shapes or types, an encoding
that does not hold what it says, a value that is not finite.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gossipdistill.learning.ledger import Ledger
from gossipdistill.learning.shared_arrays import SharedArrays, canonical, is_finite, registered, word_of
from gossipdistill.messages import ArrayLayout, Payload
from gossipdistill.wire.encodings import EncodingError, encoding_of

Shapes = Mapping[str, tuple[int, ...]]
"""A payload must hold arrays of these names and shapes."""
Types = Mapping[str, torch.dtype]
"""Arrays of these names have these types; the others are float32."""

_VARIANCE = "running_var"
"""This buffer of torch's normalisation layers must not be negative."""
_WHOLE = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}
"""This maps the bytes of an entry to the type of whole numbers that carries the bits of a type which numpy does not
have."""


class PayloadRefusedError(Exception):
    """A neighbour's payload is not used. `reason` is one word for counting, the text has the details."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


def layout_of(arrays: Mapping[str, Tensor], encoding: str) -> tuple[ArrayLayout, ...]:
    """The layout that `pack` gives these arrays, before a byte is written. Only shapes and types count: `meta` tensors
    will do.

    Floating-point arrays with an axis are encoded. Whole numbers (counters of BatchNorm), complex numbers and scalars
    go as they are, in raw. The widest types come first, so that what is raw is aligned.
    """
    layout = []
    for name, tensor in arrays.items():
        label = encoding if tensor.is_floating_point() and tensor.ndim else "raw"
        dtype = word_of(tensor.dtype) if label == "raw" else "float32"
        shape = tuple(tensor.shape)
        layout.append(ArrayLayout(name, shape, label, encoding_of(label, dtype).nbytes(shape), dtype))
    return tuple(sorted(layout, key=lambda array: -arrays[array.name].element_size() if array.encoding == "raw" else 0))


def payload_bytes(arrays: Mapping[str, Tensor], encoding: str) -> int:
    """Length in bytes of the body that `pack` makes of these arrays."""
    return sum(array.nbytes for array in layout_of(arrays, encoding))


def pack(arrays: Mapping[str, Tensor], encoding: str, ledger: Ledger | None = None, tiny: bool = True) -> Payload:
    """Encode named tensors (any type, any device) into one payload. In raw, each keeps its own type, bit for bit.

    This is the copy that lets training go on while the network sends: the payload shares no memory with the tensors.
    Nothing finite becomes infinite.

    Args:
        ledger: where entries that the encoding cannot hold are counted, and reported once for each array.
        tiny: whether those count that are so small that they are sent as 0. They do not where 0 is as good, as for
            probabilities, or where the sender keeps what it has not sent, as for mass.
    """
    layout = layout_of(arrays, encoding)
    # Not zeroed first, and in large pages where there are any.
    body = np.empty(sum(array.nbytes for array in layout), dtype=np.uint8).data
    offset = 0
    for array in layout:
        part = body[offset : offset + array.nbytes]
        codec, tensor = encoding_of(array.encoding, array.dtype), arrays[array.name]
        values = _to_numpy(tensor, array.dtype)
        codec.encode_into(values, part)
        if ledger is not None and array.encoding != "raw":
            exact = _to_numpy(tensor, "float64") if tensor.dtype is torch.float64 else values
            ledger.encoded(array.name, array.encoding, codec.out_of_range(exact), codec.range_max, tiny)
        offset += array.nbytes
    return Payload(layout, body.toreadonly())


def blank(shapes: Shapes, types: Types) -> tuple[Payload, dict[str, Tensor]]:
    """A payload in raw of arrays with these names, shapes and types, and tensors (CPU) that lie in its very memory: to
    be filled before it is sent, so that what is computed for a payload is not copied into it."""
    meta = {
        name: torch.empty(shape, dtype=types.get(name, torch.float32), device="meta") for name, shape in shapes.items()
    }
    layout = layout_of(meta, "raw")
    body = np.empty(sum(array.nbytes for array in layout), dtype=np.uint8)
    arrays: dict[str, Tensor] = {}
    offset = 0
    for array in layout:
        part = torch.from_numpy(body[offset : offset + array.nbytes])
        arrays[array.name] = part.view(meta[array.name].dtype).view(array.shape)
        offset += array.nbytes
    return Payload(layout, body.data.toreadonly()), arrays


def unpack(payload: Payload, expected: Shapes, types: Types | None = None) -> dict[str, Tensor]:
    """The tensors (CPU) of a neighbour's payload, for the caller to keep and to change.

    What is raw must be of the type that `types` names, or of float32 if it names none; without `types`, it may be of
    any. Everything else is float32.

    They are copies of a body that can only be read. A body that can be written to belongs to this payload alone (it was
    put together from pieces), and what lies in it aligned and in raw is used in place. So between the socket and the
    tensors each byte is copied once, either way. A payload is unpacked once.

    Raises:
        PayloadRefusedError: unless it holds exactly the expected names, shapes and types, and finite values only.
    """
    names = [array.name for array in payload.layout]
    if sorted(names) != sorted(expected):
        odd = sorted(set(names) ^ set(expected))
        raise PayloadRefusedError("arrays", f"holds other arrays than expected: {', '.join(odd[:4])}"[:200])
    tensors: dict[str, Tensor] = {}
    offset = 0
    body = memoryview(payload.body)
    for array in payload.layout:
        if array.shape != tuple(expected[array.name]):
            problem = f"{array.name[:80]} has shape {list(array.shape)}, expected {list(expected[array.name])}"
            raise PayloadRefusedError("shape", problem)
        if types is not None and array.encoding == "raw":
            wanted = word_of(types.get(array.name, torch.float32))
            if array.dtype != wanted:
                raise PayloadRefusedError("type", f"{array.name[:80]} is {array.dtype[:20]}, expected {wanted}")
        try:
            codec = encoding_of(array.encoding, array.dtype)
            values = codec.decode(body[offset : offset + array.nbytes], array.shape)
        except EncodingError as error:
            raise PayloadRefusedError("encoding", str(error)) from None
        tensor = _from_numpy(values, array.dtype)
        if not is_finite(tensor):
            raise PayloadRefusedError("not_finite", f"{array.name[:80]} holds NaN or infinity")
        tensors[array.name] = tensor
        offset += array.nbytes
    return tensors


def unpack_model(payload: Payload, model: nn.Module, shared: SharedArrays | None = None) -> dict[str, Tensor]:
    """The tensors of a neighbour's model that is like mine: what `model_arrays` gives.

    Raises:
        PayloadRefusedError: as `unpack`; and where a running variance (BatchNorm) is negative, whose root is NaN.
    """
    own = model_arrays(model, shared)
    tensors = unpack(payload, shapes_of(own), types_of(own))
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] == _VARIANCE and tensor.numel() and float(tensor.min()) < 0.0:
            raise PayloadRefusedError("variance", f"{name[:80]} is negative")
    return tensors


def model_arrays(model: nn.Module, shared: SharedArrays | None = None) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a model by name, as `shared` says; without it, as the model is now.

    Each piece of memory comes once. Buffers (the running statistics of BatchNorm) must travel with the weights, else a
    teacher judges with statistics of a model that no longer exists.
    """
    return (shared if shared is not None else SharedArrays.of(model)).arrays(model)


def shapes_of(arrays: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes, as `unpack` expects them."""
    return {name: tuple(tensor.shape) for name, tensor in arrays.items()}


def types_of(arrays: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """Names and types, as `unpack` expects them."""
    return {name: tensor.dtype for name, tensor in arrays.items()}


def load_arrays(model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Put unpacked tensors into a model that has arrays of these names and shapes. What is not named stays."""
    own = dict(registered(model))
    with torch.no_grad():
        for name, values in arrays.items():
            canonical(own[name]).copy_(values)


def architecture_hash(model: nn.Module, shared: SharedArrays | None = None) -> str:
    """16 hex digits over names, shapes and types of all parameters and buffers, over what is left out and over what
    shares memory: equal for models that can be mixed."""
    shared = shared if shared is not None else SharedArrays.of(model)
    entries = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in registered(model)]
    entries += [f"alias {name} {other}" for name, other in shared.aliases.items()]
    entries += [f"left out {name}" for name in shared.left_out]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()[:16]


def weights_hash(model: nn.Module) -> str:
    """16 hex digits over all parameters and buffers, bit for bit: equal for peers that start from the same point."""
    digest = hashlib.sha256()
    for name, tensor in registered(model):
        digest.update(f"{name} {word_of(tensor.dtype)}".encode())
        if tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_quantized):
            real = canonical(tensor)
            digest.update(np.ascontiguousarray(_to_numpy(real, word_of(real.dtype))).data)
    return digest.hexdigest()[:16]


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity."""
    return not_finite(tensors) is None


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None where there is none."""
    return next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)


def _to_numpy(tensor: Tensor, dtype: str) -> NDArray[Any]:
    """The entries as `dtype`, or, where numpy has no such type, their bits as whole numbers; no copy if it can be."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    wanted: torch.dtype = getattr(torch, dtype)
    if tensor.dtype is torch.float64 and wanted is torch.float32:
        largest = torch.finfo(wanted).max
        tensor = torch.where(tensor.isfinite(), tensor.clamp(-largest, largest), tensor)
    tensor = tensor.to(device="cpu", dtype=wanted)
    if wanted in _NUMPY:
        return tensor.numpy()
    return tensor.view(_WHOLE[tensor.element_size()]).numpy()


def _from_numpy(values: NDArray[Any], word: str) -> Tensor:
    """The inverse of `_to_numpy`; the word is one that an encoding has accepted."""
    tensor, dtype = torch.from_numpy(values), getattr(torch, word)
    if dtype is torch.bool:
        return tensor.ne(0)  # a byte beyond 1 is no bool
    return tensor if tensor.dtype is dtype else tensor.view(dtype)


_NUMPY = frozenset(
    (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.complex128,
        torch.complex64,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint64,
        torch.uint32,
        torch.uint16,
        torch.uint8,
    )
)
"""`numpy` has these types, and a payload carries their own bits in them."""

"""Tensors to payloads and back: at most one copy on each side, and the gate that nothing malformed passes.

A payload is refused whole, with its reason, before any of it touches a model: wrong names, wrong shapes, an encoding
that does not hold what it says, a value that is not finite.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gossipdistill.messages import ArrayLayout, Payload
from gossipdistill.wire.encodings import EncodingError, encoding_of

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of the arrays that a payload must hold."""


_VARIANCE = "running_var"
"""The buffer of torch's normalisation layers that must not be negative."""


class PayloadRefusedError(Exception):
    """A neighbour's payload is not used. `reason` is one word for counting, the text says more."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


def layout_of(arrays: Mapping[str, Tensor], encoding: str) -> tuple[ArrayLayout, ...]:
    """What `pack` makes of these arrays, before a byte is written. Only shapes and types count: `meta` tensors will do.

    Whole numbers (counters of BatchNorm) and scalars have no rows to select from: they go as they are, in raw.
    """
    layout = []
    for name, tensor in arrays.items():
        label = encoding if tensor.is_floating_point() and tensor.ndim else "raw"
        shape = tuple(tensor.shape)
        layout.append(ArrayLayout(name, shape, label, encoding_of(label).nbytes(shape)))
    return tuple(layout)


def pack(arrays: Mapping[str, Tensor], encoding: str) -> Payload:
    """Encode named tensors (any float or integer type, any device) into one payload.

    This is the copy that lets training go on while the network sends: the payload shares no memory with the tensors.
    """
    layout = layout_of(arrays, encoding)
    # Not zeroed first, and in large pages where there are any.
    body = np.empty(sum(array.nbytes for array in layout), dtype=np.uint8).data
    offset = 0
    for array in layout:
        values = arrays[array.name].detach().to(device="cpu", dtype=torch.float32).numpy()
        encoding_of(array.encoding).encode_into(values, body[offset : offset + array.nbytes])
        offset += array.nbytes
    return Payload(layout, body.toreadonly())


def unpack(payload: Payload, expected: Shapes) -> dict[str, Tensor]:
    """The tensors (float32, CPU) of a neighbour's payload, for the caller to keep and to change.

    They are copies of a body that can only be read. A body that can be written to belongs to this payload alone (it was
    put together from pieces), and what lies in it as aligned float32 is used in place. So between the socket and the
    tensors each byte is copied once, either way. A payload is unpacked once.

    Raises:
        PayloadRefusedError: unless it holds exactly the expected names and shapes, and finite values only.
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
        try:
            values = encoding_of(array.encoding).decode(body[offset : offset + array.nbytes], array.shape)
        except EncodingError as error:
            raise PayloadRefusedError("encoding", str(error)) from None
        if not _all_finite(values):
            raise PayloadRefusedError("not_finite", f"{array.name[:80]} holds NaN or infinity")
        tensors[array.name] = torch.from_numpy(values)
        offset += array.nbytes
    return tensors


def unpack_model(payload: Payload, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a neighbour's model that is like mine: all parameters and buffers.

    Raises:
        PayloadRefusedError: as `unpack`; and where a running variance (BatchNorm) is negative, whose root is NaN.
    """
    tensors = unpack(payload, shapes_of(model_arrays(model)))
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] == _VARIANCE and tensor.numel() and float(tensor.min()) < 0.0:
            raise PayloadRefusedError("variance", f"{name[:80]} is negative")
    return tensors


def model_arrays(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a model by name. Buffers (the running statistics of BatchNorm) must travel
    with the weights, else a teacher judges with statistics of a model that no longer exists."""
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def shapes_of(arrays: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes, as `unpack` expects them."""
    return {name: tuple(tensor.shape) for name, tensor in arrays.items()}


def load_arrays(model: nn.Module, arrays: Mapping[str, Tensor]) -> None:
    """Put unpacked tensors into a model of the same names and shapes."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(arrays[name])


def architecture_hash(model: nn.Module) -> str:
    """16 hex digits over names, shapes and types of all parameters and buffers: equal for models that can be mixed."""
    entries = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in model.state_dict().items()]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()[:16]


def weights_hash(model: nn.Module) -> str:
    """16 hex digits over all parameters, bit for bit: equal for peers that start from the same point."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def all_finite(tensors: Mapping[str, Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity."""
    return all(math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all()) for tensor in tensors.values())


def _all_finite(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bool:
    # One NaN or infinity makes the sum so; only a sum that overflowed honestly needs the slower look.
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(values.sum())) or bool(np.isfinite(values).all())

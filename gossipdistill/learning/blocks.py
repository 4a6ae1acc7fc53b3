"""Named tensors as one vector [P], read and written block by block: what is computed in between stays in cache.

A block is a range of the vector. It lies inside one large tensor, or spans several small ones. Values are computed in
float64, whatever the types of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1 << 15
"""A block has this number of entries: 256 KiB in float64, of which a handful are in use at a time."""
BLOCK_ON_DEVICE = 1 << 22
"""A block on an accelerator has this number of entries: fewer and larger operations are best there."""


class Piece(NamedTuple):
    """Entries `start` to `stop` of the tensor `name`, flattened."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """A range of the vector, and the pieces that it consists of, in order."""

    at: slice
    pieces: tuple[Piece, ...]


def blocks_of(tensors: Mapping[str, Tensor], length: int = 0) -> tuple[Block, ...]:
    """The vector of these tensors in blocks of `length` entries, of which the last is shorter. Without a length: what
    suits the device of the first one."""
    sizes = {name: tensor.numel() for name, tensor in tensors.items()}
    on_cpu = next((tensor.device.type for tensor in tensors.values()), "cpu") == "cpu"
    return tuple(_blocks(sizes, length or (BLOCK if on_cpu else BLOCK_ON_DEVICE)))


def _blocks(sizes: Mapping[str, int], length: int) -> Iterator[Block]:
    pieces: list[Piece] = []
    begin = end = 0
    for name, size in sizes.items():
        start = 0
        while start < size:
            stop = min(size, start + length - (end - begin))
            pieces.append(Piece(name, start, stop))
            end += stop - start
            start = stop
            if end - begin == length:
                yield Block(slice(begin, end), tuple(pieces))
                pieces, begin = [], end
    if pieces:
        yield Block(slice(begin, end), tuple(pieces))


class Flat:
    """Tensors of any floating type by name, for blocks to be read and written. Those that are not contiguous are copied
    first: after writing, `close` puts them back."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.tensors, self.device = tensors, device
        self._flat = {name: tensor.detach().reshape(-1) for name, tensor in tensors.items()}

    def read(self, block: Block) -> Tensor:
        """The values of a block [b], float64, on the device: a copy."""
        parts = [self._flat[name][start:stop].to(self.device) for name, start, stop in block.pieces]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(torch.float64, copy=True)

    def write(self, block: Block, values: Tensor) -> None:
        """Put values [b] of any floating type there, rounded to the types of the tensors."""
        at = 0
        for name, start, stop in block.pieces:
            self._flat[name][start:stop].copy_(values[at : at + stop - start])
            at += stop - start

    def close(self) -> None:
        """Whatever was written is in the tensors now."""
        for name, tensor in self.tensors.items():
            if self._flat[name].data_ptr() != tensor.data_ptr():
                tensor.copy_(self._flat[name].view(tensor.shape))


def largest_of(tensors: Iterable[Tensor]) -> float:
    """The largest finite number that all of these can hold; infinity for none."""
    return min((torch.finfo(tensor.dtype).max for tensor in tensors), default=float("inf"))


def peak(values: Tensor) -> float:
    """The largest absolute value; 0 for none, NaN or infinity if there is one. No copy is made, but of types of one
    byte. The norm of order infinity says the same, ten times slower: torch goes through that one entry by entry."""
    if not values.numel():
        return 0.0
    lowest, highest = torch.aminmax(values.float() if values.element_size() == 1 else values)  # float8 is not ordered
    return max(-float(lowest), float(highest))

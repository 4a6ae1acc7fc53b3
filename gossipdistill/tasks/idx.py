"""Files in the idx format of MNIST: a big-endian header, then unsigned bytes; plain or compressed with gzip."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gossipdistill.errors import DataMissingError
from gossipdistill.tasks.content import check_digest, read_whole, replace_it

UNSIGNED_BYTE = 0x08
"""This is the third byte of the magic number; the fourth is the number of dimensions."""
_HEAD_BYTES_MAX = 4096
"""If a file is in another format, at most this much of it (bytes) is uncompressed to say what it is."""


def read_idx(path: Path, shape: tuple[int, ...], sha256: str) -> npt.NDArray[np.uint8]:
    """The array of `shape` in the file, after its header, its length and its content have been checked.

    Args:
        path: a file, compressed if its name ends in `.gz`.
        shape: what the header must say.
        sha256: hex digest of the uncompressed file; gzip wrappers of one content differ.
    """
    header = struct.pack(f">{len(shape) + 1}I", UNSIGNED_BYTE << 8 | len(shape), *shape)
    content = read_whole(path, 2 * (len(header) + int(np.prod(shape))) + _HEAD_BYTES_MAX)
    expected = f"an idx file of unsigned bytes {list(shape)}"
    if content[: len(header)] != header:
        raise DataMissingError(f"{path}: found {_describe(content)}, expected {expected}; {replace_it(path)}")
    length = len(header) + int(np.prod(shape))
    if len(content) != length:
        raise DataMissingError(f"{path}: found {len(content)} bytes, expected {length}; {replace_it(path)}")
    check_digest(content, sha256, path)
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)


def _describe(content: bytes) -> str:
    """A description of the header, in words."""
    if len(content) < 4:
        return f"{len(content)} bytes"
    magic = struct.unpack(">I", content[:4])[0]
    dimensions = magic & 0xFF
    if magic >> 8 != UNSIGNED_BYTE or not 1 <= dimensions <= 4 or len(content) < 4 + 4 * dimensions:
        return f"the magic number 0x{magic:08x}"
    return f"an idx file of unsigned bytes {list(struct.unpack(f'>{dimensions}I', content[4 : 4 + 4 * dimensions]))}"

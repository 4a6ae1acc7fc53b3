"""Reading a file of a data set whole, compressed or not, and checking that it is the one that is meant."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path

from gossipdistill import files
from gossipdistill.errors import DataMissingError
from gossipdistill.printable import printable

CONTENT_BYTES_MAX = 4 * 1024**3
"""One file of a data set has at most this size (bytes) uncompressed; a small file may claim to hold far more."""
_CHUNK_BYTES = 16 * 1024**2


def read_whole(path: Path, bytes_max: int = CONTENT_BYTES_MAX) -> bytes:
    """The content of the file, uncompressed if its name ends in `.gz`.

    Raises:
        DataMissingError: when it is damaged, larger than it may be, no ordinary file, or may not be read.
    """
    try:
        with files.opened(path):  # refuses a pipe, which would never end
            pass
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = _unpacked(content, bytes_max)
    except files.UnusableError as reason:
        raise DataMissingError(f"{path}: {reason}; {replace_it(path)}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = f"damaged or cut off, not whole gzip data ({printable(str(error))})"
        raise DataMissingError(f"{path}: {problem}; {replace_it(path)}") from None
    except OSError as error:
        raise DataMissingError(f"{path}: cannot be read ({error.strerror or error})") from None
    except MemoryError:
        raise DataMissingError(f"{path}: does not fit into memory") from None
    if len(content) > bytes_max:
        raise DataMissingError(f"{path}: holds more than {bytes_max} bytes; {replace_it(path)}")
    return content


def _unpacked(packed: bytes, bytes_max: int) -> bytes:
    """The content of gzip data, up to a little more than `bytes_max` bytes of it."""
    parts, length = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        while length <= bytes_max and (part := file.read(_CHUNK_BYTES)):
            parts.append(part)
            length += len(part)
    return b"".join(parts)


def check_digest(content: bytes, sha256: str, path: Path, part: str = "the content") -> None:
    """Refuse content that is not what the publisher's file holds; `sha256` is a hex digest."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataMissingError(f"{path}: SHA-256 of {part} is {digest}, expected {sha256}; {replace_it(path)}")


def replace_it(path: Path) -> str:
    """What to do about a file that is not what it should be."""
    return f"replace {path.name} or delete it"

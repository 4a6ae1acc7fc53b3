"""Reading a file of a data set whole, compressed or not, and checking that it is the one that is meant."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

from gossipdistill.errors import DataMissingError


def read_whole(path: Path) -> bytes:
    """What is in the file, uncompressed if its name ends in `.gz`.

    Raises:
        DataMissingError: when it is damaged, or may not be read.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = f"damaged or cut off, not whole gzip data ({error})"
        raise DataMissingError(f"{path}: {problem}; {replace_it(path)}") from None
    except OSError as error:
        raise DataMissingError(f"{path}: cannot be read ({error.strerror or error})") from None


def check_digest(content: bytes, sha256: str, path: Path, part: str = "the content") -> None:
    """Refuse content that is not what the publisher's file holds; `sha256` is a hex digest."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataMissingError(f"{path}: SHA-256 of {part} is {digest}, expected {sha256}; {replace_it(path)}")


def replace_it(path: Path) -> str:
    """What to do about a file that is not what it should be."""
    return f"replace {path.name} or delete it"
